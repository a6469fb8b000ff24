//! Running a recorded stage again to compare the bytes.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{executor::external_inputs, freshness::Freshness, inputs::Inputs, stage::Stage};
use crate::{
    artifacts::recordable::Recordable,
    error::{Result, chain},
    store::artifact_store::{SCRATCH, Store},
};

/// The outcome of running a recorded stage again.
#[derive(Debug)]
pub enum RerunOutcome {
    /// No artifact of this stage is recorded.
    NotRecorded,
    /// The configuration, an input or the stage differs, so that other bytes are expected.
    Differs(Freshness),
    /// An input is not available locally: the reason.
    Lacks(String),
    /// The stage ran: number and bytes of its output files, and the files whose bytes differ from the record.
    Ran { files: usize, bytes: u64, other: Vec<PathBuf>, seconds: f64 },
}

impl Store {
    /// Runs a recorded stage again from its inputs, compares the bytes with the recorded artifact, and deletes the new output. No shard
    /// of the recorded artifact is reused.
    pub fn rerun<S: Stage>(&self, config: &S::Config) -> Result<RerunOutcome> {
        let _lock = self.lock()?;
        let Some((_, recorded)) = self.current_manifest(S::Output::KIND).filter(|(_, manifest)| manifest.stage == S::NAME) else {
            return Ok(RerunOutcome::NotRecorded);
        };
        for kind in S::Inputs::kinds() {
            let Some((dir, manifest)) = self.current_manifest(kind) else {
                return Ok(RerunOutcome::Lacks(format!("no {kind} is recorded")));
            };
            if let Err(error) = manifest.require_files(&dir) {
                return Ok(RerunOutcome::Lacks(chain(&error)));
            }
        }
        // An external input may not exist any more.
        if let Err(error) = external_inputs::<S>(config) {
            return Ok(RerunOutcome::Lacks(chain(&error)));
        }
        let request = self.request::<S>(config)?;
        let why = self.compare::<S>(&request)?;
        if !why.is_up_to_date() {
            return Ok(RerunOutcome::Differs(why));
        }
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(self.root.join(S::Output::KIND))?;
        let work_dir = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.root)?;
        let clock = Instant::now();
        let output = self.run_in::<S>(config, &request, scratch.path(), work_dir.path().to_owned(), None, true)?;
        let paths = recorded.outputs.keys().chain(output.outputs.keys().filter(|path| !recorded.outputs.contains_key(*path)));
        let other = paths.filter(|path| recorded.outputs.get(*path) != output.outputs.get(*path)).cloned().collect();
        let bytes = output.outputs.values().map(|file| file.bytes).sum();
        Ok(RerunOutcome::Ran { files: output.outputs.len(), bytes, other, seconds: clock.elapsed().as_secs_f64() })
    }

    /// Runs a stage from the current inputs into a folder that is deleted after `inspect` has read it. Nothing is recorded.
    pub fn built<S: Stage, T>(&self, config: &S::Config, inspect: impl FnOnce(&Path) -> T) -> Result<T> {
        let _lock = self.lock()?;
        let request = self.request::<S>(config)?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(self.root.join(S::Output::KIND))?;
        let work_dir = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.root)?;
        self.run_in::<S>(config, &request, scratch.path(), work_dir.path().to_owned(), None, true)?;
        Ok(inspect(scratch.path()))
    }
}
