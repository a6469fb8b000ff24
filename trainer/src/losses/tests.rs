use serde::Deserialize;

use super::{
    lambda::Scheme,
    loss::{LossConfig, Targets},
};
use kernels::hash_bits;

fn losses() -> Vec<LossConfig> {
    let lambda = |scheme, k| LossConfig::Lambda { scheme, k, sigma: 1.0, mu: 10.0, scale: 3.0 };
    let mut losses = vec![
        LossConfig::SoftmaxCrossEntropy { symmetric: false, initial_scale: 14.0, learn_scale: true },
        LossConfig::SoftmaxCrossEntropy { symmetric: true, initial_scale: 5.0, learn_scale: true },
        LossConfig::MarginSoftmax { margin: 1.0, scale: 1.0 },
        LossConfig::Distillation { weight: 0.7, temperature: 0.1, initial_scale: 8.0, learn_scale: false },
        LossConfig::CosineMargin { margin: 0.5 },
        LossConfig::Triplet { margin: 0.4 },
        LossConfig::ApproxNdcg { alpha: 1.0, scale: 10.0 },
    ];
    for scheme in [
        Scheme::Ndcg1,
        Scheme::Ndcg2,
        Scheme::Ndcg2Pp,
        Scheme::LambdaRank,
        Scheme::RankNet,
        Scheme::RankNetGtDiff,
        Scheme::RankNetGtDiffPow,
    ] {
        losses.extend([lambda(scheme, None), lambda(scheme, Some(4))]);
    }
    losses
}

/// `[n, n]` numbers between -1 and 1, all different.
fn cosines(n: usize, salt: u32) -> Vec<f32> {
    (0..n * n).map(|place| hash_bits(place as u32 * 7 + salt) as f32 / u32::MAX as f32 * 1.8 - 0.9).collect()
}

fn grades(n: usize) -> Vec<f32> {
    (0..n * n).map(|place| if place / n == place % n { 1.0 } else { (hash_bits(place as u32 + 99) % 5) as f32 / 6.0 }).collect()
}

#[test]
fn every_gradient_equals_differences_of_the_value() {
    let n = 7;
    let weights: Vec<f64> = (0..n).map(|row| 0.5 + row as f64 * 0.3).collect();
    let graded = grades(n);
    for loss in losses() {
        for grades in [None, Some(&graded[..])] {
            let targets = Targets { weights: &weights, grades };
            let log_scale = loss.scale().0.ln();
            let at = cosines(n, 5);
            let outcome = loss.evaluate(&at, log_scale, targets);
            assert!(outcome.loss.is_finite());
            // One cosine moves; f32 cosines are exact at this step.
            let step = 1.0 / 4096.0f32;
            for place in 0..n * n {
                let moved = |by: f32| {
                    let mut cosines = at.clone();
                    cosines[place] += by;
                    (f64::from(cosines[place]), loss.evaluate(&cosines, log_scale, targets).loss)
                };
                let ((above, up), (below, down)) = (moved(step), moved(-step));
                let slope = (up - down) / (above - below);
                let given = f64::from(outcome.gradient[place]);
                assert!((slope - given).abs() < 1e-3 * (1.0 + slope.abs()), "{loss:?} at {place}: {given}, but the slope is {slope}");
            }
            let moved = |by: f64| loss.evaluate(&at, log_scale + by, targets).loss;
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - outcome.log_scale_gradient).abs() < 1e-5 * (1.0 + slope.abs()), "{loss:?} by the scale");
        }
    }
}

#[test]
fn permuting_a_batch_permutes_the_gradient() {
    let n = 6;
    let order = [3, 0, 5, 1, 4, 2];
    let weights: Vec<f64> = (0..n).map(|row| 1.0 + row as f64).collect();
    let (at, graded) = (cosines(n, 1), grades(n));
    let turn = |values: &[f32]| -> Vec<f32> { (0..n * n).map(|place| values[order[place / n] * n + order[place % n]]).collect() };
    for loss in losses() {
        let log_scale = loss.scale().0.ln();
        let outcome = loss.evaluate(&at, log_scale, Targets { weights: &weights, grades: Some(&graded) });
        let turned_weights: Vec<f64> = order.iter().map(|&row| weights[row]).collect();
        let other = loss.evaluate(&turn(&at), log_scale, Targets { weights: &turned_weights, grades: Some(&turn(&graded)) });
        assert!((outcome.loss - other.loss).abs() < 1e-9, "{loss:?}");
        assert_eq!((outcome.gradient.len(), other.gradient.len()), (n * n, n * n), "{loss:?}");
        for (a, b) in turn(&outcome.gradient).iter().zip(&other.gradient) {
            assert!((a - b).abs() < 1e-5, "{loss:?}");
        }
    }
}

#[test]
fn a_perfect_ranking_has_the_minimum_loss() {
    let n = 5;
    let perfect: Vec<f32> = (0..n * n).map(|place| if place / n == place % n { 1.0 } else { -1.0 }).collect();
    let reversed: Vec<f32> = perfect.iter().map(|cosine| -cosine).collect();
    let weights = vec![1.0; n];
    let targets = Targets { weights: &weights, grades: None };
    for loss in losses() {
        let best = match loss {
            // The own code is also compared with itself, where σ(0) = ½: one bit.
            LossConfig::Lambda { scheme: Scheme::Ndcg1, .. } => 1.0,
            LossConfig::ApproxNdcg { .. } => -1.0,
            LossConfig::MarginSoftmax { margin, .. } => margin,
            _ => 0.0,
        };
        let far = 40f64.ln();
        let at_best = loss.evaluate(
            &perfect,
            if matches!(loss, LossConfig::CosineMargin { .. } | LossConfig::Triplet { .. }) { 0.0 } else { far },
            targets,
        );
        assert!((at_best.loss - best).abs() < 1e-6, "{loss:?}: {}", at_best.loss);
        assert!(at_best.gradient.iter().all(|slope| slope.abs() < 1e-4), "{loss:?} still has a gradient");
        let worse = loss.evaluate(&reversed, loss.scale().0.ln(), targets);
        // With k = 4 of 5 the own code is last and does not count.
        if !matches!(loss, LossConfig::Lambda { k: Some(_), .. }) {
            assert!(worse.loss > best + 0.1, "{loss:?}: {}", worse.loss);
        }
    }
}

#[test]
fn k_is_applied_to_ranks() {
    let loss = |k| LossConfig::Lambda { scheme: Scheme::LambdaRank, k, sigma: 1.0, mu: 10.0, scale: 1.0 };
    // The own code is third of four: with k = 2 it has no gradient.
    let mut at = vec![0.0; 16];
    for row in 0..4 {
        for (rank, score) in [(0, 0.1), (1, 0.9), (2, 0.8), (3, -0.5)] {
            at[row * 4 + (row + rank) % 4] = score;
        }
    }
    let targets = Targets { weights: &[1.0; 4], grades: None };
    assert_eq!(loss(Some(2)).evaluate(&at, 0.0, targets).loss, 0.0);
    assert!(loss(Some(3)).evaluate(&at, 0.0, targets).loss > 0.0);
    assert!(loss(None).evaluate(&at, 0.0, targets).loss > loss(Some(3)).evaluate(&at, 0.0, targets).loss);
}

#[test]
fn a_batch_of_one_is_defined() {
    for loss in losses() {
        let outcome = loss.evaluate(&[0.3], loss.scale().0.ln(), Targets { weights: &[1.0], grades: None });
        assert!(outcome.loss.is_finite() && outcome.gradient[0].is_finite(), "{loss:?}");
    }
}

#[derive(Deserialize)]
struct Reference {
    cosines: Vec<f32>,
    grades: Vec<f32>,
    recorded: std::collections::BTreeMap<String, Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    loss: f64,
    gradient: Vec<f64>,
    log_scale: f64,
}

/// Compares with the public implementations in PyTorch (tests/reference/losses.py).
#[test]
fn values_and_gradients_equal_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/losses.json");
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let weights = vec![1.0; 6];
    let mut seen = 0;
    for loss in losses() {
        let name = match &loss {
            LossConfig::SoftmaxCrossEntropy { symmetric: false, .. } => "softmax-cross-entropy".to_owned(),
            LossConfig::SoftmaxCrossEntropy { symmetric: true, .. } => "softmax-cross-entropy symmetric".to_owned(),
            LossConfig::MarginSoftmax { .. } => "margin-softmax".to_owned(),
            LossConfig::Distillation { .. } => "distillation".to_owned(),
            LossConfig::CosineMargin { .. } => "cosine-margin".to_owned(),
            LossConfig::Triplet { .. } => "triplet".to_owned(),
            LossConfig::ApproxNdcg { .. } => "approx-ndcg".to_owned(),
            LossConfig::Lambda { scheme, k, .. } => {
                format!("lambda {} {}", serde_json::to_value(scheme).unwrap().as_str().unwrap(), k.unwrap_or(6))
            }
        };
        for (kind, grades) in [("own", None), ("graded", Some(&reference.grades[..]))] {
            let recorded = &reference.recorded[&format!("{name}/{kind}")];
            // Without grades, the teacher of the script is the identity.
            let identity: Vec<f32> = (0..36).map(|place| f32::from(u8::from(place / 6 == place % 6))).collect();
            let grades = if matches!(loss, LossConfig::Distillation { .. }) { grades.or(Some(&identity)) } else { grades };
            let outcome = loss.evaluate(&reference.cosines, loss.scale().0.ln(), Targets { weights: &weights, grades });
            assert!((outcome.loss - recorded.loss).abs() < 1e-9, "{name} {kind}: {}, not {}", outcome.loss, recorded.loss);
            assert_eq!(outcome.gradient.len(), recorded.gradient.len(), "{name} {kind}");
            for (place, (given, truth)) in outcome.gradient.iter().zip(&recorded.gradient).enumerate() {
                assert!((f64::from(*given) - truth).abs() < 1e-6 * (1.0 + truth.abs()), "{name} {kind} at {place}: {given}, not {truth}");
            }
            assert!((outcome.log_scale_gradient - recorded.log_scale).abs() < 1e-8, "{name} {kind} by the scale");
            seen += 1;
        }
    }
    assert_eq!(seen, reference.recorded.len());
}
