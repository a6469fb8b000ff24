//! Learns the weights of a fusion: softmax cross-entropy over the rows of each query (ListNet, Cao et al. 2007, with one
//! relevant row) and a penalty on their squares, minimised by L-BFGS.

use bundle::fusion::FEATURES;
use rayon::prelude::*;

use crate::lbfgs::minimise;

const N: usize = FEATURES.len();

/// One query of the training set.
#[derive(Debug, Clone)]
pub struct Example {
    /// Features of each candidate row.
    pub rows: Vec<[f64; N]>,
    /// Index of the relevant row.
    pub relevant: usize,
}

/// Result of [`learn`].
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedWeights {
    /// One weight a feature.
    pub weights: [f64; N],
    /// Mean loss with all weights 0.
    pub loss_before: f64,
    /// Mean loss with the learned weights.
    pub loss_after: f64,
}

/// Mean loss of the examples, and its gradient.
fn loss(examples: &[Example], weights: &[f64; N], penalty: f64) -> (f64, [f64; N]) {
    // Added in the order of the examples: the same bits on any number of threads.
    let parts: Vec<(f64, [f64; N])> = examples
        .par_iter()
        .map(|example| {
            let scores: Vec<f64> = example.rows.iter().map(|row| row.iter().zip(weights).map(|(x, w)| x * w).sum()).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let mut gradient = example.rows[example.relevant].map(|x| -x);
            for (row, score) in example.rows.iter().zip(&scores) {
                let p = (score - largest).exp() / sum;
                gradient.iter_mut().zip(row).for_each(|(g, x)| *g += p * x);
            }
            (sum.ln() + largest - scores[example.relevant], gradient)
        })
        .collect();
    let count = examples.len().max(1) as f64;
    let mut total = (0.0, weights.map(|w| 2.0 * penalty * w));
    for (value, gradient) in &parts {
        total.0 += value / count;
        total.1.iter_mut().zip(gradient).for_each(|(sum, own)| *sum += own / count);
    }
    (total.0 + penalty * weights.iter().map(|w| w * w).sum::<f64>(), total.1)
}

/// Learns the weights that rank the relevant rows highest, with `penalty` on their squares.
pub fn learn(examples: &[Example], penalty: f64) -> LearnedWeights {
    let array = |weights: &[f64]| -> [f64; N] { std::array::from_fn(|index| weights[index]) };
    let found = minimise(vec![0.0; N], |weights| {
        let (value, gradient) = loss(examples, &array(weights), penalty);
        (value, gradient.to_vec())
    });
    LearnedWeights { weights: array(&found.at), loss_before: found.before, loss_after: found.after }
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
        // The relevant row is mostly the one with the largest 2 x3 - x5.
        let mut example = || {
            let rows: Vec<[f64; N]> = (0..20).map(|_| std::array::from_fn(|_| next())).collect();
            let noisy: Vec<f64> = rows.iter().map(|row| 2.0 * row[3] - row[5] + 0.2 * next()).collect();
            let relevant = (0..20).max_by(|&a, &b| noisy[a].total_cmp(&noisy[b])).unwrap();
            Example { rows, relevant }
        };
        (0..400).map(|_| example()).collect()
    }

    #[test]
    fn learned_weights_are_those_that_ordered_the_examples() {
        let LearnedWeights { weights, loss_before: before, loss_after: after } = learn(&examples(), 1e-4);
        assert!((before - 20f64.ln()).abs() < 1e-9 && after < 0.5 * before, "{before} {after}");
        assert!(weights[3] > 5.0 && (weights[5] / weights[3] + 0.5).abs() < 0.1, "{weights:?}");
        assert!((0..N).filter(|i| *i != 3 && *i != 5).all(|i| weights[i].abs() < 0.15 * weights[3]), "{weights:?}");
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let examples = examples();
        let at: [f64; N] = std::array::from_fn(|i| 0.3 * i as f64 - 1.0);
        let (_, gradient) = loss(&examples, &at, 0.01);
        for (i, own) in gradient.into_iter().enumerate() {
            let shifted = |by: f64| loss(&examples, &std::array::from_fn(|j| at[j] + if i == j { by } else { 0.0 }), 0.01).0;
            let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((difference - own).abs() < 1e-6, "{i}: {difference} {own}");
        }
    }

    #[test]
    fn weights_have_the_same_bits_on_any_number_of_threads() {
        let examples = examples();
        let with =
            |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| learn(&examples, 1e-3).weights);
        assert_eq!(with(1).map(f64::to_bits), with(2).map(f64::to_bits));
    }
}
