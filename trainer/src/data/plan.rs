//! The order of an epoch: every pair once, in batches. It depends on seed and epoch only.
//!
//! The shuffle is exact (Fisher & Yates over all pairs). With `bucket` above 1, the pairs of that many batches are sorted by length, cut
//! into batches, and the batches are shuffled. Which pairs share a batch is then not uniform any more, but batches need less padding.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::samples::Samples;
use crate::config::{BatchConfig, Languages};

/// Random number generator for a purpose, an epoch and a batch of a training.
pub fn generator(seed: u64, purpose: u64, epoch: u64, batch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.as_chunks_mut::<8>().0.iter_mut().zip([seed, purpose, epoch, batch]) {
        *bytes = number.to_le_bytes();
    }
    ChaCha8Rng::from_seed(key)
}

/// Pairs of each batch of an epoch. A last batch with one pair is added to the batch before it, if there is one.
pub fn epoch(samples: &Samples, config: &BatchConfig, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
    let mut rng = generator(seed, 0, epoch, 0);
    let mut all: Vec<u32> = (0..samples.len() as u32).collect();
    all.shuffle(&mut rng);
    match config.languages {
        Languages::Mixed => cut(samples, all, config, &mut rng),
        Languages::RoundRobin => {
            let of =
                |language: usize| all.iter().copied().filter(|&pair| usize::from(samples.language[pair as usize]) == language).collect();
            let mut queues: Vec<_> =
                (0..samples.languages.len()).map(|language| cut(samples, of(language), config, &mut rng).into_iter()).collect();
            let mut batches = Vec::new();
            loop {
                let before = batches.len();
                batches.extend(queues.iter_mut().filter_map(Iterator::next));
                if batches.len() == before {
                    return batches;
                }
            }
        }
    }
}

fn cut(samples: &Samples, mut pairs: Vec<u32>, config: &BatchConfig, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    if config.bucket > 1 {
        for window in pairs.chunks_mut(config.bucket * config.size) {
            window.sort_by_key(|&pair| {
                let (query, code) = samples.lengths[pair as usize];
                (code, query)
            });
        }
    }
    let mut batches: Vec<Vec<u32>> = pairs.chunks(config.size).map(<[u32]>::to_vec).collect();
    if batches.len() > 1
        && let Some(last) = batches.pop_if(|last| last.len() == 1)
        && let Some(before) = batches.last_mut()
    {
        before.extend(last);
    }
    if config.bucket > 1 {
        batches.shuffle(rng);
    }
    batches
}

/// Share of padding in rectangular batches, for queries and for code.
pub fn padding(samples: &Samples, batches: &[Vec<u32>]) -> (f64, f64) {
    let share = |length: &dyn Fn(u32) -> usize| {
        let (mut tokens, mut places) = (0, 0);
        for batch in batches {
            tokens += batch.iter().map(|&pair| length(pair)).sum::<usize>();
            places += batch.len() * batch.iter().map(|&pair| length(pair)).max().unwrap_or_default();
        }
        1.0 - tokens as f64 / (places as f64).max(1.0)
    };
    let lengths = |pair: u32| samples.lengths[pair as usize];
    (share(&|pair| usize::from(lengths(pair).0)), share(&|pair| usize::from(lengths(pair).1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::{Sample, tests::samples};

    fn random_lengths(rows: usize) -> Samples {
        let row = |row: usize| {
            let length = 1 + kernels::hash_bits(row as u32) as usize % 200;
            (u8::from(!row.is_multiple_of(3)), Sample { query: vec![1; 1 + row % 7], code: vec![2; length], ..Sample::default() })
        };
        samples(&(0..rows).map(row).collect::<Vec<_>>(), 3)
    }

    fn config(size: usize, languages: Languages, bucket: usize) -> BatchConfig {
        BatchConfig { size, accumulate: 1, languages, bucket }
    }

    proptest::proptest! {
        #[test]
        fn an_epoch_has_every_pair_once_and_repeats_by_seed(rows in 2usize..200, size in 2usize..40, bucket in 1usize..5, mixed: bool) {
            let samples = random_lengths(rows);
            let languages = if mixed { Languages::Mixed } else { Languages::RoundRobin };
            let config = config(size, languages, bucket);
            let batches = epoch(&samples, &config, 1, 0);
            let mut seen: Vec<u32> = batches.iter().flatten().copied().collect();
            seen.sort_unstable();
            proptest::prop_assert_eq!(seen, (0..rows as u32).collect::<Vec<_>>());
            proptest::prop_assert_eq!(&batches, &epoch(&samples, &config, 1, 0));
            proptest::prop_assert!(batches.iter().all(|batch| batch.len() <= size + 1));
            if mixed {
                proptest::prop_assert!(batches.iter().all(|batch| batch.len() > 1));
            } else {
                let one = |batch: &Vec<u32>| batch.iter().all(|&pair| samples.language[pair as usize] == samples.language[batch[0] as usize]);
                proptest::prop_assert!(batches.iter().all(one));
            }
            // With larger buckets, the epoch may be one bucket: then its batches are the same for every seed.
            if rows > 20 && bucket == 1 {
                proptest::prop_assert_ne!(&batches, &epoch(&samples, &config, 1, 1));
                proptest::prop_assert_ne!(&batches, &epoch(&samples, &config, 2, 0));
            }
        }
    }

    #[test]
    fn buckets_reduce_padding() {
        let samples = random_lengths(2000);
        let share = |bucket| padding(&samples, &epoch(&samples, &config(32, Languages::Mixed, bucket), 1, 0)).1;
        let (drawn, cut) = (share(1), share(16));
        assert!((0.4..0.6).contains(&drawn), "with uniform lengths half of a batch is padding: {drawn}");
        assert!(cut < 0.1, "{cut}");
    }

    #[test]
    fn the_shuffle_is_uniform() {
        // 3 pairs have 6 orders, each with a share of about 1/6 over the seeds.
        let samples = random_lengths(3);
        let mut counts = std::collections::HashMap::<Vec<u32>, u32>::new();
        for seed in 0..6000 {
            let batches = epoch(&samples, &config(2, Languages::Mixed, 1), seed, 0);
            *counts.entry(batches.concat()).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
