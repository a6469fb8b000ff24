//! Learns the weights of a reranking model: softmax cross-entropy over the candidates of each query (ListNet, Cao et al. 2007; the relevant
//! ones share the probability), and a penalty on the squares of the differences from the prior, minimised by L-BFGS.
//!
//! Where files are relevant, each file is represented by its best candidate.

use std::collections::{BTreeMap, HashSet};

use bundle::reranking::{FEATURES, QueryClass, Weights};
use rayon::prelude::*;

use crate::lbfgs::minimise;

const N: usize = FEATURES.len();
/// The weights of all queries, then those that each class adds.
const PARTS: usize = 1 + QueryClass::ALL.len();
/// Penalty on the weights of a class, relative to that on the weights of all queries.
const CLASS_PENALTY: f64 = 10.0;

/// One query of the training set.
#[derive(Debug, Clone)]
pub struct Example {
    pub class: QueryClass,
    pub candidates: Vec<ExampleRow>,
    /// Does one candidate represent each file?
    pub by_file: bool,
}

/// A candidate of a query.
#[derive(Debug, Clone)]
pub struct ExampleRow {
    pub features: [f64; N],
    pub file: u32,
    pub is_relevant: bool,
}

/// Result of [`learn`].
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedWeights {
    pub weights: Weights,
    /// Mean loss with the prior.
    pub loss_before: f64,
    /// Mean loss with the learned weights.
    pub loss_after: f64,
}

/// Learns weights that rank the relevant candidates higher than `prior` does.
pub fn learn(examples: &[Example], prior: &Weights, penalty: f64) -> LearnedWeights {
    let start: Vec<f64> =
        prior.by_class().iter().flat_map(|(_, weights)| FEATURES.map(|name| weights.get(name).copied().unwrap_or_default())).collect();
    let found = minimise(start.clone(), |weights| loss(examples, weights, &start, penalty));
    let of = |part: usize| -> BTreeMap<String, f64> {
        let weights = FEATURES.iter().zip(&found.at[part * N..(part + 1) * N]);
        weights.filter(|(_, weight)| **weight != 0.0).map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    };
    let weights = Weights { all: of(0), symbol: of(1), keywords: of(2), question: of(3) };
    LearnedWeights { weights, loss_before: found.before, loss_after: found.after }
}

/// Mean loss of the examples with the penalty, and its gradient.
fn loss(examples: &[Example], weights: &[f64], prior: &[f64], penalty: f64) -> (f64, Vec<f64>) {
    // Added in the order of the examples: the same bits on any number of threads.
    let parts: Vec<(f64, [f64; N])> = examples.par_iter().map(|example| loss_of(example, weights)).collect();
    let count = examples.len().max(1) as f64;
    let (mut value, mut gradient) = (0.0, vec![0.0; PARTS * N]);
    for (example, (own, slope)) in examples.iter().zip(&parts) {
        value += own / count;
        for part in [0, 1 + example.class as usize] {
            gradient[part * N..(part + 1) * N].iter_mut().zip(slope).for_each(|(sum, own)| *sum += own / count);
        }
    }
    for (index, (weight, prior)) in weights.iter().zip(prior).enumerate() {
        let penalty = if index < N { penalty } else { CLASS_PENALTY * penalty };
        value += penalty * (weight - prior).powi(2);
        gradient[index] += 2.0 * penalty * (weight - prior);
    }
    (value, gradient)
}

fn loss_of(example: &Example, weights: &[f64]) -> (f64, [f64; N]) {
    let class = 1 + example.class as usize;
    let of_class: [f64; N] = std::array::from_fn(|index| weights[index] + weights[class * N + index]);
    let score = |row: &ExampleRow| row.features.iter().zip(&of_class).map(|(value, weight)| value * weight).sum::<f64>();
    let mut rows: Vec<(f64, &ExampleRow)> = example.candidates.iter().map(|row| (score(row), row)).collect();
    if example.by_file {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut seen = HashSet::new();
        rows.retain(|(_, row)| seen.insert(row.file));
    }
    let largest = rows.iter().map(|(score, _)| *score).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = rows.iter().map(|(score, _)| (score - largest).exp()).sum();
    let relevant = rows.iter().filter(|(_, row)| row.is_relevant).count() as f64;
    let (mut value, mut gradient) = (0.0, [0.0; N]);
    if relevant == 0.0 {
        return (value, gradient);
    }
    for (score, row) in rows {
        let probability = (score - largest).exp() / sum;
        let target = if row.is_relevant { 1.0 / relevant } else { 0.0 };
        value += target * (sum.ln() + largest - score);
        gradient.iter_mut().zip(&row.features).for_each(|(slope, feature)| *slope += (probability - target) * feature);
    }
    (value, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let mut state = 3u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        // The relevant row is the one with the largest feature 3 - 2 x feature 5; for symbols, with the largest feature 7.
        let mut example = |index: usize| {
            let class = QueryClass::ALL[index % 3];
            let rows: Vec<[f64; N]> = (0..12).map(|_| std::array::from_fn(|_| next())).collect();
            let value = |row: &[f64; N]| if class == QueryClass::Symbol { row[7] } else { row[3] - 2.0 * row[5] };
            let best = rows.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
            let by_file = index.is_multiple_of(2);
            let of_best: Vec<bool> = rows.iter().map(|row| value(row) == best).collect();
            let is_relevant = |row: usize| if by_file { of_best[row] || of_best[row ^ 1] } else { of_best[row] };
            let row = |(row, features): (usize, [f64; N])| ExampleRow { is_relevant: is_relevant(row), features, file: row as u32 / 2 };
            Example { class, candidates: rows.into_iter().enumerate().map(row).collect(), by_file }
        };
        (0..600).map(&mut example).collect()
    }

    #[test]
    fn learned_weights_are_those_that_ordered_the_examples() {
        let learned = learn(&examples(), &Weights::default(), 1e-4);
        assert!(learned.loss_after < 0.6 * learned.loss_before, "{} {}", learned.loss_before, learned.loss_after);
        let question = learned.weights.of_class(QueryClass::Question);
        assert!(question[3] > 2.0 && question[5] < -4.0 && question[7].abs() < 0.5 * question[3], "{question:?}");
        assert!(learned.weights.of_class(QueryClass::Symbol)[7] > 2.0);
    }

    #[test]
    fn a_large_penalty_keeps_the_prior() {
        let prior = Weights { all: [("score".to_owned(), 2.0)].into(), ..Weights::default() };
        let learned = learn(&examples(), &prior, 1e6).weights.of_class(QueryClass::Keywords);
        assert!(learned.iter().zip(prior.of_class(QueryClass::Keywords)).all(|(a, b)| (a - b).abs() < 1e-3), "{learned:?}");
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let examples = examples();
        let at: Vec<f64> = (0..PARTS * N).map(|index| ((index * 7919) % 13) as f64 / 20.0 - 0.3).collect();
        let prior = vec![0.1; PARTS * N];
        let (_, gradient) = loss(&examples, &at, &prior, 0.01);
        for index in (0..PARTS * N).step_by(9) {
            let shifted = |by: f64| {
                let mut moved = at.clone();
                moved[index] += by;
                loss(&examples, &moved, &prior, 0.01).0
            };
            let difference = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            assert!((difference - gradient[index]).abs() < 1e-5, "{index}: {difference} {}", gradient[index]);
        }
    }

    #[test]
    fn weights_have_the_same_bits_on_any_number_of_threads() {
        let examples = examples();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| learn(&examples, &Weights::default(), 1e-3).weights.of_class(QueryClass::Symbol))
        };
        assert_eq!(with(1).map(f64::to_bits), with(2).map(f64::to_bits));
    }
}
