//! MLflow: every training is spooled on disk ([`spool`]), whether or not a server is named; where `MLFLOW_TRACKING_URI`
//! names one, what is spooled is sent ([`delivery`]) while training goes on ([`background`]), after it, and by
//! `trainer sync` ([`sync`]). A server that does not answer is said once, and stops nothing.

mod artifacts;
mod background;
mod delivery;
mod model;
mod server;
mod spool;
mod sync;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::Result;
use ledger::{Artifact, Checkpoint, Commit, Encoder, Progress, Run, Store, WorkDir};
use serde_json::Value;

use background::{Background, LAST_WAIT};
use delivery::{Delivery, standing};
use server::Failure;
pub use server::Server;
use spool::{Begin, Entry, Spool, new_id, now_ms};
pub use spool::{Status, is_unsent};
pub use sync::sync;

/// A training on its way.
#[derive(Debug)]
pub struct Mlflow {
    spool: Spool,
    background: Option<Background>,
}

impl Mlflow {
    /// Begins or goes on with the spool of a run folder; `tags` say what is trained on, `config` becomes the parameters.
    pub fn start(of: &Run<'_>, config: &Value, tags: &BTreeMap<String, String>, begins: bool) -> Result<Self> {
        let (run, progress) = (&of.work_dir, of.progress);
        // A training that is only compared with itself is no news.
        let server = if of.is_rerun { None } else { Server::of_environment()? };
        let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut params = BTreeMap::new();
        flatten("", config, &mut params);
        let tags = tags.clone().into_iter().chain(source(&name)).collect();
        let begin = Begin { id: new_id(&name)?, name, time: now_ms(), params, tags };
        let spool = Spool::start(run, begin, begins)?;
        let background = match (server, &spool.said.begin) {
            (Some(server), Some(begin)) => Some(Background::start(server, run.join(spool::FOLDER), begin.clone(), *progress)?),
            _ => None,
        };
        Ok(Self { spool, background })
    }

    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.spool.scalars(step, values)
    }

    /// Has sent what is there, soon.
    pub fn flush(&self) {
        if let Some(background) = &self.background {
            background.look();
        }
    }

    pub fn finish(mut self, status: Status) -> Result<()> {
        self.spool.write(Entry::End { status, time: now_ms() })?;
        if let Some(background) = self.background {
            background.end();
        }
        Ok(())
    }
}

/// What the MLflow page shows as a run's source. No name of a person or of a machine.
fn source(name: &str) -> BTreeMap<String, String> {
    let commit = Commit::here();
    let (stage, key) = name.split_once('-').unwrap_or((name, ""));
    let mut tags = vec![
        ("codenets.stage", stage.to_owned()),
        ("codenets.key", key.to_owned()),
        ("codenets.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("mlflow.source.name", format!("trainer {stage}")),
        ("mlflow.source.type", "LOCAL".to_owned()),
    ];
    if let Some(id) = commit.id.clone() {
        tags.push(("mlflow.source.git.commit", id));
        tags.push(("mlflow.source.git.dirty", commit.dirty.to_string()));
    }
    tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// `{"a": {"b": 1}}` as the parameter `a.b`.
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

/// The folder of a training's spool, by the key of its checkpoint.
fn folder(store: &Store, key: &str) -> PathBuf {
    WorkDir::of(store.root(), "train", key).path.join(spool::FOLDER)
}

/// Spools a recorded checkpoint's files, unless they are, and sends what the server lacks.
pub fn record_checkpoint(store: &Store, checkpoint: &Artifact<Checkpoint>) -> Result<()> {
    let server = Server::of_environment()?;
    let key = &checkpoint.manifest().key;
    let folder = folder(store, key);
    let Some(mut spool) = Spool::open(&folder)? else { return Ok(()) };
    for file in ["context.json", "report.html", "encoder.json"] {
        let name = format!("checkpoint/{file}");
        if !spool.said.artifacts.contains(&name) {
            spool.write(Entry::Artifact { name, file: PathBuf::from("checkpoint").join(key).join(file) })?;
        }
    }
    deliver(&folder, spool, server.as_ref(), store.progress())
}

/// The same for a recorded encoder: it becomes a version of the registered model.
pub fn record_encoder(store: &Store, encoder: &Artifact<Encoder>) -> Result<()> {
    let server = Server::of_environment()?;
    let Some(key) = encoder.manifest().inputs.get("checkpoint").and_then(|input| input.key.as_ref()) else { return Ok(()) };
    let folder = folder(store, key);
    let Some(mut spool) = Spool::open(&folder)? else {
        if server.is_some() {
            let run = folder.display();
            store.progress().message(&format!("mlflow    no model version: its training left no {run} (only `train` makes it)"));
        }
        return Ok(());
    };
    if !spool.said.encoders.contains(&encoder.manifest().key) {
        spool.write(Entry::Model(model::exported(encoder)?))?;
    }
    deliver(&folder, spool, server.as_ref(), store.progress())
}

fn deliver(folder: &Path, spool: Spool, server: Option<&Server>, progress: &Progress) -> Result<()> {
    let (Some(server), Some(begin)) = (server, &spool.said.begin) else { return Ok(()) };
    if !spool::Reader::open(folder, standing(folder, server, begin).0)?.has_more()? {
        return Ok(());
    }
    // One that did not answer this process is left to the next one.
    if IS_DOWN.load(Ordering::Relaxed) {
        return Ok(());
    }
    // Where another process sends it, it has been sent.
    let Some(mut delivery) = Delivery::open(folder, server, begin)? else { return Ok(()) };
    tell(&delivery.send(server, Some(Instant::now() + LAST_WAIT), progress, None), progress);
    Ok(())
}

/// Whether the server did not answer when it was last asked.
static IS_DOWN: AtomicBool = AtomicBool::new(false);

/// Says what went wrong with a server; that it does not answer, once, until it has answered again.
fn tell(outcome: &Result<()>, progress: &Progress) {
    let Err(error) = outcome else { return IS_DOWN.store(false, Ordering::Relaxed) };
    let is_outage = matches!(Failure::of(error), Some(Failure::Unreachable { .. }));
    if !(is_outage && IS_DOWN.swap(true, Ordering::Relaxed)) {
        progress
            .message(&format!("mlflow    goes on without it: {error:#}; what it lacks is spooled, and sent later or by `trainer sync`"));
    }
}
