//! Learning rate by step: linear warm-up, then half a cosine to zero
//! (Loshchilov & Hutter, "SGDR", 2017, without restarts).

/// `rate` is the peak, reached after `warmup` steps; zero at `total`.
pub fn learning_rate(rate: f64, warmup: usize, total: usize, step: usize) -> f64 {
    if step < warmup {
        return rate * (step + 1) as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    rate * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_zero() {
        let rates: Vec<f64> = (0..=100).map(|step| learning_rate(0.5, 10, 100, step)).collect();
        assert!((rates[0] - 0.05).abs() < 1e-12 && (rates[9] - 0.5).abs() < 1e-12);
        assert!(rates[10..].windows(2).all(|pair| pair[1] <= pair[0]));
        assert!((rates[55] - 0.25).abs() < 1e-12 && rates[100].abs() < 1e-12);
    }
}
