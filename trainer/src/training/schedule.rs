//! Learning rate by step: linear warm-up, then constant, linear to zero, or half a cosine to zero
//! (Loshchilov & Hutter, "SGDR", 2017, without restarts).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `schedule`: the learning rate over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    /// The rate after the warm-up.
    pub shape: Shape,
    /// Steps in which the rate rises linearly to `optimizer.learning-rate`.
    pub warmup_steps: u64,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Constant,
    /// Linear to 0 at the last step.
    Linear,
    /// Half a cosine to 0 at the last step.
    Cosine,
}

impl Schedule {
    /// Learning rate of a step, counted from 0, in a training of `total` steps; `peak` is the rate after the warm-up.
    pub fn rate(self, peak: f64, total: u64, step: u64) -> f64 {
        if step < self.warmup_steps {
            return peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let progress = ((step - self.warmup_steps) as f64 / total.saturating_sub(self.warmup_steps).max(1) as f64).min(1.0);
        peak * match self.shape {
            Shape::Constant => 1.0,
            Shape::Linear => 1.0 - progress,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_then_follows_its_shape() {
        for (shape, middle, end) in [(Shape::Constant, 0.5, 0.5), (Shape::Linear, 0.25, 0.0), (Shape::Cosine, 0.25, 0.0)] {
            let schedule = Schedule { shape, warmup_steps: 10 };
            let rates: Vec<f64> = (0..=100).map(|step| schedule.rate(0.5, 100, step)).collect();
            assert!((rates[0] - 0.05).abs() < 1e-12 && (rates[9] - 0.5).abs() < 1e-12);
            assert!(rates[10..].windows(2).all(|pair| pair[1] <= pair[0]));
            assert!((rates[55] - middle).abs() < 1e-12 && (rates[100] - end).abs() < 1e-12, "{shape:?}");
        }
    }

    #[test]
    fn a_training_shorter_than_the_warm_up_only_rises() {
        let schedule = Schedule { shape: Shape::Cosine, warmup_steps: 10 };
        assert!((0..4).all(|step| schedule.rate(1.0, 4, step) < schedule.rate(1.0, 4, step + 1)));
    }
}
