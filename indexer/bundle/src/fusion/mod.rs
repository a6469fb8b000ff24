//! Fusion: lexical and vector scores to one score. `schema.md` of a bundle states the formulas.

mod features;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
};

use ledger::{Digest, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    error::Context,
    learned::require_encoder,
    lexical::{QueryStats, TermScores},
    ranking::Scored,
};
pub use features::{FEATURES, FEATURES_EXPLAINED, features};

/// How the lexical and the vector list become one list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Fusion {
    /// `(1 − weight)·lexical + weight·vector`, each list scaled to 0..1.
    MinMax { weight: f64 },
    /// `(1 − weight)·lexical / largest lexical + weight·cosine` for every row of either list.
    Sum { weight: f64 },
    /// Sum of `1/(k + rank)` over both lists (Cormack, Clarke & Büttcher, SIGIR 2009); the usual k is 60.
    Rrf { k: f64 },
    /// Sum of learned weights times [`FEATURES`] for every row of either list.
    Learned {
        /// Meaning of the features: [`LEARNED_VERSION`], or 1 in formats 3 and 4.
        #[serde(default = "first_version")]
        version: u32,
        weights: BTreeMap<String, f64>,
        /// Digest of the encoder whose vectors the weights were learned with; none in formats 3 and 4.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encoder: Option<Digest>,
        /// The split of this bundle that the weights were learned from, which must not evaluate them; none where they come from
        /// another bundle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<ledger::Split>,
    },
}

/// Version of the features of a learned fusion.
pub const LEARNED_VERSION: u32 = 2;

fn first_version() -> u32 {
    1
}

/// File with a learned fusion, in its bundle.
pub const FUSION: &str = "fusion.json";

/// The rows that are fused: both lists, best first, at most [`BundleManifest::candidates`](crate::BundleManifest::candidates) each.
pub struct Candidates<'a> {
    pub lexical: &'a [Scored],
    pub vector: &'a [Scored],
    pub stats: QueryStats,
    /// BM25 of a row of either list.
    pub term_scores: &'a dyn Fn(u32) -> TermScores,
    /// Cosine of a row of either list.
    pub cosine: &'a dyn Fn(u32) -> f32,
}

/// In words. The text is part of recorded evaluation reports: it does not change.
impl fmt::Display for Fusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax { weight } => write!(f, "min-max, weight of the vector side {weight}"),
            Self::Sum { weight } => write!(f, "sum, weight of the vector side {weight}"),
            Self::Rrf { k } => write!(f, "reciprocal ranks, k {k}"),
            Self::Learned { weights, split: None, .. } => write!(f, "learned elsewhere, {} weights", weights.len()),
            Self::Learned { weights, split: Some(split), .. } => write!(f, "learned from the {split} split, {} weights", weights.len()),
        }
    }
}

impl Fusion {
    /// Reads `fusion.json` of another bundle.
    ///
    /// # Errors
    /// Where the file is no fusion of this version, or belongs to another encoder than `encoder` and not `any_encoder`.
    pub fn read(path: &Path, encoder: &Digest, any_encoder: bool) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut fusion: Self = serde_json::from_str(&text).with_context(|| format!("{} is not a fusion", path.display()))?;
        fusion.check().with_context(|| path.display().to_string())?;
        if let Self::Learned { split, version, encoder: own, .. } = &mut fusion {
            ensure!(
                *version == LEARNED_VERSION,
                "{}: its features are of version {version}, expected {LEARNED_VERSION}: learn a fusion again (index.fusion.learned.from = null)",
                path.display()
            );
            require_encoder(path, own.as_ref(), encoder, any_encoder)?;
            *split = None;
        }
        Ok(fusion)
    }

    /// Checks that the numbers are in range and that every weighted feature is known.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::MinMax { weight } | Self::Sum { weight } => {
                ensure!((0.0..=1.0).contains(weight), "the weight of a fusion is {weight}, expected 0 to 1")
            }
            Self::Rrf { k } => ensure!(k.is_finite() && *k >= 0.0, "the k of a fusion is {k}, expected 0 or more"),
            Self::Learned { weights, .. } => {
                for (name, weight) in weights {
                    if !FEATURES.iter().any(|feature| feature == name) {
                        bail!("the fusion weighs `{name}`, which this version does not know: build the bundle again with `codenets run`");
                    }
                    ensure!(weight.is_finite(), "the fusion's weight of `{name}` is not a number");
                }
            }
        }
        Ok(())
    }

    /// What each feature adds to the score of each row; empty where the fusion is not learned.
    pub fn parts(&self, candidates: &Candidates<'_>) -> HashMap<u32, BTreeMap<&'static str, f64>> {
        let Self::Learned { weights, .. } = self else { return HashMap::new() };
        let weigh = |(name, value): (&'static str, f64)| (name, value * weights.get(name).copied().unwrap_or_default());
        let of_row = |values: [f64; FEATURES.len()]| FEATURES.into_iter().zip(values).map(weigh).filter(|(_, part)| *part != 0.0).collect();
        features(candidates).into_iter().map(|(row, values)| (row, of_row(values))).collect()
    }

    /// Rows of either list with their fused score, best first; equal scores by row.
    pub fn fuse(&self, candidates: &Candidates<'_>) -> Vec<(u32, f64)> {
        let mut fused: Vec<(u32, f64)> = match self {
            Self::MinMax { weight } => {
                let mut sums: HashMap<u32, f64> = HashMap::with_capacity(candidates.lexical.len() + candidates.vector.len());
                for (list, share) in [(candidates.lexical, 1.0 - weight), (candidates.vector, *weight)] {
                    let (low, high) = range(list);
                    for &(row, score) in list {
                        let scaled = if high > low { (f64::from(score) - low) / (high - low) } else { 1.0 };
                        *sums.entry(row).or_default() += share * scaled;
                    }
                }
                sums.into_iter().collect()
            }
            Self::Rrf { k } => {
                let mut sums: HashMap<u32, f64> = HashMap::with_capacity(candidates.lexical.len() + candidates.vector.len());
                for list in [candidates.lexical, candidates.vector] {
                    for (index, &(row, _)) in list.iter().enumerate() {
                        *sums.entry(row).or_default() += 1.0 / (k + index as f64 + 1.0);
                    }
                }
                sums.into_iter().collect()
            }
            Self::Sum { weight } => {
                let largest = candidates.lexical.first().map_or(0.0, |(_, score)| f64::from(*score));
                let lexical = |row| if largest > 0.0 { f64::from((candidates.term_scores)(row).score) / largest } else { 0.0 };
                let score = |row| (1.0 - weight) * lexical(row) + weight * f64::from((candidates.cosine)(row));
                union(candidates).into_iter().map(|row| (row, score(row))).collect()
            }
            Self::Learned { weights, .. } => {
                let weights = FEATURES.map(|name| weights.get(name).copied().unwrap_or_default());
                let score = |values: [f64; FEATURES.len()]| values.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
                features(candidates).into_iter().map(|(row, values)| (row, score(values))).collect()
            }
        };
        fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        fused
    }
}

/// The rows of either list, sorted.
fn union(candidates: &Candidates<'_>) -> Vec<u32> {
    let mut rows: Vec<u32> = candidates.lexical.iter().chain(candidates.vector).map(|(row, _)| *row).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn range(list: &[Scored]) -> (f64, f64) {
    list.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(_, score)| (low.min(f64::from(score)), high.max(f64::from(score))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_candidates<T>(lexical: &[Scored], vector: &[Scored], take: impl Fn(&Candidates<'_>) -> T) -> T {
        let of = |list: &[Scored], row| list.iter().find(|scored| scored.0 == row).map_or(0.0, |scored| scored.1);
        let term_scores = |row| TermScores { score: of(lexical, row), ..TermScores::default() };
        let cosine = |row| of(vector, row);
        take(&Candidates { lexical, vector, stats: QueryStats::default(), term_scores: &term_scores, cosine: &cosine })
    }

    fn fuse(fusion: &Fusion, lexical: &[Scored], vector: &[Scored]) -> Vec<(u32, f64)> {
        with_candidates(lexical, vector, |candidates| fusion.fuse(candidates))
    }

    fn learned(weights: &[(&str, f64)]) -> Fusion {
        let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        Fusion::Learned { version: LEARNED_VERSION, weights, encoder: None, split: None }
    }

    fn rounded(fused: Vec<(u32, f64)>) -> Vec<(u32, f64)> {
        fused.into_iter().map(|(row, score)| (row, (score * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn min_max_and_sum_equal_values_computed_by_hand() {
        let (lexical, vector) = ([(7, 12.0), (3, 6.0), (5, 4.0)], [(3, 0.9), (8, 0.1)]);
        let fused = rounded(fuse(&Fusion::MinMax { weight: 0.25 }, &lexical, &vector));
        assert_eq!(fused, [(7, 0.75), (3, 0.25 * 0.75 + 0.25), (5, 0.0), (8, 0.0)]);
        let fused = rounded(fuse(&Fusion::Sum { weight: 0.5 }, &lexical, &vector));
        assert_eq!(fused, [(3, 0.25 + 0.45), (7, 0.5), (5, 0.166_667), (8, 0.05)]);
    }

    #[test]
    fn reciprocal_ranks_are_summed_and_ties_ordered_by_row() {
        let fused = fuse(&Fusion::Rrf { k: 60.0 }, &[(9, 5.0), (2, 4.0)], &[(2, 0.5), (9, 0.4)]);
        assert_eq!(fused.iter().map(|&(row, _)| row).collect::<Vec<_>>(), [2, 9]);
        assert!((fused[0].1 - (1.0 / 61.0 + 1.0 / 62.0)).abs() < 1e-12);
    }

    #[test]
    fn a_small_k_prefers_first_ranks_and_a_large_k_rows_of_both_lists() {
        // Row 1 is first in one list, row 2 is third in both.
        let (lexical, vector) = ([(1, 9.0), (3, 8.0), (2, 7.0)], [(4, 0.9), (5, 0.8), (2, 0.7)]);
        for (k, first, score) in [(0.0, 1, 1.0), (0.5, 1, 1.0 / 1.5), (10.0, 2, 2.0 / 13.0), (60.0, 2, 2.0 / 63.0)] {
            let fused = fuse(&Fusion::Rrf { k }, &lexical, &vector);
            assert_eq!((fused.len(), fused[0].0), (5, first), "k {k}");
            assert!((fused[0].1 - score).abs() < 1e-12, "k {k}: {fused:?}");
        }
    }

    #[test]
    fn an_empty_list_does_not_change_the_order_of_the_other() {
        let list = [(4, 3.0), (1, 2.0), (6, 1.0)];
        let learned =
            Fusion::Learned { version: LEARNED_VERSION, weights: [("bm25-of-largest".to_owned(), 1.0)].into(), encoder: None, split: None };
        for fusion in [Fusion::MinMax { weight: 0.5 }, Fusion::Rrf { k: 60.0 }, Fusion::Sum { weight: 0.5 }, learned] {
            assert_eq!(fuse(&fusion, &list, &[]).iter().map(|&(row, _)| row).collect::<Vec<_>>(), [4, 1, 6], "{fusion}");
            assert!(fuse(&fusion, &[], &[]).is_empty());
        }
    }

    #[test]
    fn numbers_out_of_range_and_unknown_features_are_errors() {
        assert!(Fusion::MinMax { weight: 1.5 }.check().is_err() && Fusion::Rrf { k: f64::NAN }.check().is_err());
        let foreign =
            Fusion::Learned { version: LEARNED_VERSION, weights: [("moon-phase".to_owned(), 1.0)].into(), encoder: None, split: None };
        assert!(foreign.check().unwrap_err().to_string().contains("`moon-phase`"));
    }

    #[test]
    fn the_parts_of_a_learned_score_are_its_weighted_features() {
        let (lexical, vector) = ([(7, 12.0), (3, 6.0)], [(3, 0.5), (8, 0.25)]);
        let parts = |fusion: &Fusion| with_candidates(&lexical, &vector, |candidates| fusion.parts(candidates));
        let fusion = learned(&[("bm25-of-largest", 3.0), ("cosine", -1.0)]);
        let expected: HashMap<u32, BTreeMap<&str, f64>> = [
            (7, [("bm25-of-largest", 3.0)].into()),
            (3, [("bm25-of-largest", 1.5), ("cosine", -0.5)].into()),
            (8, [("cosine", -0.25)].into()),
        ]
        .into();
        assert_eq!(parts(&fusion), expected);
        assert!(parts(&Fusion::Sum { weight: 0.5 }).is_empty());
    }
}
