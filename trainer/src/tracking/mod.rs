//! What a person watches: TensorBoard's files and a spool for MLflow, both beside the run and never part of its artifact
//! (they hold clock times); and the checkpoint's page.

mod curve;
mod events;
mod mlflow;
mod projector;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ledger::Run;
use serde_json::Value;

pub use curve::write_curve;
use events::EventFile;
use mlflow::{Mlflow, Status};
pub use mlflow::{Server, is_unsent, record_checkpoint, record_encoder, sync};
pub use projector::write_projector;

/// Where scalars go.
#[derive(Debug)]
pub struct Tracker {
    events: EventFile,
    mlflow: Mlflow,
}

impl Tracker {
    /// Opens both; `config` is written down when training begins, `tags` say what is trained on.
    pub fn start(run: &Run<'_>, config: &Value, tags: &BTreeMap<String, String>, begins: bool) -> Result<Self> {
        let mut events = EventFile::create(&run.work_dir.join("tensorboard"))?;
        if begins {
            events.text(0, "config", &format!("```json\n{}\n```", serde_json::to_string_pretty(config)?))?;
        }
        let mlflow = Mlflow::start(run, config, tags, begins).context("mlflow")?;
        Ok(Self { events, mlflow })
    }

    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.mlflow.scalars(step, values)?;
        self.events.scalars(step, values)
    }

    /// An epoch is done: what waits may be sent.
    pub fn flush(&self) {
        self.mlflow.flush();
    }

    pub fn finish(self, is_trained: bool) -> Result<()> {
        self.mlflow.finish(if is_trained { Status::Finished } else { Status::Failed })
    }
}
