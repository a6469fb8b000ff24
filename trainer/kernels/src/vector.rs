//! Numeric functions that the compiler vectorises; [`simd`] selects the widest vectors of the processor.

/// Runs `work` compiled for the widest vectors of this processor.
pub fn simd<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Number of partial sums of a sum, on every processor: the bits do not depend on the width of its vectors.
pub const LANES: usize = 16;

/// e^x (Moshier's Cephes `expf`: range reduction by ln 2 in two parts, a polynomial of degree 5; 2 ulp); x is clamped to the range of f32 results.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "Cephes' constants as published")]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_375;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.987_569_15e-4f32;
    p = p * r + 1.398_199_95e-3;
    p = p * r + 8.333_451_9e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_55e-1;
    p = p * r + 5.000_000_1e-1;
    let y = p * r * r + r + 1.0;
    y * f32::from_bits(((shifted.to_bits() as i32).wrapping_sub(0x4B40_0000).wrapping_add(127) << 23) as u32)
}

#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // 1 - 2/(e^2x + 1) loses all digits near zero; there the Taylor polynomial is exact enough.
    let square = x * x;
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0)));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if square < 0.01 { near } else { far }
}

/// Φ(x) and e^(−x²/2): Abramowitz & Stegun 7.1.26, absolute error 1.5e-7.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the published constants")]
pub fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let e = exp(-z * z);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let upper = ((((1.061_405_429 * t - 1.453_152_027) * t + 1.421_413_741) * t - 0.284_496_736) * t + 0.254_829_592) * t * e;
    (if x >= 0.0 { 1.0 - 0.5 * upper } else { 0.5 * upper }, e)
}

/// Σ f(i) for i < n, in lanes.
#[inline(always)]
pub fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + j);
        }
        i += LANES;
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    while i < n {
        total += f(i);
        i += 1;
    }
    total
}

/// Replaces each number x of a row by e^(x − most), and returns their sum, in lanes.
#[inline(always)]
pub fn exp_sum(row: &mut [f32], most: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exp(*value - most);
            *lane += *value;
        }
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    for value in rest {
        *value = exp(*value - most);
        total += *value;
    }
    total
}

/// Maximum of a row.
#[inline(always)]
pub fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let mut most = f32::MIN;
    for &value in lanes.iter().chain(rest) {
        most = if value > most { value } else { most };
    }
    most
}

#[inline(always)]
pub fn add(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += *x;
    }
}

#[inline(always)]
pub fn add_scaled(sum: &mut [f32], x: &[f32], factor: f32) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += *x * factor;
    }
}

#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a.len().min(b.len()), |i| a[i] * b[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_accurate_to_single_precision() {
        for step in -20_000..=20_000 {
            let x = step as f32 * 0.004;
            let wide = f64::from(x);
            let relative = (f64::from(exp(x)) - wide.exp()).abs() / wide.exp();
            assert!(relative < 3e-7, "exp {x}: {relative}");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 2e-7, "tanh {x}");
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs() < 1.5e-7, "sigmoid {x}");
            assert!((f64::from(normal(x).1) - (-wide * wide / 2.0).exp()).abs() < 3e-7, "density {x}");
        }
        // Φ by numeric integration (Simpson) of the density.
        let mut integral = 0.5f64;
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        for step in 0..6000 {
            let (a, b) = (f64::from(step) * 0.001, f64::from(step + 1) * 0.001);
            assert!((f64::from(normal(a as f32).0) - integral).abs() < 4e-7, "Φ({a})");
            assert!((f64::from(normal(-a as f32).0) - (1.0 - integral)).abs() < 4e-7, "Φ(-{a})");
            integral += (b - a) / 6.0 * (density(a) + 4.0 * density((a + b) / 2.0) + density(b));
        }
    }

    #[test]
    fn sums_and_maxima_cover_every_length() {
        for n in 0..70 {
            let row: Vec<f32> = (0..n).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
            assert_eq!(sum(n, |i| row[i]), row.iter().sum::<f32>());
            assert_eq!(max(&row), row.iter().copied().fold(f32::MIN, f32::max));
            let (mut raised, truth) = (row.clone(), row.iter().map(|x| f64::from(x - 3.0).exp()));
            let total = exp_sum(&mut raised, 3.0);
            assert!((f64::from(total) - truth.clone().sum::<f64>()).abs() <= 1e-6 * truth.clone().sum::<f64>());
            assert!(raised.iter().zip(truth).all(|(x, truth)| (f64::from(*x) - truth).abs() <= 1e-6 * truth));
        }
    }
}
