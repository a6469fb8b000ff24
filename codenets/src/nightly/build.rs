//! The stages of a night, each in a process of its own.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use indexer::Evaluate;
use ledger::{Registry, ReleaseId, Stage, StageSelection, Store};

use super::night::StageRun;
use crate::{
    commands::build::{self, RunArgs},
    options::Options,
};

/// Runs stages with a release of the encoder, or with a training.
pub struct Build<'a> {
    pub registry: &'a Registry,
    pub options: &'a Options,
    pub conf_is_given: bool,
    pub store: &'a Store,
    /// File with the repositories that are not read.
    pub kept: Option<PathBuf>,
}

/// How a build is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// As the configuration says.
    Full,
    /// A sample of the queries, and no curve of vector search.
    Night,
}

impl Build<'_> {
    /// Runs every stage up to `evaluate` that is not up to date.
    pub fn run(&self, release: Option<&ReleaseId>, protocol: Protocol) -> Result<Vec<StageRun>> {
        let args = RunArgs {
            conf_is_given: self.conf_is_given,
            release: release.map(ToString::to_string),
            night: protocol == Protocol::Night,
            kept: self.kept.clone(),
            ..RunArgs::default()
        };
        let conf = build::configuration(self.registry, self.options, &args)?;
        let mut runs = Vec::new();
        for stage in self.registry.prepared(self.store, &conf, &StageSelection::Until(Evaluate::NAME.to_owned()))? {
            let (clock, cpu) = (Instant::now(), cpu_seconds());
            let freshness = stage.freshness(self.store, &conf)?;
            let is_up_to_date = freshness.is_up_to_date();
            let own_process = self.options.is_program && !is_up_to_date;
            build::run_stage(stage, self.store, &conf, own_process.then(|| build::arguments(stage.name(), self.options, &args)))?;
            runs.push(StageRun {
                stage: stage.name().to_owned(),
                ran: !is_up_to_date,
                why: freshness.to_string(),
                wall_s: clock.elapsed().as_secs_f64(),
                cpu_s: cpu_seconds() - cpu,
            });
        }
        Ok(runs)
    }
}

/// CPU seconds of this process and of the processes that it waited for.
pub fn cpu_seconds() -> f64 {
    ledger::cpu_seconds() + ledger::cpu_seconds_of_children()
}
