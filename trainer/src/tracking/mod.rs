//! What a person watches: TensorBoard's files always and an MLflow server where the environment names one, both beside the
//! run and never part of its artifact (they hold clock times); and the checkpoint's page.

mod curve;
mod events;
mod mlflow;
mod projector;

use std::path::Path;

use anyhow::{Context, Result};
use ledger::Progress;
use serde_json::Value;

pub use curve::write_curve;
use events::EventFile;
use mlflow::Mlflow;
pub use projector::write_projector;

/// Where scalars go.
#[derive(Debug)]
pub struct Tracker<'a> {
    events: EventFile,
    mlflow: Option<Mlflow>,
    progress: &'a Progress,
}

impl<'a> Tracker<'a> {
    /// Opens both; `config` is written down when training begins.
    pub fn start(beside: &Path, config: &Value, begins: bool, progress: &'a Progress) -> Result<Self> {
        let mut events = EventFile::create(&beside.join("tensorboard"))?;
        if begins {
            events.text(0, "config", &format!("```json\n{}\n```", serde_json::to_string_pretty(config)?))?;
        }
        let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mlflow = Mlflow::of_environment(&name, config, beside).context("mlflow")?;
        Ok(Self { events, mlflow, progress })
    }

    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.scalars(step, values, self.progress);
        }
        self.events.scalars(step, values)
    }

    /// Sends what waits.
    pub fn flush(&mut self) {
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.flush(self.progress);
        }
    }

    pub fn finish(&mut self) {
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.finish(self.progress);
        }
    }
}
