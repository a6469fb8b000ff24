//! Losses over the cosines of a batch: row i is query i against every code, its own on the diagonal.
//!
//! A loss is a plain function in f64 that gives its value and its gradient by the cosines; the tape only carries that
//! gradient back into the encoders. So a B × B × B loss makes no tensor, every backend trains by the same numbers, and
//! each gradient is tested against finite differences of the value itself. B = batch, s = scale · cosine.

pub mod approx_ndcg;
pub mod lambda;
pub mod margin;
pub mod softmax;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use lambda::Scheme;

/// Section `loss`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum LossConfig {
    /// [`softmax::cross_entropy`]
    SoftmaxCrossEntropy { symmetric: bool, initial_scale: f64, learn_scale: bool },
    /// [`softmax::margin`]
    MarginSoftmax { margin: f64, scale: f64 },
    /// [`softmax::distillation`]
    Distillation { weight: f64, temperature: f64, initial_scale: f64, learn_scale: bool },
    /// [`margin::cosine`]
    CosineMargin { margin: f64 },
    /// [`margin::triplet`]
    Triplet { margin: f64 },
    /// [`lambda::row`]
    Lambda { scheme: Scheme, k: Option<usize>, sigma: f64, mu: f64, scale: f64 },
    /// [`approx_ndcg::row`]
    ApproxNdcg { alpha: f64, scale: f64 },
}

/// What a batch is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Judgement<'a> {
    /// Weight of each query, 1 on the average over the corpus.
    pub weights: &'a [f64],
    /// Graded relevance `[B, B]` between 0 and 1, 1 on the diagonal; none: the own code is relevant, no other.
    pub grades: Option<&'a [f32]>,
}

/// Value and gradients of a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Mean over the queries of weight times loss.
    pub loss: f64,
    /// By the cosines, `[B, B]`.
    pub gradient: Vec<f32>,
    /// By the logarithm of the scale.
    pub log_scale_gradient: f64,
}

/// One query's scores.
#[derive(Debug)]
pub struct Row<'a> {
    pub scores: &'a [f64],
    /// Where its own code is.
    pub own: usize,
    pub grades: Option<&'a [f64]>,
}

impl Row<'_> {
    /// Relevance of a code.
    pub fn grade(&self, place: usize) -> f64 {
        match self.grades {
            Some(grades) => grades[place],
            None => f64::from(u8::from(place == self.own)),
        }
    }
}

impl LossConfig {
    /// Logarithm of the scale at the start, and whether it is learnt.
    pub fn scale(&self) -> (f64, bool) {
        match *self {
            Self::SoftmaxCrossEntropy { initial_scale, learn_scale, .. } | Self::Distillation { initial_scale, learn_scale, .. } => {
                (initial_scale, learn_scale)
            }
            Self::MarginSoftmax { scale, .. } | Self::Lambda { scale, .. } | Self::ApproxNdcg { scale, .. } => (scale, false),
            Self::CosineMargin { .. } | Self::Triplet { .. } => (1.0, false),
        }
    }

    /// Whether a teacher's grades change it.
    pub fn reads_grades(&self) -> bool {
        !matches!(self, Self::MarginSoftmax { .. } | Self::CosineMargin { .. } | Self::Triplet { .. })
    }

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

    /// Value and gradient of one query, by its scores.
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

    /// Over all queries, against all codes.
    fn one_way(&self, scores: &[f64], judgement: Judgement<'_>) -> (f64, Vec<f64>) {
        let n = judgement.weights.len();
        let mut gradient = vec![0.0; n * n];
        let losses: Vec<f64> = gradient
            .par_chunks_mut(n)
            .enumerate()
            .map(|(own, gradient)| {
                let grades: Option<Vec<f64>> =
                    judgement.grades.map(|grades| grades[own * n..(own + 1) * n].iter().map(|&grade| f64::from(grade)).collect());
                let row = Row { scores: &scores[own * n..(own + 1) * n], own, grades: grades.as_deref() };
                let share = judgement.weights[own] / n as f64;
                let loss = self.row(&row, gradient);
                gradient.iter_mut().for_each(|slope| *slope *= share);
                loss * share
            })
            .collect();
        (losses.iter().sum(), gradient)
    }

    /// The loss of a batch at `s = e^log_scale · cosine`.
    pub fn evaluate(&self, cosines: &[f32], log_scale: f64, judgement: Judgement<'_>) -> Outcome {
        let n = judgement.weights.len();
        assert_eq!(cosines.len(), n * n, "a square of cosines");
        let scale = log_scale.exp();
        let scores: Vec<f64> = cosines.iter().map(|&cosine| scale * f64::from(cosine)).collect();
        let (mut loss, mut slopes) = self.one_way(&scores, judgement);
        if matches!(self, Self::SoftmaxCrossEntropy { symmetric: true, .. }) {
            let turn = |values: &[f64]| -> Vec<f64> { (0..n * n).map(|place| values[place % n * n + place / n]).collect() };
            let grades: Option<Vec<f32>> =
                judgement.grades.map(|grades| (0..n * n).map(|place| grades[place % n * n + place / n]).collect());
            let (other, turned) = self.one_way(&turn(&scores), Judgement { grades: grades.as_deref(), ..judgement });
            loss = (loss + other) / 2.0;
            slopes.iter_mut().zip(turn(&turned)).for_each(|(slope, other)| *slope = (*slope + other) / 2.0);
        }
        let log_scale_gradient = slopes.iter().zip(&scores).map(|(slope, score)| slope * score).sum();
        Outcome { loss, gradient: slopes.iter().map(|slope| (slope * scale) as f32).collect(), log_scale_gradient }
    }
}

#[cfg(test)]
mod tests;
