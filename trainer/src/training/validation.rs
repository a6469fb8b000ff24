//! Scores of a model on the validation split: mrr@in-batch(1000), ndcg and loss.

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use ledger::{Invalid, ensure};

use super::progress::{Scores, rounded};
use crate::{
    data::samples::{Sample, Samples},
    error::Result,
    graph::{
        model::{LOG_SCALE, Model, Rows, Side},
        ops::Ops,
        parameters::Parameters,
        tape::{DeviceParameters, Packed},
    },
    losses::loss::{LossConfig, Targets},
};

/// Queries that are ranked together.
pub const BLOCK: usize = 1000;
/// Rows that are encoded together.
const ENCODED: usize = 250;

/// A model with its weights, and what computes it.
pub struct Evaluated<'a, B: Backend> {
    pub model: &'a Model,
    pub parameters: &'a Parameters,
    pub ops: &'a dyn Ops<B>,
    pub device: &'a B::Device,
}

/// Rank of the own code of each query in its row of `cosines`, `[rows, count]`, counted from 1. Codes with the same cosine rank before it.
pub fn ranks(cosines: &[f32], count: usize) -> impl Iterator<Item = usize> + '_ {
    cosines.chunks(count).enumerate().map(|(row, scores)| scores.iter().filter(|&&score| score >= scores[row]).count().max(1))
}

/// NDCG of a query whose only relevant code has this rank.
fn gain(rank: usize) -> f64 {
    1.0 / (1.0 + rank as f64).log2()
}

/// Values of a tensor.
pub fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    tensor.into_data().convert::<f32>().to_vec::<f32>().map_err(|error| Invalid(format!("reading a tensor: {error:?}")).into())
}

impl<B: Backend> Evaluated<'_, B> {
    /// Vectors of length 1 of one side of some samples, `[rows, D]`, without gradients.
    pub fn vectors(&self, side: Side, samples: &Samples, rows: Range<usize>) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(rows.len() * self.model.width());
        for start in rows.clone().step_by(ENCODED) {
            let part = start..rows.end.min(start + ENCODED);
            let of = |sample: Sample| if side == Side::Query { sample.query } else { sample.code };
            let ids = part.clone().map(|row| samples.read_one(row).map(of)).collect::<Result<Vec<_>>>()?;
            let languages = samples.language[part].to_vec();
            let rows = Rows { packed: Packed::of_rows(ids), languages };
            let tables = self.model.table_rows(&[(side, &rows)]);
            let parameters = DeviceParameters::<B>::new(self.parameters, tables, false, DType::F32, self.device);
            all.extend(floats(self.model.encode(&parameters, self.ops, side, &rows, None))?);
        }
        Ok(all)
    }

    /// Scores of all samples.
    ///
    /// # Errors
    /// A weight is not finite, or a sample cannot be read.
    pub fn score(&self, loss: &LossConfig, samples: &Samples) -> Result<Scores> {
        let mut sums = Scores { loss: 0.0, mrr: 0.0, ndcg: 0.0 };
        let log_scale = f64::from(self.parameters.get(LOG_SCALE).values[0]);
        for start in (0..samples.len()).step_by(BLOCK) {
            let rows = start..samples.len().min(start + BLOCK);
            let count = rows.len();
            let side = |side| -> Result<Tensor<B, 2>> {
                let values = self.vectors(side, samples, rows.clone())?;
                Ok(Tensor::from_data(TensorData::new(values, [count, self.model.width()]), self.device))
            };
            let cosines = floats(side(Side::Query)?.matmul(side(Side::Code)?.transpose()))?;
            ensure!(cosines.iter().all(|cosine| cosine.is_finite()), "a weight is not finite: lower train.optimizer.learning-rate");
            let weights = vec![1.0; count];
            sums.loss += loss.evaluate(&cosines, log_scale, Targets { weights: &weights, grades: None }).loss * count as f64;
            for rank in ranks(&cosines, count) {
                sums.mrr += 1.0 / rank as f64;
                sums.ndcg += gain(rank);
            }
        }
        let count = samples.len().max(1) as f64;
        Ok(Scores { loss: rounded(sums.loss / count), mrr: rounded(sums.mrr / count), ndcg: rounded(sums.ndcg / count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_ties_and_gains_fall_with_the_logarithm() {
        let cosines = [0.5, 0.1, 0.9, 0.2, 0.2, 0.1, 0.3, 0.4, 0.4];
        assert_eq!(ranks(&cosines, 3).collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!([1, 3, 7].map(gain), [1.0, 0.5, 1.0 / 3.0]);
    }
}
