//! Batches of an epoch, packed by a thread that runs ahead of the training steps.

use std::{
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use ledger::Invalid;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    plan::generator,
    samples::{Sample, Samples},
};
use crate::{
    config::Options,
    error::Result,
    graph::{model::Rows, tape::Packed},
    teacher::grades::Teacher,
};

/// The pairs of a training step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub query: Rows,
    pub code: Rows,
    /// Weight of each pair.
    pub weights: Vec<f64>,
    /// Graded relevance from the teacher, `[B, B]`.
    pub grades: Option<Vec<f32>>,
}

/// Maximum number of batches that wait for a step.
const AHEAD: usize = 4;

/// Builds batches of pairs.
#[derive(Debug, Clone, Copy)]
pub struct BatchSource<'a> {
    pub samples: &'a Samples,
    pub options: &'a Options,
    /// Ids that `options.insert-common-tokens` inserts.
    pub common: &'a [u32],
    /// Ids at the start and end of queries and of code that no variant changes.
    pub framing: Framing,
    pub teacher: Option<&'a Teacher>,
    /// Mean of [`Options::weight`] over all samples.
    pub mean_weight: f64,
    pub seed: u64,
}

impl Options {
    /// Weight of a pair in this language.
    fn weight(&self, samples: &Samples, language: u8) -> f64 {
        self.language_weights.get(&samples.languages[usize::from(language)]).copied().unwrap_or(1.0)
    }

    /// Mean weight of all pairs.
    pub fn mean_weight(&self, samples: &Samples) -> f64 {
        samples.language.iter().map(|&language| self.weight(samples, language)).sum::<f64>() / samples.len().max(1) as f64
    }
}

/// Numbers of special tokens before and after a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    pub query: (usize, usize),
    pub code: (usize, usize),
    /// Maximum number of ids of a query, with its special tokens.
    pub query_tokens: usize,
}

impl BatchSource<'_> {
    /// Builds one batch. Its random variants depend on seed, epoch and number of the batch only.
    pub fn batch(&self, epoch: u64, number: u64, pairs: &[u32]) -> Result<Batch> {
        let mut rng = generator(self.seed, 1, epoch, number);
        let (mut queries, mut codes) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
        for &pair in pairs {
            let sample = self.samples.read_one(pair as usize)?;
            let (query, code) = self.variant(sample, &mut rng);
            queries.push(query);
            codes.push(code);
        }
        let languages: Vec<u8> = pairs.iter().map(|&pair| self.samples.language[pair as usize]).collect();
        let weight = |&language: &u8| self.options.weight(self.samples, language) / self.mean_weight;
        Ok(Batch {
            weights: languages.iter().map(weight).collect(),
            grades: self.teacher.map(|teacher| teacher.grades(pairs)),
            query: Rows { packed: Packed::of_rows(queries), languages: languages.clone() },
            code: Rows { packed: Packed::of_rows(codes), languages },
        })
    }

    fn variant(&self, sample: Sample, rng: &mut ChaCha8Rng) -> (Vec<u32>, Vec<u32>) {
        let options = self.options;
        // Drawn for every pair, so that a pair without a name does not change the pairs after it.
        let by_name = rng.random_bool(options.name_as_query) && !sample.name.is_empty();
        let (query, code) = if by_name { (sample.name, sample.code_unnamed) } else { (sample.query, sample.code) };
        let query = drop_tokens(query, self.framing.query, options.token_dropout, rng);
        let code = drop_tokens(code, self.framing.code, options.token_dropout, rng);
        (self.insert_common(query, rng), code)
    }

    /// Inserts a common token before each token of a query with the configured probability, up to the maximum length.
    fn insert_common(&self, query: Vec<u32>, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let probability = self.options.insert_common_tokens;
        if probability == 0.0 || self.common.is_empty() {
            return query;
        }
        let mut free = self.framing.query_tokens.saturating_sub(query.len());
        let (before, after) = self.framing.query;
        let inner = before..query.len().saturating_sub(after);
        let mut out = Vec::with_capacity(query.len() + 4);
        for (place, id) in query.into_iter().enumerate() {
            if inner.contains(&place) && rng.random_bool(probability) && free > 0 {
                out.push(self.common[rng.random_range(0..self.common.len())]);
                free -= 1;
            }
            out.push(id);
        }
        out
    }

    /// Calls `step` with every batch from `first` on; a thread builds them ahead. Returns the time that `step` waited for batches.
    ///
    /// # Errors
    /// The error of a batch or of `step`, which ends the epoch.
    pub fn stream(self, epoch: u64, plan: &[Vec<u32>], first: usize, mut step: impl FnMut(usize, Batch) -> Result<()>) -> Result<Duration> {
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(AHEAD);
            scope.spawn(move || {
                for (number, pairs) in plan.iter().enumerate().skip(first) {
                    // Sending fails when a step has failed: the receiver does not exist any more.
                    if send.send(self.batch(epoch, number as u64, pairs)).is_err() {
                        return;
                    }
                }
            });
            let mut waited = Duration::ZERO;
            for number in first..plan.len() {
                let clock = Instant::now();
                let batch = receive.recv().map_err(|_| Invalid("the thread that builds batches stopped".to_owned()))??;
                // No step runs while the first batch of an epoch is built.
                if number > first {
                    waited += clock.elapsed();
                }
                step(number, batch)?;
            }
            Ok(waited)
        })
    }
}

/// Deletes ids between the special tokens at random, but never all of them.
fn drop_tokens(ids: Vec<u32>, (before, after): (usize, usize), probability: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    if probability == 0.0 {
        return ids;
    }
    let inner = before..ids.len().saturating_sub(after);
    let rest: Vec<u32> =
        ids.iter().enumerate().filter(|(place, _)| !inner.contains(place) || !rng.random_bool(probability)).map(|(_, &id)| id).collect();
    if rest.len() > before + after { rest } else { ids }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::tests::samples;

    fn options() -> Options {
        Options {
            name_as_query: 0.0,
            token_dropout: 0.0,
            insert_common_tokens: 0.0,
            common_tokens: 2,
            language_weights: Default::default(),
        }
    }

    const FRAMING: Framing = Framing { query: (1, 0), code: (2, 0), query_tokens: 12 };

    fn pairs() -> Samples {
        let named = Sample { query: vec![1, 10, 11], code: vec![2, 3, 20, 21, 22], name: vec![1, 30], code_unnamed: vec![2, 3, 0, 21, 22] };
        let unnamed = Sample { name: Vec::new(), code_unnamed: Vec::new(), ..named.clone() };
        samples(&(0..200).map(|row| ((row % 2) as u8, if row % 2 == 0 { named.clone() } else { unnamed.clone() })).collect::<Vec<_>>(), 40)
    }

    fn batch(samples: &Samples, options: &Options, number: u64) -> Batch {
        let source = BatchSource {
            samples,
            options,
            common: &[33, 34],
            framing: FRAMING,
            teacher: None,
            mean_weight: options.mean_weight(samples),
            seed: 3,
        };
        source.batch(0, number, &(0..200).collect::<Vec<_>>()).unwrap()
    }

    fn rows(rows: &Rows) -> Vec<Vec<u32>> {
        rows.packed.layout.ranges().map(|range| rows.packed.ids[range].to_vec()).collect()
    }

    #[test]
    fn variants_repeat_by_seed_and_preserve_special_tokens() {
        let samples = pairs();
        let options = Options { name_as_query: 0.3, token_dropout: 0.5, insert_common_tokens: 0.4, ..options() };
        assert_eq!(batch(&samples, &options, 0), batch(&samples, &options, 0));
        assert_ne!(batch(&samples, &options, 0), batch(&samples, &options, 1));
        let batch = batch(&samples, &options, 0);
        assert!(rows(&batch.query).iter().all(|row| row[0] == 1 && row.len() > 1 && row.len() <= 12));
        assert!(rows(&batch.code).iter().all(|row| row[..2] == [2, 3] && row.len() > 2));
    }

    #[test]
    fn tokens_are_dropped_with_the_configured_probability_and_never_all() {
        let mut rng = generator(1, 1, 0, 0);
        let ids: Vec<u32> = (0..1000).collect();
        let dropped = drop_tokens(ids.clone(), (2, 3), 0.3, &mut rng);
        assert_eq!((&dropped[..2], &dropped[dropped.len() - 3..]), (&[0, 1][..], &[997, 998, 999][..]));
        assert!(dropped.is_sorted() && (600..800).contains(&dropped.len()), "{}", dropped.len());
        for _ in 0..100 {
            assert_eq!(drop_tokens(vec![1, 10, 2], (1, 1), 0.999, &mut rng), [1, 10, 2], "a sequence without tokens has no meaning");
        }
    }

    #[test]
    fn common_tokens_are_inserted_up_to_the_maximum_length() {
        let samples = pairs();
        let inserting = Options { insert_common_tokens: 0.5, ..options() };
        let queries = rows(&batch(&samples, &inserting, 0).query);
        let inserted = queries.iter().flatten().filter(|id| [33, 34].contains(id)).count();
        // Two places in each of 200 queries.
        assert!((150..250).contains(&inserted), "{inserted}");
        assert!(queries.iter().all(|query| query.iter().filter(|id| [1, 10, 11].contains(id)).eq(&[1, 10, 11])));
        let full = Framing { query_tokens: 4, ..FRAMING };
        let source = BatchSource {
            samples: &samples,
            options: &inserting,
            common: &[33, 34],
            framing: full,
            teacher: None,
            mean_weight: 1.0,
            seed: 3,
        };
        let queries = rows(&source.batch(0, 0, &(0..200).collect::<Vec<_>>()).unwrap().query);
        assert!(queries.iter().all(|query| query.len() <= 4) && queries.iter().any(|query| query.len() == 4));
    }

    #[test]
    fn a_pair_without_a_name_has_no_name_variant() {
        let samples = pairs();
        let batch = batch(&samples, &Options { name_as_query: 0.5, ..options() }, 0);
        let (queries, codes) = (rows(&batch.query), rows(&batch.code));
        let by_name = queries.iter().filter(|query| **query == [1, 30]).count();
        assert!((30..70).contains(&by_name), "of 100 named pairs about half: {by_name}");
        for (row, (query, code)) in queries.iter().zip(&codes).enumerate() {
            assert_eq!(*query == [1, 30], code[2] == 0, "the name is masked if it is the query");
            assert!(row % 2 == 0 || *query == [1, 10, 11]);
        }
    }

    #[test]
    fn weights_follow_the_language() {
        let samples = pairs();
        let options = Options { language_weights: [("python".to_owned(), 2.5)].into(), ..options() };
        let weights = batch(&samples, &options, 0).weights;
        assert!((weights[1] / weights[0] - 2.5).abs() < 1e-12);
        assert!((weights.iter().sum::<f64>() / 200.0 - 1.0).abs() < 1e-12, "the mean weight is 1");
    }

    #[test]
    fn a_stream_has_the_same_batches_from_any_start() {
        let samples = pairs();
        let options = options();
        let source =
            BatchSource { samples: &samples, options: &options, common: &[], framing: FRAMING, teacher: None, mean_weight: 1.0, seed: 3 };
        let plan: Vec<Vec<u32>> = (0..20).map(|batch| (batch * 10..batch * 10 + 10).collect()).collect();
        let from = |first: usize| {
            let mut batches = Vec::new();
            let collect = |number, batch| {
                batches.push((number, batch));
                Ok(())
            };
            source.stream(4, &plan, first, collect).unwrap();
            batches
        };
        let all = from(0);
        assert_eq!(all.len(), 20);
        assert_eq!(from(13), all[13..]);
        let stopped = source.stream(4, &plan, 0, |number, _| if number == 2 { ledger::bail!("enough") } else { Ok(()) });
        assert_eq!(stopped.unwrap_err().to_string(), "enough");
    }
}
