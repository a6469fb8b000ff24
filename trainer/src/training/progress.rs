//! The progress of a training: everything but its parameters and its optimizer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Metric;

/// Scores of the validation split. Each query is ranked among the codes of its block of up to 1000 pairs, in file order; equal scores count
/// as better ranks of the other codes. The last block may be smaller, so that this is not CodeSearchNet's mrr@1000. `ndcg` is the mean of
/// 1 / log₂(1 + rank), because one code is relevant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub loss: f64,
    pub mrr: f64,
    pub ndcg: f64,
}

impl Scores {
    /// The score by a metric; higher is better.
    pub fn merit(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Loss => -self.loss,
            Metric::Mrr => self.mrr,
            Metric::Ndcg => self.ndcg,
        }
    }
}

/// Results of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: u64,
    /// Mean over the pairs.
    pub loss: f64,
    /// Mean over the pairs, each query among the codes of its own batch.
    pub train_mrr: f64,
    pub valid: Scores,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean length of the gradient over the steps, before clipping.
    pub gradient_norm: f64,
    /// Number of steps whose gradient was clipped.
    pub clipped: u64,
    /// Factor of the cosines after the epoch.
    pub scale: f64,
}

/// Sums over the current epoch; a checkpoint stores all their bits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub pairs: u64,
    #[serde(with = "exact")]
    pub loss: f64,
    #[serde(with = "exact")]
    pub reciprocal_ranks: f64,
    pub steps: u64,
    #[serde(with = "exact")]
    pub gradient_norm: f64,
    pub clipped: u64,
    #[serde(with = "exact")]
    pub learning_rate: f64,
}

/// Numbers as text: serde_json reads a JSON number with an error of one bit.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:?}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Rounds to nine decimals, so that a recorded number is read as it was written.
pub fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// The best epoch by a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u64,
    pub merit: f64,
}

/// Everything of a training but its parameters and its optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Number of completed epochs.
    pub epoch: u64,
    /// Number of completed batches of the current epoch.
    pub batch: usize,
    /// Number of steps since the start.
    pub step: u64,
    pub running: Running,
    pub curve: Vec<Epoch>,
    pub best: BTreeMap<Metric, Best>,
    /// Epochs since the last one with a better score.
    pub stale: u64,
}

impl Progress {
    /// The best epoch by a metric, counted from 0.
    pub fn best_epoch(&self, metric: Metric) -> u64 {
        self.best.get(&metric).map_or(0, |best| best.epoch)
    }

    /// Appends the results of the current epoch to the curve.
    ///
    /// `scale` is the factor of the cosines.
    pub fn add_epoch(&mut self, valid: Scores, scale: f64) -> Epoch {
        let running = std::mem::take(&mut self.running);
        let (pairs, steps) = (running.pairs.max(1) as f64, running.steps.max(1) as f64);
        let epoch = Epoch {
            epoch: self.epoch,
            loss: rounded(running.loss / pairs),
            train_mrr: rounded(running.reciprocal_ranks / pairs),
            valid,
            learning_rate: rounded(running.learning_rate),
            gradient_norm: rounded(running.gradient_norm / steps),
            clipped: running.clipped,
            scale: rounded(scale),
        };
        self.curve.push(epoch.clone());
        epoch
    }

    /// Records the scores of the current epoch; returns whether they are the best by this metric.
    pub fn is_best(&mut self, metric: Metric, valid: Scores) -> bool {
        let merit = valid.merit(metric);
        let is_better = self.best.get(&metric).is_none_or(|best| merit > best.merit);
        if is_better {
            self.best.insert(metric, Best { epoch: self.epoch, merit });
        }
        is_better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn sums_are_read_with_all_their_bits(loss: f64, rate in 0.0f64..1.0) {
            let running = Running { loss, learning_rate: rate, ..Running::default() };
            let back: Running = serde_json::from_str(&serde_json::to_string(&running).unwrap()).unwrap();
            proptest::prop_assert_eq!(back.loss.to_bits(), loss.to_bits());
            proptest::prop_assert_eq!(back.learning_rate.to_bits(), rate.to_bits());
        }

        #[test]
        fn rounded_numbers_are_read_as_written(value in 0.0f64..37.0) {
            let written = rounded(value);
            let back: f64 = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
            proptest::prop_assert_eq!(back.to_bits(), written.to_bits());
        }
    }
}
