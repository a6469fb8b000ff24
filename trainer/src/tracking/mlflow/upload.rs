//! Upload of a spool to one server. The position in the spool is stored in `mlflow/<digest of the address>.json`. A call may be repeated
//! (after the process was killed, or if an answer was lost); the second call changes nothing.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Instant,
};

use ledger::{Bar, Digest, Progress, ensure, is_plain, write_atomically};
use serde::Serialize;
use serde_json::Value;

use super::{
    destination::Destination,
    model,
    server::{RemoteRun, Server, metric},
    spool::{Begin, Content, Entry, Position, Reader, Status},
};
use crate::error::{Context, Error, Result};

/// Tag that identifies the run of a spool on a server.
const SPOOL: &str = "codenets.spool";

/// Numbers of uploaded things.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Sent {
    pub metrics: u64,
    pub artifacts: u64,
    pub versions: u64,
}

/// Upload of one spool; one process at a time can have it.
#[derive(Debug)]
pub struct Upload {
    folder: PathBuf,
    path: PathBuf,
    position: Position,
    /// Metrics of the next request.
    pending: Vec<Value>,
    pub sent: Sent,
    _lock: File,
}

fn digest(server: &Server) -> String {
    Digest::of_bytes(server.address.as_bytes()).short()
}

/// The stored position; 0 where none is stored, or the stored one is damaged or belongs to another spool.
fn position(folder: &Path, server: &Server, begin: &Begin) -> Position {
    let new = || Position { server: server.address.clone(), spool: begin.id.clone(), ..Position::default() };
    Position::read(&position_file(folder, server)).filter(|position| position.spool == begin.id).unwrap_or_else(new)
}

fn position_file(folder: &Path, server: &Server) -> PathBuf {
    folder.join(format!("{}.json", digest(server)))
}

/// Number of bytes of the spool that a server has, and the id of the run on the server.
pub fn sync_position(folder: &Path, server: &Server, begin: &Begin) -> (u64, String) {
    let position = position(folder, server, begin);
    (position.bytes, position.run_id)
}

impl Upload {
    /// Starts an upload; none if another process uploads this spool to this server.
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
            path: position_file(folder, server),
            position: position(folder, server, begin),
            pending: Vec::new(),
            sent: Sent::default(),
            _lock: lock,
        }))
    }

    /// Id of the run on the server; empty before the first upload.
    pub fn run_id(&self) -> &str {
        &self.position.run_id
    }

    /// Uploads all entries that the server does not have, or as many as are possible until `until`.
    ///
    /// # Errors
    /// The spool cannot be read, or a call fails. The position of the last successful call is stored.
    pub fn send(&mut self, server: &Server, until: Option<Instant>, progress: &Progress, bar: Option<&Bar>) -> Result<()> {
        let mut reader = Reader::open(&self.folder, self.position.bytes)?;
        self.pending.clear();
        let mut lines = 0;
        while until.is_none_or(|until| Instant::now() < until) {
            let before = reader.offset;
            let Some(entry) = reader.next()? else { break };
            lines += 1;
            match entry {
                Entry::Metrics { step, time, values } => {
                    self.pending.extend(values.iter().map(|(name, value)| metric(name, *value, time, step)));
                    if !Server::is_full(&self.pending) {
                        continue;
                    }
                    self.send_metrics(server)?;
                }
                entry => {
                    if !self.pending.is_empty() {
                        self.send_metrics(server)?;
                        self.save_position(before)?;
                    }
                    self.perform(server, entry, progress).map_err(|error| self.explain(error))?;
                }
            }
            self.save_position(reader.offset)?;
            if let Some(bar) = bar {
                bar.add(std::mem::take(&mut lines));
            }
        }
        self.send_metrics(server)?;
        if reader.damaged > 0 {
            progress.message(&format!("mlflow    skips {} damaged lines of the spool in {}", reader.damaged, self.folder.display()));
        }
        if reader.offset > self.position.bytes {
            self.save_position(reader.offset)?;
        }
        if let Some(bar) = bar {
            bar.add(lines);
        }
        Ok(())
    }

    fn save_position(&mut self, bytes: u64) -> Result<()> {
        self.position.bytes = bytes;
        Ok(write_atomically(&self.path, &serde_json::to_vec_pretty(&self.position)?)?)
    }

    fn send_metrics(&mut self, server: &Server) -> Result<()> {
        let metrics = std::mem::take(&mut self.pending);
        if metrics.is_empty() {
            return Ok(());
        }
        let count = metrics.len() as u64;
        server.log_metrics(self.run()?, metrics).map_err(|error| self.explain(error))?;
        self.sent.metrics += count;
        Ok(())
    }

    fn run(&self) -> Result<&str> {
        ensure!(!self.position.run_id.is_empty(), "the spool in {} has no start of a run: remove this folder", self.folder.display());
        Ok(&self.position.run_id)
    }

    /// Adds how to fix a run that was deleted on the server.
    fn explain(&self, error: Error) -> Error {
        let is_deleted = matches!(error.root(), Error::MlflowRefused { code, text, .. }
            if !self.position.run_id.is_empty() && (code == "RESOURCE_DOES_NOT_EXIST" || text.contains("must be in the 'active' state")));
        if !is_deleted {
            return error;
        }
        let (run, path) = (&self.position.run_id, self.path.display());
        Error::Context {
            what: format!("run {run} was deleted on the server: restore it there, or remove {path} to upload it again"),
            source: Box::new(error),
        }
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
        ensure!(
            is_plain(&file) && is_plain(Path::new(name)),
            "a spool has the file {}, which is not below the data folder",
            file.display()
        );
        if let Destination::Unsupported(why) = &destination {
            progress.message(&format!("mlflow    skips {name}: {why}"));
        } else if !data.join(&file).is_file() {
            progress.message(&format!("mlflow    skips {name}: {} does not exist any more", data.join(&file).display()));
        } else {
            destination.put(server, name, &Content::File(file), data)?;
            self.sent.artifacts += 1;
        }
        Ok(())
    }

    /// The data folder: a spool is `DATA/runs/<run>/mlflow`.
    fn data(&self) -> Result<&Path> {
        self.folder.ancestors().nth(3).with_context(|| format!("{} is not below a data folder", self.folder.display()))
    }
}
