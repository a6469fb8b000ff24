//! The loop: batches to gradients to steps, an epoch's scores, checkpoints, and when to stop.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use burn::tensor::{DType, Tensor, TensorData, backend::AutodiffBackend};
use ledger::{Bar, Run};

use crate::{
    checkpoints::{Best, Checkpoints, Epoch, Progress, Running, State, recorded},
    config::{Config, Metric},
    data::{
        batches::{Batch, Source},
        plan,
        samples::Samples,
    },
    losses::Judgement,
    model::{LOG_SCALE, Model, Side},
    ops::Ops,
    optimizer::Gradients,
    tape::Bound,
    tracking::Tracker,
    validation,
};

/// What a step needs beside its state and its batch.
pub struct Stepper<'a, B: AutodiffBackend> {
    pub config: &'a Config,
    pub model: &'a Model,
    pub ops: &'a dyn Ops<B>,
    pub device: B::Device,
}

/// What a run of the loop reads.
pub struct Fit<'a, B: AutodiffBackend> {
    pub stepper: Stepper<'a, B>,
    pub source: Source<'a>,
    pub valid: &'a Samples,
    pub run: &'a Run<'a>,
}

/// How long things took in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub pairs: u64,
    pub step_s: f64,
    pub wait_s: f64,
    pub validation_s: f64,
}

/// One batch's part of a step.
#[derive(Debug)]
pub struct Part {
    pub loss: f64,
    reciprocal_ranks: f64,
    pairs: usize,
}

impl<B: AutodiffBackend> Stepper<'_, B> {
    /// Steps of an epoch of so many batches.
    fn steps(&self, batches: usize) -> u64 {
        batches.div_ceil(self.config.batch.accumulate) as u64
    }

    /// Value and gradients of one batch. The loss gives its gradient by the cosines; `Σ cosine · gradient` carries it
    /// back through the encoders.
    pub fn gradients(&self, state: &State, batch: &Batch, number: u64) -> Result<(Gradients, Part)> {
        let rows = self.model.table_rows(&[(Side::Query, &batch.query), (Side::Code, &batch.code)]);
        let bound = Bound::<B>::new(&state.parameters, rows, true, DType::F32, &self.device);
        let seed = |side: u64| Some(self.config.seed.wrapping_add((2 * number + side + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let query = self.model.encode(&bound, self.ops, Side::Query, &batch.query, seed(0));
        let code = self.model.encode(&bound, self.ops, Side::Code, &batch.code, seed(1));
        let cosines = query.matmul(code.transpose());
        let values = validation::floats(cosines.clone())?;
        let log_scale = f64::from(state.parameters.get(LOG_SCALE).values[0]);
        let judgement = Judgement { weights: &batch.weights, grades: batch.grades.as_deref() };
        let outcome = self.config.loss.evaluate(&values, log_scale, judgement);
        let count = batch.weights.len();
        ensure!(
            outcome.loss.is_finite() && outcome.gradient.iter().all(|slope| slope.is_finite()),
            "the loss is {} at step {}: lower train.optimizer.learning-rate, or set train.optimizer.max-gradient-norm",
            outcome.loss,
            state.progress.step
        );
        let slopes = Tensor::<B, 2>::from_data(TensorData::new(outcome.gradient, [count, count]), &self.device);
        let tape = (cosines * slopes).sum().backward();
        let mut gradients = Gradients::default();
        for (name, tensor) in &bound.vectors {
            if let Some(gradient) = tensor.grad(&tape) {
                gradients.dense.insert(name.clone(), validation::floats(gradient)?);
            }
        }
        for (name, tensor) in &bound.matrices {
            if let Some(gradient) = tensor.grad(&tape) {
                let values = validation::floats(gradient)?;
                match bound.rows.get(name) {
                    Some(rows) => drop(gradients.rows.insert(name.clone(), (rows.clone(), values))),
                    None => drop(gradients.dense.insert(name.clone(), values)),
                }
            }
        }
        if self.config.loss.scale().1 {
            gradients.dense.insert(LOG_SCALE.to_owned(), vec![outcome.log_scale_gradient as f32]);
        }
        let reciprocal_ranks = validation::ranks(&values, count).map(|rank| 1.0 / rank as f64).sum();
        Ok((gradients, Part { loss: outcome.loss, reciprocal_ranks, pairs: count }))
    }

    /// Applies the gradients of `batches` batches; returns their length before clipping.
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

impl<B: AutodiffBackend> Fit<'_, B> {
    /// Trains from `state` to the end.
    pub fn run(&self, state: &mut State, checkpoints: &Checkpoints, tracker: &mut Tracker) -> Result<Timing> {
        let config = self.stepper.config;
        let pairs = self.source.samples.len() as u64;
        let bar = self.run.progress.bar("train", pairs * config.epochs, "pairs");
        bar.add(pairs * state.progress.epoch + state.progress.running.pairs);
        let mut timing = Timing::default();
        if config.epochs == 0 && state.progress.epoch == 0 {
            self.finish_epoch(state, checkpoints, tracker)?;
        }
        while state.progress.epoch < config.epochs && state.progress.stale < config.stop.patience.max(1) {
            let clock = Instant::now();
            self.epoch(state, checkpoints, tracker, &bar, &mut timing)?;
            timing.step_s += clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            self.finish_epoch(state, checkpoints, tracker)?;
            timing.validation_s += clock.elapsed().as_secs_f64();
        }
        bar.finish();
        if state.progress.epoch < config.epochs {
            self.run.progress.message(&format!("train     stops: no better epoch for {}", state.progress.stale));
        }
        Ok(timing)
    }

    fn epoch(&self, state: &mut State, checkpoints: &Checkpoints, tracker: &mut Tracker, bar: &Bar, timing: &mut Timing) -> Result<()> {
        let config = self.stepper.config;
        let epoch = state.progress.epoch;
        let plan = plan::epoch(self.source.samples, &config.batch, config.seed, epoch);
        let total = self.stepper.steps(plan.len()) * config.epochs;
        let mut waiting: Option<(Gradients, usize)> = None;
        let first = state.progress.batch;
        let waited = self.source.stream(epoch, &plan, first, |number, batch| {
            let clock = Instant::now();
            let (gradients, part) = self.stepper.gradients(state, &batch, epoch * plan.len() as u64 + number as u64)?;
            let running = &mut state.progress.running;
            running.pairs += part.pairs as u64;
            running.loss += part.loss * part.pairs as f64;
            running.reciprocal_ranks += part.reciprocal_ranks;
            let (gradients, batches) = match waiting.take() {
                None => (gradients, 1),
                Some((mut sum, batches)) => {
                    sum.add(gradients);
                    (sum, batches + 1)
                }
            };
            timing.pairs += part.pairs as u64;
            bar.add(part.pairs as u64);
            if batches < config.batch.accumulate && number + 1 < plan.len() {
                waiting = Some((gradients, batches));
                return Ok(());
            }
            let norm = self.stepper.step(state, gradients, batches, total)?;
            state.progress.batch = number + 1;
            let mrr = part.reciprocal_ranks / part.pairs as f64;
            bar.note(format!("epoch {}/{} loss {:.3} mrr {mrr:.3}", epoch + 1, config.epochs, part.loss));
            let rate = state.progress.running.learning_rate;
            let speed = part.pairs as f64 / clock.elapsed().as_secs_f64();
            tracker.scalars(
                state.progress.step,
                &[
                    ("train/loss", part.loss),
                    ("train/mrr", mrr),
                    ("train/learning-rate", rate),
                    ("train/gradient-norm", norm),
                    ("train/samples-per-s", speed),
                ],
            )?;
            if state.progress.step.is_multiple_of(config.checkpoints.every_steps) && number + 1 < plan.len() {
                checkpoints.save(state)?;
            }
            Ok(())
        })?;
        timing.wait_s += waited.as_secs_f64();
        Ok(())
    }

    /// Scores the epoch, keeps its weights where they are the best, and writes down where training stands.
    fn finish_epoch(&self, state: &mut State, checkpoints: &Checkpoints, tracker: &mut Tracker) -> Result<()> {
        let config = self.stepper.config;
        if let Some(name) = state.parameters.not_finite() {
            anyhow::bail!("{name} is no longer finite: lower train.optimizer.learning-rate");
        }
        let valid =
            validation::score(self.stepper.model, &state.parameters, self.stepper.ops, &self.stepper.device, &config.loss, self.valid)?;
        let running = std::mem::take(&mut state.progress.running);
        let record = record(&running, state.progress.epoch, valid, &state.parameters.get(LOG_SCALE).values);
        self.run.progress.message(&format!(
            "train     epoch {}/{}: loss {:.4}, in-batch mrr {:.4}, gradient {:.3}; valid loss {:.4}, mrr@in-batch(1000) {:.4}, ndcg {:.4}",
            record.epoch + 1,
            config.epochs,
            record.loss,
            record.train_mrr,
            record.gradient_norm,
            valid.loss,
            valid.mrr,
            valid.ndcg
        ));
        tracker.scalars(
            state.progress.step,
            &[
                ("valid/loss", valid.loss),
                ("valid/mrr", valid.mrr),
                ("valid/ndcg", valid.ndcg),
                ("epoch/loss", record.loss),
                ("epoch/mrr", record.train_mrr),
                ("epoch/scale", record.scale),
            ],
        )?;
        tracker.flush();
        state.progress.curve.push(record);
        state.progress.stale += 1;
        let metrics: BTreeMap<Metric, ()> =
            config.checkpoints.best_by.iter().chain([&config.stop.metric]).map(|&metric| (metric, ())).collect();
        for metric in metrics.into_keys() {
            let merit = valid.merit(metric);
            if state.progress.best.get(&metric).is_none_or(|best| merit > best.merit) {
                state.progress.best.insert(metric, Best { epoch: state.progress.epoch, merit });
                checkpoints.save_best(metric, &state.parameters)?;
                if metric == config.stop.metric {
                    state.progress.stale = 0;
                }
            }
        }
        state.progress.epoch += 1;
        state.progress.batch = 0;
        checkpoints.save(state).context("writing a checkpoint")
    }
}

fn record(running: &Running, epoch: u64, valid: validation::Scores, log_scale: &[f32]) -> Epoch {
    let (pairs, steps) = (running.pairs.max(1) as f64, running.steps.max(1) as f64);
    Epoch {
        epoch,
        loss: recorded(running.loss / pairs),
        train_mrr: recorded(running.reciprocal_ranks / pairs),
        valid,
        learning_rate: recorded(running.learning_rate),
        gradient_norm: recorded(running.gradient_norm / steps),
        clipped: running.clipped,
        scale: recorded(f64::from(log_scale[0]).exp()),
    }
}

impl Progress {
    /// The curve, the steps and the best epochs, as a checkpoint records them.
    pub fn best_epoch(&self, metric: Metric) -> u64 {
        self.best.get(&metric).map_or(0, |best| best.epoch)
    }
}
