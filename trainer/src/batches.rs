//! What training sees: pairs of token ids, shuffled and padded, all by one seeded generator.

use anyhow::{Context, Result, ensure};
use ledger::{Shard, table};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::vocabulary::Specials;

/// Which encoders read what, and how a sequence begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingContext {
    /// One encoder and one vocabulary for both sides.
    Siamese,
}

/// Ragged rows of ids.
#[derive(Debug, Default)]
pub struct Ragged {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

/// Pairs of one split, in memory.
#[derive(Debug, Default)]
pub struct Pairs {
    pub query: Ragged,
    pub code: Ragged,
    name: Ragged,
    code_unnamed: Ragged,
}

/// A rectangle of ids, padded to its longest row.
#[derive(Debug, Clone, PartialEq)]
pub struct Padded {
    pub rows: usize,
    pub width: usize,
    /// `[rows, width]`
    pub ids: Vec<i64>,
    /// 1 for a token, 0 for padding.
    pub mask: Vec<f32>,
}

/// Random variants of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Variants {
    pub name_as_query: f64,
    pub token_dropout: f64,
}

impl Ragged {
    fn push(&mut self, prefix: &[u32], ids: &[u32]) {
        self.ids.extend_from_slice(prefix);
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn row(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.ids[start..self.ends[row]]
    }
}

/// Tokens before a query, and before code of a language.
pub fn prefixes(context: TrainingContext) -> (Vec<String>, Vec<String>) {
    match context {
        TrainingContext::Siamese => (vec!["<qy>".to_owned()], vec!["<{language}>".to_owned(), "<lg>".to_owned()]),
    }
}

impl Pairs {
    /// Reads the rows that have a query: rows without documentation are indexed, not learnt from.
    pub fn read(shards: &[&Shard], context: TrainingContext, specials: &Specials) -> Result<Self> {
        let mut pairs = Self::default();
        let (query_prefix, code_prefix) = prefixes(context);
        let query_prefix = query_prefix.iter().map(|token| specials.id(token)).collect::<Result<Vec<_>>>()?;
        for shard in shards {
            for batch in table::read(&shard.path, &["language", "query", "code", "name", "code_unnamed"])? {
                let batch = batch?;
                let languages = table::texts(&batch, "language")?;
                let column = |name: &str| table::id_lists(&batch, name);
                let (query, code, name, unnamed) = (column("query")?, column("code")?, column("name")?, column("code_unnamed")?);
                for row in 0..batch.num_rows() {
                    if query.row(row).is_empty() {
                        continue;
                    }
                    let language = languages.value(row);
                    let code_prefix =
                        code_prefix.iter().map(|token| specials.id(&token.replace("{language}", language))).collect::<Result<Vec<_>>>()?;
                    pairs.query.push(&query_prefix, query.row(row));
                    pairs.code.push(&code_prefix, code.row(row));
                    if name.row(row).is_empty() {
                        pairs.name.push(&[], &[]);
                        pairs.code_unnamed.push(&[], &[]);
                    } else {
                        pairs.name.push(&query_prefix, name.row(row));
                        pairs.code_unnamed.push(&code_prefix, unnamed.row(row));
                    }
                }
            }
        }
        let out_of_range = [&pairs.query, &pairs.code, &pairs.code_unnamed, &pairs.name]
            .iter()
            .flat_map(|ragged| &ragged.ids)
            .find(|&&id| id as usize >= specials.size)
            .copied();
        ensure!(
            out_of_range.is_none(),
            "token id {} is not in the vocabulary: run `make tokenize` again",
            out_of_range.unwrap_or_default()
        );
        Ok(pairs)
    }

    pub fn len(&self) -> usize {
        self.query.len()
    }

    /// The batches of an epoch, in an order that depends on seed and epoch only. The last, partial
    /// batch is kept.
    pub fn epoch(&self, seed: u64, epoch: u64, batch: usize, variants: Variants, pad: u32) -> impl Iterator<Item = (Padded, Padded)> + '_ {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (epoch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut rng);
        let mut start = 0;
        std::iter::from_fn(move || {
            let rows = order.get(start..)?.chunks(batch).next()?;
            start += rows.len();
            let (mut queries, mut codes) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            for &row in rows {
                let by_name = rng.random_bool(variants.name_as_query) && !self.name.row(row).is_empty();
                let (query, code) =
                    if by_name { (self.name.row(row), self.code_unnamed.row(row)) } else { (self.query.row(row), self.code.row(row)) };
                queries.push(drop_tokens(query, variants.token_dropout, &mut rng));
                codes.push(drop_tokens(code, variants.token_dropout, &mut rng));
            }
            Some((Padded::new(&queries, pad), Padded::new(&codes, pad)))
        })
    }
}

/// Leaves ids out at random; never all of them.
fn drop_tokens(ids: &[u32], probability: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let kept: Vec<u32> = ids.iter().copied().filter(|_| !rng.random_bool(probability)).collect();
    if kept.is_empty() { ids.to_vec() } else { kept }
}

impl Padded {
    pub fn new(rows: &[impl AsRef<[u32]>], pad: u32) -> Self {
        let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or_default().max(1);
        let mut padded =
            Self { rows: rows.len(), width, ids: vec![i64::from(pad); rows.len() * width], mask: vec![0.0; rows.len() * width] };
        for (index, row) in rows.iter().enumerate() {
            for (place, &id) in row.as_ref().iter().enumerate() {
                padded.ids[index * width + place] = i64::from(id);
                padded.mask[index * width + place] = 1.0;
            }
        }
        padded
    }
}

/// Checks that there is something to learn from and something to choose the best epoch by.
pub fn require(train: &Pairs, valid: &Pairs) -> Result<()> {
    let missing = |what: &str| format!("no documented rows in the {what} split: harvest more repositories, or change harvest.split");
    (train.len() > 1).then_some(()).with_context(|| missing("training"))?;
    (valid.len() > 1).then_some(()).with_context(|| missing("validation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rows: u32) -> Pairs {
        let mut pairs = Pairs::default();
        for row in 0..rows {
            pairs.query.push(&[2], &[row + 10]);
            pairs.code.push(&[4, 3], &[row + 10, row + 11, row + 12]);
            pairs.name.push(&[], &[]);
            pairs.code_unnamed.push(&[], &[]);
        }
        pairs
    }

    const PLAIN: Variants = Variants { name_as_query: 0.5, token_dropout: 0.0 };

    #[test]
    fn an_epoch_sees_every_pair_once_and_repeats_by_seed() {
        let pairs = pairs(23);
        let epoch = |seed, epoch| pairs.epoch(seed, epoch, 5, PLAIN, 0).collect::<Vec<_>>();
        let mut seen: Vec<i64> =
            epoch(1, 0).iter().flat_map(|(query, _)| query.ids.chunks(2).map(|row| row[1]).collect::<Vec<_>>()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (10..33).collect::<Vec<i64>>());
        assert_eq!(epoch(1, 0), epoch(1, 0));
        assert_ne!(epoch(1, 0), epoch(1, 1));
        assert_ne!(epoch(1, 0), epoch(2, 0));
    }

    #[test]
    fn padding_is_masked() {
        let padded = Padded::new(&[vec![5, 6], vec![7]], 0);
        assert_eq!((padded.ids, padded.mask), (vec![5, 6, 7, 0], vec![1.0, 1.0, 1.0, 0.0]));
    }
}
