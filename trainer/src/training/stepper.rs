//! One training step: a batch to gradients, gradients to new weights.

use burn::tensor::{DType, Tensor, TensorData, backend::AutodiffBackend};
use ledger::ensure;

use super::{
    checkpoints::State,
    optimizer::Gradients,
    validation::{floats, ranks},
};
use crate::{
    config::Config,
    data::batches::Batch,
    error::Result,
    graph::{
        model::{LOG_SCALE, Model, Side},
        ops::Ops,
        tape::DeviceParameters,
    },
    losses::loss::Targets,
};

/// What a step needs besides its state and its batch.
pub struct Stepper<'a, B: AutodiffBackend> {
    pub config: &'a Config,
    pub model: &'a Model,
    pub ops: &'a dyn Ops<B>,
    pub device: B::Device,
}

/// Results of one batch of a step.
#[derive(Debug)]
pub struct BatchResult {
    /// Mean loss of the pairs.
    pub loss: f64,
    /// Sum over the queries of 1 / rank of the own code in the batch.
    pub reciprocal_ranks: f64,
    pub pairs: usize,
}

impl<B: AutodiffBackend> Stepper<'_, B> {
    /// Number of steps of an epoch with this number of batches.
    pub fn steps(&self, batches: usize) -> u64 {
        batches.div_ceil(self.config.batch.accumulate) as u64
    }

    /// Computes the loss and the gradients of batch `number` of the training. The loss returns its gradient by the cosines; the backward
    /// pass of `Σ cosine · gradient` propagates it through the encoders.
    ///
    /// # Errors
    /// The loss is not finite.
    pub fn gradients(&self, state: &State, batch: &Batch, number: u64) -> Result<(Gradients, BatchResult)> {
        let rows = self.model.table_rows(&[(Side::Query, &batch.query), (Side::Code, &batch.code)]);
        let parameters = DeviceParameters::<B>::new(&state.parameters, rows, true, DType::F32, &self.device);
        let seed = |side: u64| Some(self.config.seed.wrapping_add((2 * number + side + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let query = self.model.encode(&parameters, self.ops, Side::Query, &batch.query, seed(0));
        let code = self.model.encode(&parameters, self.ops, Side::Code, &batch.code, seed(1));
        let cosines = query.matmul(code.transpose());
        let values = floats(cosines.clone())?;
        let log_scale = f64::from(state.parameters.get(LOG_SCALE).values[0]);
        let targets = Targets { weights: &batch.weights, grades: batch.grades.as_deref() };
        let outcome = self.config.loss.evaluate(&values, log_scale, targets);
        let count = batch.weights.len();
        ensure!(
            outcome.loss.is_finite() && outcome.gradient.iter().all(|slope| slope.is_finite()),
            "the loss is {} at step {}: lower train.optimizer.learning-rate, or set train.optimizer.max-gradient-norm",
            outcome.loss,
            state.progress.step
        );
        let weights = Tensor::<B, 2>::from_data(TensorData::new(outcome.gradient, [count, count]), &self.device);
        let tape = (cosines * weights).sum().backward();
        let mut gradients = Gradients::default();
        for (name, tensor) in &parameters.vectors {
            if let Some(gradient) = tensor.grad(&tape) {
                gradients.dense.insert(name.clone(), floats(gradient)?);
            }
        }
        for (name, tensor) in &parameters.matrices {
            if let Some(gradient) = tensor.grad(&tape) {
                let values = floats(gradient)?;
                match parameters.rows.get(name) {
                    Some(rows) => drop(gradients.rows.insert(name.clone(), (rows.clone(), values))),
                    None => drop(gradients.dense.insert(name.clone(), values)),
                }
            }
        }
        if self.config.loss.scale().1 {
            gradients.dense.insert(LOG_SCALE.to_owned(), vec![outcome.log_scale_gradient as f32]);
        }
        let reciprocal_ranks = ranks(&values, count).map(|rank| 1.0 / rank as f64).sum();
        Ok((gradients, BatchResult { loss: outcome.loss, reciprocal_ranks, pairs: count }))
    }

    /// Applies the sum of the gradients of `batches` batches; `total` is the number of steps of the training. Returns the length of the
    /// gradient before clipping.
    ///
    /// # Errors
    /// The gradient is not finite.
    pub fn step(&self, state: &mut State, mut gradients: Gradients, batches: usize, total: u64) -> Result<f64> {
        if batches > 1 {
            gradients.scale(1.0 / batches as f32);
        }
        let norm = gradients.norm();
        ensure!(
            norm.is_finite(),
            "the gradient is not finite at step {}: lower train.optimizer.learning-rate, or set train.optimizer.max-gradient-norm",
            state.progress.step
        );
        if let Some(most) = self.config.optimizer.max_gradient_norm.filter(|&most| norm > most) {
            gradients.scale((most / norm) as f32);
            state.progress.running.clipped += 1;
        }
        let rate = self.config.schedule.rate(self.config.optimizer.learning_rate, total, state.progress.step);
        state.optimizer.step(rate, &mut state.parameters, &gradients);
        state.progress.step += 1;
        let running = &mut state.progress.running;
        running.learning_rate = rate;
        running.gradient_norm += norm;
        running.steps += 1;
        Ok(norm)
    }
}
