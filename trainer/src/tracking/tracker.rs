//! The tracking of one training.

use std::collections::BTreeMap;

use ledger::Run;
use serde_json::Value;

use super::{
    events::EventFile,
    mlflow::{spool::Status, tracked_run::TrackedRun},
};
use crate::error::{Context, Result};

/// Writes scalars to TensorBoard and to the MLflow spool.
#[derive(Debug)]
pub struct Tracker {
    events: EventFile,
    mlflow: TrackedRun,
}

impl Tracker {
    /// Opens both. `config` is written if the training is new (`is_new`) and not resumed; `tags` are tags of the MLflow run.
    pub fn start(run: &Run<'_>, config: &Value, tags: &BTreeMap<String, String>, is_new: bool) -> Result<Self> {
        let mut events = EventFile::create(&run.work_dir.join("tensorboard"))?;
        if is_new {
            events.text(0, "config", &format!("```json\n{}\n```", serde_json::to_string_pretty(config)?))?;
        }
        let mlflow = TrackedRun::start(run, config, tags, is_new).context("starting the mlflow spool")?;
        Ok(Self { events, mlflow })
    }

    /// Writes the values of a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.mlflow.scalars(step, values)?;
        self.events.scalars(step, values)
    }

    /// Uploads what is spooled, in the background.
    pub fn flush(&self) {
        self.mlflow.flush();
    }

    /// Ends the run, and waits a limited time for its upload.
    pub fn finish(self, is_trained: bool) -> Result<()> {
        self.mlflow.finish(if is_trained { Status::Finished } else { Status::Failed })
    }
}
