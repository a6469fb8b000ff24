//! The loss of a batch. Row i of the cosines is query i against every code; its own code is on the diagonal.
//!
//! A loss is a function in f64 that returns its value and its gradient by the cosines; the autodiff graph propagates this gradient into the
//! encoders. A loss over B × B × B values therefore needs no tensor, all backends train with the same numbers, and each gradient is tested
//! against finite differences of the value. B = batch, s = scale · cosine.

use ledger::ensure;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    approx_ndcg,
    lambda::{self, Scheme},
    margin,
    row::Row,
    softmax,
};
use crate::error::Result;

/// Section `loss`: the kind of the loss, and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum LossConfig {
    /// Softmax cross-entropy with the other codes of the batch as negatives (InfoNCE).
    SoftmaxCrossEntropy {
        /// Also rank the queries of each code, and average both losses.
        symmetric: bool,
        /// Factor of the cosines at the start of the training.
        initial_scale: f64,
        /// Learn the factor.
        learn_scale: bool,
    },
    /// The predecessor's `softmax_cross_entropy`: cross-entropy plus a margin.
    MarginSoftmax {
        /// Added to the loss.
        margin: f64,
        /// Factor of the cosines.
        scale: f64,
    },
    /// Cross-entropy mixed with cross-entropy to the distribution of a teacher.
    Distillation {
        /// Weight of the teacher, 0 to 1.
        weight: f64,
        /// Divides the cosines of the teacher.
        temperature: f64,
        /// Factor of the cosines at the start of the training.
        initial_scale: f64,
        /// Learn the factor.
        learn_scale: bool,
    },
    /// CodeSearchNet's `cosine`: hinge loss to the best other code.
    CosineMargin {
        /// Required distance of the cosines.
        margin: f64,
    },
    /// CodeSearchNet's `triplet`: hinge losses of distances to all other codes.
    Triplet {
        /// Required difference of the distances.
        margin: f64,
    },
    /// The LambdaLoss framework.
    Lambda {
        /// Weights of pairs of codes.
        scheme: Scheme,
        /// Number of best ranks that count; null: all.
        k: Option<usize>,
        /// Steepness of the logistic function of score differences.
        sigma: f64,
        /// Weight of `ndcg-2` in the scheme `ndcg-2pp`.
        mu: f64,
        /// Factor of the cosines.
        scale: f64,
    },
    /// NDCG with differentiable ranks.
    ApproxNdcg {
        /// Steepness of the logistic function that approximates ranks.
        alpha: f64,
        /// Factor of the cosines.
        scale: f64,
    },
}

/// Weights and relevance of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Weight of each query, `[B]`; the mean over the corpus is 1.
    pub weights: &'a [f64],
    /// Graded relevance `[B, B]` between 0 and 1, with 1 on the diagonal; none: only the own code is relevant.
    pub grades: Option<&'a [f32]>,
}

/// Value and gradients of a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Mean of weight times loss over the queries.
    pub loss: f64,
    /// Gradient by the cosines, `[B, B]`.
    pub gradient: Vec<f32>,
    /// Gradient by the logarithm of the scale.
    pub log_scale_gradient: f64,
}

impl LossConfig {
    /// The factor of the cosines at the start, and whether it is learnt.
    pub fn scale(&self) -> (f64, bool) {
        match *self {
            Self::SoftmaxCrossEntropy { initial_scale, learn_scale, .. } | Self::Distillation { initial_scale, learn_scale, .. } => {
                (initial_scale, learn_scale)
            }
            Self::MarginSoftmax { scale, .. } | Self::Lambda { scale, .. } | Self::ApproxNdcg { scale, .. } => (scale, false),
            Self::CosineMargin { .. } | Self::Triplet { .. } => (1.0, false),
        }
    }

    /// Do the grades of a teacher change the loss?
    pub fn reads_grades(&self) -> bool {
        !matches!(self, Self::MarginSoftmax { .. } | Self::CosineMargin { .. } | Self::Triplet { .. })
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The key of the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let (scale, _) = self.scale();
        ensure!(scale > 0.0 && scale.is_finite(), "loss.scale must be positive, got {scale}");
        match *self {
            Self::MarginSoftmax { margin, .. } | Self::CosineMargin { margin } | Self::Triplet { margin } => {
                ensure!(margin.is_finite() && margin >= 0.0, "loss.margin must not be negative, got {margin}");
            }
            Self::Distillation { weight, temperature, .. } => {
                ensure!((0.0..=1.0).contains(&weight), "loss.weight must be between 0 and 1, got {weight}");
                ensure!(temperature > 0.0, "loss.temperature must be positive, got {temperature}");
            }
            Self::Lambda { k, sigma, mu, .. } => {
                ensure!(k != Some(0), "loss.k must be at least 1, or null for all ranks");
                ensure!(sigma > 0.0 && mu >= 0.0, "loss.sigma must be positive and loss.mu not negative");
            }
            Self::ApproxNdcg { alpha, .. } => ensure!(alpha > 0.0, "loss.alpha must be positive, got {alpha}"),
            Self::SoftmaxCrossEntropy { .. } => {}
        }
        Ok(())
    }

    /// The loss of one query; adds its gradient by the scores to `gradient`.
    fn row(&self, row: &Row<'_>, gradient: &mut [f64]) -> f64 {
        match *self {
            Self::SoftmaxCrossEntropy { .. } => softmax::cross_entropy(row, gradient),
            Self::MarginSoftmax { margin, .. } => softmax::margin(row, margin, gradient),
            Self::Distillation { weight, temperature, .. } => softmax::distillation(row, weight, temperature, gradient),
            Self::CosineMargin { margin } => margin::cosine(row, margin, gradient),
            Self::Triplet { margin } => margin::triplet(row, margin, gradient),
            Self::Lambda { scheme, k, sigma, mu, .. } => lambda::row(row, scheme, k, sigma, mu, gradient),
            Self::ApproxNdcg { alpha, .. } => approx_ndcg::row(row, alpha, gradient),
        }
    }

    /// The loss of all queries against all codes, and its gradient by the scores.
    fn one_way(&self, scores: &[f64], targets: Targets<'_>) -> (f64, Vec<f64>) {
        let n = targets.weights.len();
        let mut gradient = vec![0.0; n * n];
        let losses: Vec<f64> = gradient
            .par_chunks_mut(n)
            .enumerate()
            .map(|(own, gradient)| {
                let grades: Option<Vec<f64>> =
                    targets.grades.map(|grades| grades[own * n..(own + 1) * n].iter().map(|&grade| f64::from(grade)).collect());
                let row = Row { scores: &scores[own * n..(own + 1) * n], own, grades: grades.as_deref() };
                let share = targets.weights[own] / n as f64;
                let loss = self.row(&row, gradient);
                gradient.iter_mut().for_each(|slope| *slope *= share);
                loss * share
            })
            .collect();
        (losses.iter().sum(), gradient)
    }

    /// The loss of a batch with `s = e^log_scale · cosine`.
    ///
    /// # Panics
    /// `cosines` is not `[B, B]`.
    pub fn evaluate(&self, cosines: &[f32], log_scale: f64, targets: Targets<'_>) -> Outcome {
        let n = targets.weights.len();
        assert_eq!(cosines.len(), n * n, "cosines must be [B, B]");
        let scale = log_scale.exp();
        let scores: Vec<f64> = cosines.iter().map(|&cosine| scale * f64::from(cosine)).collect();
        let (mut loss, mut slopes) = self.one_way(&scores, targets);
        if matches!(self, Self::SoftmaxCrossEntropy { symmetric: true, .. }) {
            let transpose = |values: &[f64]| -> Vec<f64> { (0..n * n).map(|place| values[place % n * n + place / n]).collect() };
            let grades: Option<Vec<f32>> = targets.grades.map(|grades| (0..n * n).map(|place| grades[place % n * n + place / n]).collect());
            let (other, columns) = self.one_way(&transpose(&scores), Targets { grades: grades.as_deref(), ..targets });
            loss = (loss + other) / 2.0;
            slopes.iter_mut().zip(transpose(&columns)).for_each(|(slope, other)| *slope = (*slope + other) / 2.0);
        }
        let log_scale_gradient = slopes.iter().zip(&scores).map(|(slope, score)| slope * score).sum();
        Outcome { loss, gradient: slopes.iter().map(|slope| (slope * scale) as f32).collect(), log_scale_gradient }
    }
}
