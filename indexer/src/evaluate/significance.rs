//! Confidence intervals of a mean over queries, and significance of the difference of two systems.
//!
//! Both draw samples of the queries with a fixed seed. The interval is the percentile bootstrap (Efron 1979). The probability is Fisher's
//! randomization test on paired differences, which Smucker, Allan & Carterette (CIKM 2007) recommend for retrieval.

use serde::{Deserialize, Serialize};

/// Number of samples.
const SAMPLES: u32 = 10_000;
/// Share of the samples inside an interval.
const CONFIDENCE: f64 = 0.95;

/// 95 % confidence interval of a mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Difference of two systems on the same queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of the first system minus mean of the second.
    pub mean: f64,
    /// Probability of a difference at least as large in either direction if the systems were equal.
    pub p: f64,
    /// Queries on which the first system is better.
    pub wins: u64,
    /// Queries on which the first system is worse.
    pub losses: u64,
}

/// SplitMix64 (Steele, Lea & Flood 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; probabilities are equal to within n/2^32.
    fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The interval of the mean of these values; a single value is its own interval.
pub fn interval(values: &[f64]) -> Interval {
    if values.is_empty() {
        return Interval { low: 0.0, high: 0.0 };
    }
    let mut draws = Draws(0);
    let mut means: Vec<f64> =
        (0..SAMPLES).map(|_| (0..values.len()).map(|_| values[draws.below(values.len())]).sum::<f64>() / values.len() as f64).collect();
    means.sort_by(f64::total_cmp);
    let tail = (f64::from(SAMPLES) * (1.0 - CONFIDENCE) / 2.0) as usize;
    Interval { low: means[tail], high: means[means.len() - 1 - tail] }
}

/// Compares two systems on the same queries, in the same order.
pub fn difference(first: &[f64], second: &[f64]) -> Difference {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let observed = mean(&differences);
    let unequal: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let mut draws = Draws(1);
    // Sums in another order differ in their last bits: the slack counts samples that are as extreme as the observed one.
    let least = observed.abs() * differences.len() as f64 * (1.0 - 1e-12);
    let mut extreme = 0u32;
    for _ in 0..SAMPLES {
        let (mut sum, mut signs) = (0.0, 0u64);
        for (index, difference) in unequal.iter().enumerate() {
            if index % 64 == 0 {
                signs = draws.next();
            }
            sum += if signs & 1 == 0 { *difference } else { -*difference };
            signs >>= 1;
        }
        extreme += u32::from(f64::abs(sum) >= least);
    }
    Difference {
        mean: observed,
        p: f64::from(extreme + 1) / f64::from(SAMPLES + 1),
        wins: unequal.iter().filter(|difference| **difference > 0.0).count() as u64,
        losses: unequal.iter().filter(|difference| **difference < 0.0).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values without a pattern in 0..1.
    fn values(n: usize, seed: u64) -> Vec<f64> {
        let mut draws = Draws(seed);
        (0..n).map(|_| (draws.next() >> 11) as f64 / (1u64 << 53) as f64).collect()
    }

    #[test]
    fn the_interval_of_many_values_is_the_normal_one() {
        let many = values(2000, 7);
        let found = interval(&many);
        let deviation = (many.iter().map(|x| (x - mean(&many)).powi(2)).sum::<f64>() / 2000.0).sqrt();
        let half = 1.96 * deviation / 2000f64.sqrt();
        assert!((found.low - (mean(&many) - half)).abs() < 0.05 * half, "{found:?} {half}");
        assert!((found.high - (mean(&many) + half)).abs() < 0.05 * half, "{found:?} {half}");
        assert_eq!(interval(&[0.25]), Interval { low: 0.25, high: 0.25 });
    }

    #[test]
    fn the_probability_equals_that_of_all_sign_flips() {
        // Five wins of the same size: of the 32 sign patterns, two are as extreme.
        let five = difference(&[1.0; 5], &[0.5; 5]);
        assert!((five.p - 2.0 / 32.0).abs() < 0.01, "{five:?}");
        assert_eq!((five.mean, five.wins, five.losses), (0.5, 5, 0));
        let same = difference(&values(50, 3), &values(50, 3));
        assert_eq!((same.p, same.wins + same.losses), (1.0, 0));
    }

    #[test]
    fn equal_systems_seldom_differ_and_a_better_one_does() {
        let base = values(500, 1);
        let better: Vec<f64> = base.iter().zip(values(500, 2)).map(|(x, y)| x + 0.2 * (y - 0.4)).collect();
        assert!(difference(&better, &base).p < 0.001);
        let differing = (10..60).filter(|&seed| difference(&values(100, seed), &values(100, seed + 100)).p < 0.05).count();
        assert!(differing <= 8, "{differing} of 50 pairs of equal systems differ at p < 0.05");
    }
}
