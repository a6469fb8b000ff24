//! The spool and the background upload of a running training.

use std::collections::BTreeMap;

use ledger::{Commit, Run};
use serde_json::Value;

use super::{
    background_upload::BackgroundUpload,
    server::Server,
    spool::{self, Begin, Entry, Spool, Status, new_id, now_ms},
};
use crate::error::Result;

/// A running training.
#[derive(Debug)]
pub struct TrackedRun {
    spool: Spool,
    background: Option<BackgroundUpload>,
}

impl TrackedRun {
    /// Starts the spool of a work directory, or continues it if the training is resumed (`is_new` is false). `config` becomes the parameters
    /// of the MLflow run, `tags` are added to its tags.
    pub fn start(of: &Run<'_>, config: &Value, tags: &BTreeMap<String, String>, is_new: bool) -> Result<Self> {
        let (run, progress) = (&of.work_dir, of.progress);
        // A rerun is compared and deleted, so that it is not uploaded.
        let server = if of.is_rerun { None } else { Server::of_environment()? };
        let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut params = BTreeMap::new();
        flatten("", config, &mut params);
        let tags = tags.clone().into_iter().chain(source(&name)).collect();
        let begin = Begin { id: new_id(), name, time: now_ms(), params, tags };
        let spool = Spool::start(run, begin, is_new)?;
        let background = match (server, &spool.state.begin) {
            (Some(server), Some(begin)) => Some(BackgroundUpload::start(server, run.join(spool::FOLDER), begin.clone(), *progress)?),
            _ => None,
        };
        Ok(Self { spool, background })
    }

    /// Spools the values of a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.spool.scalars(step, values)
    }

    /// Starts an upload of what is spooled.
    pub fn flush(&self) {
        if let Some(background) = &self.background {
            background.wake();
        }
    }

    /// Ends the run, and waits a limited time for its upload.
    pub fn finish(mut self, status: Status) -> Result<()> {
        self.spool.write(Entry::End { status, time: now_ms() })?;
        if let Some(background) = self.background {
            background.end();
        }
        Ok(())
    }
}

/// Tags of the source of a run, without names of persons and machines.
fn source(name: &str) -> BTreeMap<String, String> {
    let commit = Commit::built_from();
    let (stage, key) = name.split_once('-').unwrap_or((name, ""));
    let mut tags = vec![
        ("codenets.stage", stage.to_owned()),
        ("codenets.key", key.to_owned()),
        ("codenets.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("mlflow.source.name", "codenets run".to_owned()),
        ("mlflow.source.type", "LOCAL".to_owned()),
    ];
    if let Some(id) = commit.id.clone() {
        tags.push(("mlflow.source.git.commit", id));
        tags.push(("mlflow.source.git.dirty", commit.dirty.to_string()));
    }
    tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Adds `{"a": {"b": 1}}` as the parameter `a.b`.
fn flatten(name: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, out);
            }
        }
        value => {
            out.insert(name.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
}
