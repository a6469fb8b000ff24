//! The training loop: steps over batches, scores after each epoch, checkpoints, and early stopping.

use std::{collections::BTreeSet, time::Instant};

use burn::tensor::backend::AutodiffBackend;
use ledger::{Bar, Run, bail};

use super::{
    checkpoints::{Checkpoints, State},
    optimizer::Gradients,
    stepper::{BatchResult, Stepper},
    validation::Evaluated,
};
use crate::{
    config::Metric,
    data::{batches::BatchSource, plan, samples::Samples},
    error::{Context, Result},
    graph::model::LOG_SCALE,
    tracking::tracker::Tracker,
};

/// A training and the data that it reads.
pub struct TrainLoop<'a, B: AutodiffBackend> {
    pub stepper: Stepper<'a, B>,
    pub source: BatchSource<'a>,
    pub valid: &'a Samples,
    pub run: &'a Run<'a>,
}

/// Time that this process spent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub pairs: u64,
    /// Seconds of steps.
    pub step_s: f64,
    /// Seconds that steps waited for batches.
    pub wait_s: f64,
    /// Seconds of validation.
    pub validation_s: f64,
}

/// Gradients of the batches of a step that is not complete yet.
type Accumulated = Option<(Gradients, usize)>;

impl<B: AutodiffBackend> TrainLoop<'_, B> {
    /// Trains from `state` to the last epoch, or until no epoch was better for the configured number of epochs.
    ///
    /// # Errors
    /// A loss, gradient or weight is not finite, or a file cannot be read or written.
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
            self.run.progress.message(&format!("train     stops early: the last {} epochs were not better", state.progress.stale));
        }
        Ok(timing)
    }

    fn epoch(&self, state: &mut State, checkpoints: &Checkpoints, tracker: &mut Tracker, bar: &Bar, timing: &mut Timing) -> Result<()> {
        let config = self.stepper.config;
        let epoch = state.progress.epoch;
        let plan = plan::epoch(self.source.samples, &config.batch, config.seed, epoch);
        let total = self.stepper.steps(plan.len()) * config.epochs;
        let mut accumulated: Accumulated = None;
        let first = state.progress.batch;
        let waited = self.source.stream(epoch, &plan, first, |number, batch| {
            let clock = Instant::now();
            let (gradients, result) = self.stepper.gradients(state, &batch, epoch * plan.len() as u64 + number as u64)?;
            let running = &mut state.progress.running;
            running.pairs += result.pairs as u64;
            running.loss += result.loss * result.pairs as f64;
            running.reciprocal_ranks += result.reciprocal_ranks;
            let (gradients, batches) = add(accumulated.take(), gradients);
            timing.pairs += result.pairs as u64;
            bar.add(result.pairs as u64);
            let is_last = number + 1 == plan.len();
            if batches < config.batch.accumulate && !is_last {
                accumulated = Some((gradients, batches));
                return Ok(());
            }
            let norm = self.stepper.step(state, gradients, batches, total)?;
            state.progress.batch = number + 1;
            bar.note(format!("epoch {}/{} loss {:.3} mrr {:.3}", epoch + 1, config.epochs, result.loss, mrr(&result)));
            track_step(state, &result, norm, clock, tracker)?;
            if state.progress.step.is_multiple_of(config.checkpoints.every_steps) && !is_last {
                checkpoints.save(state)?;
            }
            Ok(())
        })?;
        timing.wait_s += waited.as_secs_f64();
        Ok(())
    }

    /// Scores the epoch, saves its weights if they are the best, and writes a checkpoint.
    fn finish_epoch(&self, state: &mut State, checkpoints: &Checkpoints, tracker: &mut Tracker) -> Result<()> {
        let (config, stepper) = (self.stepper.config, &self.stepper);
        if let Some(name) = state.parameters.not_finite() {
            bail!("the parameter {name} has a value that is not finite: lower train.optimizer.learning-rate");
        }
        let evaluated = Evaluated { model: stepper.model, parameters: &state.parameters, ops: stepper.ops, device: &stepper.device };
        let valid = evaluated.score(&config.loss, self.valid)?;
        let scale = f64::from(state.parameters.get(LOG_SCALE).values[0]).exp();
        let epoch = state.progress.add_epoch(valid, scale);
        self.run.progress.message(&format!(
            "train     epoch {}/{}: loss {:.4}, in-batch mrr {:.4}, gradient {:.3}; valid loss {:.4}, mrr@in-batch(1000) {:.4}, ndcg {:.4}",
            epoch.epoch + 1,
            config.epochs,
            epoch.loss,
            epoch.train_mrr,
            epoch.gradient_norm,
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
                ("epoch/loss", epoch.loss),
                ("epoch/mrr", epoch.train_mrr),
                ("epoch/scale", epoch.scale),
            ],
        )?;
        tracker.flush();
        state.progress.stale += 1;
        let metrics: BTreeSet<Metric> = config.checkpoints.best_by.iter().copied().chain([config.stop.metric]).collect();
        for metric in metrics {
            if state.progress.is_best(metric, valid) {
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

fn mrr(result: &BatchResult) -> f64 {
    result.reciprocal_ranks / result.pairs as f64
}

/// Adds the gradients of a batch to those of the batches before it; returns the sum and the number of batches.
fn add(accumulated: Accumulated, gradients: Gradients) -> (Gradients, usize) {
    match accumulated {
        None => (gradients, 1),
        Some((mut sum, batches)) => {
            sum.add(gradients);
            (sum, batches + 1)
        }
    }
}

fn track_step(state: &State, result: &BatchResult, norm: f64, clock: Instant, tracker: &mut Tracker) -> Result<()> {
    tracker.scalars(
        state.progress.step,
        &[
            ("train/loss", result.loss),
            ("train/mrr", mrr(result)),
            ("train/learning-rate", state.progress.running.learning_rate),
            ("train/gradient-norm", norm),
            ("train/samples-per-s", result.pairs as f64 / clock.elapsed().as_secs_f64()),
        ],
    )
}
