//! How good a model is on the validation split: mrr@in-batch(1000), ndcg and loss.

use anyhow::{Result, ensure};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoints::recorded,
    config::Metric,
    data::samples::{Sample, Samples},
    losses::{Judgement, LossConfig},
    model::{LOG_SCALE, Model, Rows, Side},
    ops::Ops,
    parameters::Parameters,
    tape::{Bound, Packed},
};

/// Scores of the validation split. Each query is ranked among the codes of its block of up to 1000, in file order, the
/// last one partial (so not CodeSearchNet's mrr@1000); ties against us. `ndcg` is 1 / log₂(1 + rank): one code is
/// relevant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub loss: f64,
    pub mrr: f64,
    pub ndcg: f64,
}

impl Scores {
    /// Higher is better.
    pub fn merit(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Loss => -self.loss,
            Metric::Mrr => self.mrr,
            Metric::Ndcg => self.ndcg,
        }
    }
}

/// Queries that are ranked together.
pub const BLOCK: usize = 1000;
/// Rows that are encoded together.
const ENCODED: usize = 250;

/// Where each row's own code stands among the codes of its block, from 1; ties against us.
pub fn ranks(cosines: &[f32], count: usize) -> impl Iterator<Item = usize> + '_ {
    cosines.chunks(count).enumerate().map(|(row, scores)| scores.iter().filter(|&&score| score >= scores[row]).count().max(1))
}

/// Unit vectors of one side of some samples, `[rows, D]`, outside the tape.
pub fn vectors<B: Backend>(
    model: &Model,
    parameters: &Parameters,
    ops: &dyn Ops<B>,
    device: &B::Device,
    side: Side,
    samples: &Samples,
    rows: std::ops::Range<usize>,
) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(rows.len() * model.width());
    for start in rows.clone().step_by(ENCODED) {
        let part = start..rows.end.min(start + ENCODED);
        let of = |sample: Sample| if side == Side::Query { sample.query } else { sample.code };
        let ids = part.clone().map(|row| samples.read_one(row).map(of)).collect::<Result<Vec<_>>>()?;
        let languages = samples.language[part].to_vec();
        let rows = Rows { packed: Packed::of_rows(ids), languages };
        let bound = Bound::<B>::new(parameters, model.table_rows(&[(side, &rows)]), false, DType::F32, device);
        all.extend(floats(model.encode(&bound, ops, side, &rows, None))?);
    }
    Ok(all)
}

/// The numbers of a tensor.
pub fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    tensor.into_data().convert::<f32>().to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// The whole split.
pub fn score<B: Backend>(
    model: &Model,
    parameters: &Parameters,
    ops: &dyn Ops<B>,
    device: &B::Device,
    loss: &LossConfig,
    samples: &Samples,
) -> Result<Scores> {
    let mut sums = Scores { loss: 0.0, mrr: 0.0, ndcg: 0.0 };
    let log_scale = f64::from(parameters.get(LOG_SCALE).values[0]);
    for start in (0..samples.len()).step_by(BLOCK) {
        let rows = start..samples.len().min(start + BLOCK);
        let count = rows.len();
        let side = |side| -> Result<Tensor<B, 2>> {
            let values = vectors(model, parameters, ops, device, side, samples, rows.clone())?;
            Ok(Tensor::from_data(TensorData::new(values, [count, model.width()]), device))
        };
        let cosines = floats(side(Side::Query)?.matmul(side(Side::Code)?.transpose()))?;
        ensure!(cosines.iter().all(|cosine| cosine.is_finite()), "the weights are no longer finite: lower train.optimizer.learning-rate");
        let weights = vec![1.0; count];
        sums.loss += loss.evaluate(&cosines, log_scale, Judgement { weights: &weights, grades: None }).loss * count as f64;
        for rank in ranks(&cosines, count) {
            sums.mrr += 1.0 / rank as f64;
            sums.ndcg += 1.0 / (1.0 + rank as f64).log2();
        }
    }
    let count = samples.len().max(1) as f64;
    Ok(Scores { loss: recorded(sums.loss / count), mrr: recorded(sums.mrr / count), ndcg: recorded(sums.ndcg / count) })
}
