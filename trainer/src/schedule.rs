//! Learning rate by step: linear warm-up, then constant, linear to zero, or half a cosine to zero
//! (Loshchilov & Hutter, "SGDR", 2017, without restarts).

use serde::{Deserialize, Serialize};

/// Section `schedule`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    pub shape: Shape,
    pub warmup_steps: u64,
}

/// How the rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Constant,
    Linear,
    Cosine,
}

impl Schedule {
    /// `peak` is reached after the warm-up; the falling shapes are zero at `total` steps.
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
    fn rises_then_falls_as_its_shape_says() {
        for (shape, middle, end) in [(Shape::Constant, 0.5, 0.5), (Shape::Linear, 0.25, 0.0), (Shape::Cosine, 0.25, 0.0)] {
            let schedule = Schedule { shape, warmup_steps: 10 };
            let rates: Vec<f64> = (0..=100).map(|step| schedule.rate(0.5, 100, step)).collect();
            assert!((rates[0] - 0.05).abs() < 1e-12 && (rates[9] - 0.5).abs() < 1e-12);
            assert!(rates[10..].windows(2).all(|pair| pair[1] <= pair[0]));
            assert!((rates[55] - middle).abs() < 1e-12 && (rates[100] - end).abs() < 1e-12, "{shape:?}");
        }
    }

    #[test]
    fn fewer_steps_than_the_warm_up_only_rise() {
        let schedule = Schedule { shape: Shape::Cosine, warmup_steps: 10 };
        assert!((0..4).all(|step| schedule.rate(1.0, 4, step) < schedule.rate(1.0, 4, step + 1)));
    }
}
