//! A spool to one server: each entry as the calls it stands for, and on disk how far they came
//! (`mlflow/<digest of the address>.json`). A call may be made twice (after a kill, or where an answer was lost), and is
//! made so that the second changes nothing.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use ledger::{Bar, Digest, Progress, is_plain, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    artifacts::Destination,
    model,
    server::{Failure, RemoteRun, Server, metric},
    spool::{Begin, Content, Entry, Reader, Status},
};

/// The tag by which a server's run is found again.
const SPOOL: &str = "codenets.spool";

/// How much of a spool a server has.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Position {
    /// For those who look.
    server: String,
    spool: String,
    run_id: String,
    artifact_uri: String,
    /// Of the spool, all in whole lines.
    bytes: u64,
}

/// What was sent.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Sent {
    pub metrics: u64,
    pub artifacts: u64,
    pub versions: u64,
}

/// One spool on its way; one process at a time sends it.
#[derive(Debug)]
pub struct Delivery {
    folder: PathBuf,
    path: PathBuf,
    position: Position,
    waiting: Vec<Value>,
    pub sent: Sent,
    _lock: File,
}

fn digest(server: &Server) -> String {
    Digest::of_bytes(server.address.as_bytes()).short()
}

/// The recorded position; one that is of another spool, or damaged, is none.
fn position(folder: &Path, server: &Server, begin: &Begin) -> Position {
    let recorded = fs::read(folder.join(format!("{}.json", digest(server)))).ok();
    let recorded = recorded.and_then(|bytes| serde_json::from_slice::<Position>(&bytes).ok());
    let fresh = || Position { server: server.address.clone(), spool: begin.id.clone(), ..Position::default() };
    recorded.filter(|position| position.spool == begin.id).unwrap_or_else(fresh)
}

/// Bytes of the spool that a server has, and its id of the run.
pub fn standing(folder: &Path, server: &Server, begin: &Begin) -> (u64, String) {
    let position = position(folder, server, begin);
    (position.bytes, position.run_id)
}

impl Delivery {
    /// None where another process sends this spool to this server.
    pub fn open(folder: &Path, server: &Server, begin: &Begin) -> Result<Option<Self>> {
        let lock_path = folder.join(format!("{}.lock", digest(server)));
        let context = || format!("locking {}", lock_path.display());
        let lock = File::create(&lock_path).with_context(context)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        Ok(Some(Self {
            folder: folder.to_owned(),
            path: folder.join(format!("{}.json", digest(server))),
            position: position(folder, server, begin),
            waiting: Vec::new(),
            sent: Sent::default(),
            _lock: lock,
        }))
    }

    pub fn run_id(&self) -> &str {
        &self.position.run_id
    }

    /// Sends what there is, until `until` at the latest.
    pub fn send(&mut self, server: &Server, until: Option<Instant>, progress: &Progress, bar: Option<&Bar>) -> Result<()> {
        let mut reader = Reader::open(&self.folder, self.position.bytes)?;
        self.waiting.clear();
        let mut lines = 0;
        while until.is_none_or(|until| Instant::now() < until) {
            let before = reader.offset;
            let Some(entry) = reader.next()? else { break };
            lines += 1;
            match entry {
                Entry::Metrics { step, time, values } => {
                    self.waiting.extend(values.iter().map(|(name, value)| metric(name, *value, time, step)));
                    if !Server::is_full(&self.waiting) {
                        continue;
                    }
                    self.send_metrics(server)?;
                }
                entry => {
                    if !self.waiting.is_empty() {
                        self.send_metrics(server)?;
                        self.keep(before)?;
                    }
                    self.perform(server, entry, progress).map_err(|error| self.explain(error))?;
                }
            }
            self.keep(reader.offset)?;
            if let Some(bar) = bar {
                bar.add(std::mem::take(&mut lines));
            }
        }
        self.send_metrics(server)?;
        if reader.damaged > 0 {
            progress.message(&format!("mlflow    {} lines of {} cannot be read and are left out", reader.damaged, self.folder.display()));
        }
        if reader.offset > self.position.bytes {
            self.keep(reader.offset)?;
        }
        if let Some(bar) = bar {
            bar.add(lines);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: u64) -> Result<()> {
        self.position.bytes = bytes;
        write_atomically(&self.path, &serde_json::to_vec_pretty(&self.position)?)
    }

    fn send_metrics(&mut self, server: &Server) -> Result<()> {
        let metrics = std::mem::take(&mut self.waiting);
        if metrics.is_empty() {
            return Ok(());
        }
        let count = metrics.len() as u64;
        server.log_metrics(self.run()?, metrics).map_err(|error| self.explain(error))?;
        self.sent.metrics += count;
        Ok(())
    }

    fn run(&self) -> Result<&str> {
        ensure!(!self.position.run_id.is_empty(), "{} does not begin with its training: remove this folder", self.folder.display());
        Ok(&self.position.run_id)
    }

    /// A run that somebody removed from the server.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let is_gone = matches!(Failure::of(&error), Some(Failure::Refused { code, text, .. })
            if !self.position.run_id.is_empty() && (code == "RESOURCE_DOES_NOT_EXIST" || text.contains("must be in the 'active' state")));
        if !is_gone {
            return error;
        }
        let (run, path) = (&self.position.run_id, self.path.display());
        error.context(format!("the server no longer has run {run}: restore it there, or remove {path} to send it anew"))
    }

    fn perform(&mut self, server: &Server, entry: Entry, progress: &Progress) -> Result<()> {
        match entry {
            Entry::Begin(begin) => {
                let run = server.run(&begin.name, begin.time, (SPOOL, &begin.id))?;
                server.log_tags(&run.id, &begin.tags)?;
                server.log_params(&run.id, &begin.params)?;
                (self.position.run_id, self.position.artifact_uri) = (run.id, run.artifacts);
            }
            Entry::Resume { .. } => server.update_run(self.run()?, "RUNNING", None)?,
            Entry::End { status, time } => {
                let status = match status {
                    Status::Finished => "FINISHED",
                    Status::Failed => "FAILED",
                    Status::Killed => "KILLED",
                };
                server.update_run(self.run()?, status, Some(time))?;
            }
            Entry::Artifact { name, file } => {
                self.run()?;
                self.put(server, &name, file, progress)?;
            }
            Entry::Model(exported) => {
                let run = RemoteRun { id: self.run()?.to_owned(), artifacts: self.position.artifact_uri.clone() };
                let registered = model::register(server, &run, &exported, self.data()?)?;
                self.sent.versions += u64::from(registered.is_new);
                progress.message(&format!("mlflow    {}", registered.note));
            }
            Entry::Metrics { .. } => {}
        }
        Ok(())
    }

    fn put(&mut self, server: &Server, name: &str, file: PathBuf, progress: &Progress) -> Result<()> {
        let destination = Destination::of(&self.position.artifact_uri, &server.address);
        let data = self.data()?;
        ensure!(is_plain(&file) && is_plain(Path::new(name)), "a spool names a file {}", file.display());
        if let Destination::Nowhere(why) = &destination {
            progress.message(&format!("mlflow    leaves out {name}: {why}"));
        } else if !data.join(&file).is_file() {
            progress.message(&format!("mlflow    leaves out {name}: {} is no longer there", data.join(&file).display()));
        } else {
            destination.put(server, name, &Content::File(file), data)?;
            self.sent.artifacts += 1;
        }
        Ok(())
    }

    /// The data folder: a spool lies in `DATA/runs/<run>/mlflow`.
    fn data(&self) -> Result<&Path> {
        self.folder.ancestors().nth(3).context("a spool lies below a data folder")
    }
}
