//! How far the functions of a night are from those that the release of the encoder was first used for.

use std::fs;

use anyhow::{Context, Result};
use inference::{EncoderTokenizer, TokenCounts};
use ledger::{ReleaseId, Releases, Split, Store, Syntax, table, write_atomically};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// About so many functions of the training split are in the sample whose tokens are counted.
const SAMPLE: u64 = 2000;

/// `model.drift`: what the policy `drift` trains for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Largest rise of the share of unknown tokens.
    pub max_unknown_rise: f64,
    /// Largest rise of the share of words that are split into several tokens.
    pub max_split_rise: f64,
    /// Smallest similarity of the tokens, from 0 to 1.
    pub min_similarity: f64,
    /// Largest fall of mrr@corpus of hybrid search, as a share of the score of the first night with the release.
    pub max_score_fall: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_unknown_rise: 0.005, max_split_rise: 0.03, min_similarity: 0.9, max_score_fall: 0.1 }
    }
}

/// The drift of a night since the first night with its release.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Functions whose tokens were counted.
    pub functions: u64,
    /// Share of unknown tokens, and its rise.
    pub unknown: f64,
    pub unknown_rise: f64,
    /// Share of words of several tokens, and its rise.
    pub split: f64,
    pub split_rise: f64,
    /// Similarity of the frequencies of the tokens: [`TokenCounts::similarity`].
    pub similarity: f64,
    /// Fall of mrr@corpus of hybrid search as a share of that of the first night; none where one of both has no score.
    pub score_fall: Option<f64>,
}

/// The first night with a release.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    functions: u64,
    counts: TokenCounts,
    score: Option<f64>,
}

/// Measures the drift of the recorded functions. The first night with a release is what later ones are compared with.
pub fn measure(store: &Store, id: &ReleaseId, score: Option<f64>) -> Result<Drift> {
    let releases = Releases::of(store.root());
    let now = count(store, &EncoderTokenizer::open(&releases.encoder(id))?, score)?;
    let path = releases.tokens(id);
    let first: First = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: delete it", path.display()))?,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("reading {}", path.display()));
        }
        Err(_) => {
            write_atomically(&path, &serde_json::to_vec(&now)?)?;
            return Ok(between(&now, &now));
        }
    };
    Ok(between(&now, &first))
}

fn between(now: &First, first: &First) -> Drift {
    let [unknown, unknown_before] = [now, first].map(|night| night.counts.unknown_share());
    let [split, split_before] = [now, first].map(|night| night.counts.split_share());
    Drift {
        functions: now.functions,
        unknown,
        unknown_rise: unknown - unknown_before,
        split,
        split_rise: split - split_before,
        similarity: now.counts.similarity(&first.counts),
        score_fall: now.score.zip(first.score.filter(|score| *score > 0.0)).map(|(now, first)| (first - now) / first),
    }
}

/// Counts the tokens of a sample of the training split, as the encoder reads it. The ids of functions choose it, so that unchanged functions are
/// in the sample of every night.
fn count(store: &Store, tokenizer: &EncoderTokenizer, score: Option<f64>) -> Result<First> {
    let shards = store.current::<Syntax>()?.open()?.shards;
    let train = shards.of(Split::Train);
    let mut rows = 0;
    for shard in &train {
        rows += table::row_count(&shard.path)?;
    }
    let code_text = tokenizer.spec().code_text;
    let columns = ["id", "name_words", "code_words", code_text.token_column()];
    let mut first = First { functions: 0, counts: TokenCounts::default(), score };
    for shard in train {
        for batch in table::read(&shard.path, &columns)? {
            let batch = batch?;
            let (ids, names, codes) =
                (table::texts(&batch, "id")?, table::texts(&batch, "name_words")?, table::texts(&batch, "code_words")?);
            let tokens = table::text_lists(&batch, code_text.token_column())?;
            for row in 0..batch.num_rows() {
                if is_sampled(ids.value(row), rows) {
                    tokenizer.count(&code_text.of_row(names.value(row), "", codes.value(row), tokens.row(row)), &mut first.counts)?;
                    first.functions += 1;
                }
            }
        }
    }
    Ok(first)
}

/// Is a function in the sample of so many rows? Ids are digests in hexadecimal.
fn is_sampled(id: &str, rows: u64) -> bool {
    let start = id.get(..8).and_then(|start| u32::from_str_radix(start, 16).ok()).unwrap_or_default();
    u128::from(start) * u128::from(rows) < u128::from(SAMPLE) << 32
}

impl Drift {
    /// What exceeds the limits; none: the release still fits.
    pub fn exceeds(&self, limits: &Limits) -> Option<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let found = [
            (self.unknown_rise > limits.max_unknown_rise)
                .then(|| format!("the share of unknown tokens rose by {}", percent(self.unknown_rise))),
            (self.split_rise > limits.max_split_rise).then(|| format!("the share of split words rose by {}", percent(self.split_rise))),
            (self.similarity < limits.min_similarity).then(|| format!("the similarity of the tokens is {:.3}", self.similarity)),
            self.score_fall.filter(|fall| *fall > limits.max_score_fall).map(|fall| format!("the score fell by {}", percent(fall))),
        ];
        let found: Vec<String> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(
            f,
            "since the first night with the release: unknown tokens {:.2} % ({:+.2}), split words {:.1} % ({:+.1}), similarity of the tokens {:.3}",
            percent(self.unknown),
            percent(self.unknown_rise),
            percent(self.split),
            percent(self.split_rise),
            self.similarity
        )?;
        self.score_fall.map_or(Ok(()), |fall| write!(f, ", score {:+.1} %", percent(-fall)))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn drift() -> Drift {
        Drift {
            functions: 2000,
            unknown: 0.001,
            unknown_rise: 0.0005,
            split: 0.31,
            split_rise: 0.01,
            similarity: 0.98,
            score_fall: Some(0.02),
        }
    }

    #[test]
    fn what_exceeds_the_limits_is_named() {
        let limits = Limits { max_unknown_rise: 0.001, max_split_rise: 0.02, min_similarity: 0.95, max_score_fall: 0.05 };
        assert_eq!(drift().exceeds(&limits), None);
        assert_eq!(Drift { score_fall: None, ..drift() }.exceeds(&limits), None);
        let far = Drift { unknown_rise: 0.002, split_rise: 0.03, similarity: 0.9, score_fall: Some(0.06), ..drift() };
        let text = "the share of unknown tokens rose by 0.2 %, the share of split words rose by 3.0 %, the similarity of the tokens is 0.900, the score fell by 6.0 %";
        assert_eq!(far.exceeds(&limits).unwrap(), text);
    }

    #[test]
    fn about_two_thousand_functions_are_sampled_and_stay_in_the_sample() {
        let ids: Vec<String> = (0..20_000u32).map(|id| ledger::Digest::of_bytes(&id.to_le_bytes()).to_string()).collect();
        let sample = |rows: u64| ids.iter().filter(|id| is_sampled(id, rows)).collect::<Vec<_>>();
        let of_all = sample(20_000);
        assert!((1850..2150).contains(&of_all.len()), "{}", of_all.len());
        assert!(sample(21_000).iter().all(|id| of_all.contains(id)) && sample(1_000).len() == ids.len());
    }

    #[test]
    fn the_fall_of_the_score_is_a_share_of_the_first_one() {
        let night = |score| First { functions: 1, counts: TokenCounts::default(), score };
        let fall = |now, first| between(&night(now), &night(first)).score_fall;
        assert!((fall(Some(0.4), Some(0.5)).unwrap() - 0.2).abs() < 1e-12);
        assert_eq!([fall(None, Some(0.5)), fall(Some(0.5), None), fall(Some(0.5), Some(0.0))], [None; 3]);
        assert!(drift().to_string().ends_with("similarity of the tokens 0.980, score -2.0 %"), "{}", drift());
    }
}
