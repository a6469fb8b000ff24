//! The stages of a night, each in a process of its own.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use indexer::{Evaluate, Index};
use ledger::{AnyStage, Bundle, Manifest, Recordable, Registry, ReleaseId, Stage, StageSelection, Store, conf::Conf};
use serde_json::Value;

use super::night::StageRun;
use crate::{
    commands::build::{self, RunArgs},
    night_conf,
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
    /// Is no segment of an earlier index kept?
    pub rebuild_index: bool,
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
        let mut args = RunArgs {
            conf_is_given: self.conf_is_given,
            release: release.map(ToString::to_string),
            night: protocol == Protocol::Night,
            kept: self.kept.clone(),
            ..RunArgs::default()
        };
        let mut conf = build::configuration(self.registry, self.options, &args)?;
        let mut runs = Vec::new();
        let stages = self.registry.prepared(self.store, &conf, &StageSelection::Until(Evaluate::NAME.to_owned()))?;
        if let Some(text) = build::revised(&stages, self.store, &conf) {
            self.store.progress().message(&format!("nightly   {text}"));
        }
        for stage in stages {
            let (clock, cpu) = (Instant::now(), cpu_seconds());
            if stage.name() == Index::NAME && protocol == Protocol::Night && !self.rebuild_index {
                args.earlier = self.earlier(stage, &conf)?;
                conf = night_conf::with_earlier(conf, args.earlier.clone())?;
            }
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

    /// Key of the bundle whose segments the index keeps: the recorded bundle, or, where that is up to date, the bundle that it was built from.
    fn earlier(&self, stage: &dyn AnyStage, conf: &Conf) -> Result<Option<String>> {
        let is_extended = |manifest: &Manifest| manifest.stage == Index::NAME && manifest.revision == Index::REVISION;
        let recorded = self.store.current_manifest(Bundle::KIND).filter(|(_, manifest)| is_extended(manifest));
        let Some((_, manifest)) = recorded else { return Ok(None) };
        let before = manifest.config.get("earlier").and_then(Value::as_str).map(str::to_owned);
        let freshness = stage.freshness(self.store, &night_conf::with_earlier(conf.clone(), before.clone())?)?;
        Ok(if freshness.is_up_to_date() { before } else { Some(manifest.key) })
    }
}

/// CPU seconds of this process and of the processes that it waited for.
pub fn cpu_seconds() -> f64 {
    ledger::cpu_seconds() + ledger::cpu_seconds_of_children()
}
