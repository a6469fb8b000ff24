//! `codenets mlflow sync`: uploads every spooled run that the server does not have completely.

use std::path::PathBuf;

use ledger::{Bar, Progress, Store, bail, chain};
use serde::Serialize;

pub use super::upload::Sent;
use super::{
    server::Server,
    spool::{self, Begin, Spool},
    upload::{Upload, sync_position},
};
use crate::error::{Context, Result};

/// A run that the server does not have completely.
struct PendingRun {
    folder: PathBuf,
    begin: Begin,
    /// Number of entries to upload.
    entries: u64,
    /// Does a process still train it?
    is_running: bool,
}

/// What was uploaded of a run.
#[derive(Debug, Clone, Serialize)]
pub struct UploadedRun {
    /// Name of the run.
    pub run: String,
    /// Id of the run on the server.
    pub id: String,
    pub sent: Sent,
    /// Is the training still running?
    pub under_way: bool,
    /// Why the upload is incomplete; None where it is complete.
    pub error: Option<String>,
}

/// The outcome of [`sync`].
#[derive(Debug, Default)]
pub struct Synced {
    /// The runs that were uploaded, also those of which a part is missing.
    pub runs: Vec<UploadedRun>,
    /// Number of runs that the server had completely before.
    pub complete: usize,
    /// Address of the server.
    pub address: String,
}

/// Uploads all runs of a data folder to the server of `MLFLOW_TRACKING_URI`. `synced` is filled run by run, so that it also holds what
/// was uploaded before an error.
///
/// # Errors
/// No server is named or it does not answer, a spool cannot be read, or a run could not be uploaded completely.
pub fn sync(store: &Store, synced: &mut Synced) -> Result<()> {
    let server = Server::of_environment()?;
    let server = server.context("MLFLOW_TRACKING_URI is not set: set it to the address of an MLflow server")?;
    let progress = store.progress();
    let (pending, complete) = pending_runs(store, &server)?;
    (synced.complete, synced.address) = (complete, server.address.clone());
    let bar = progress.bar("sync", pending.iter().map(|run| run.entries).sum(), "entries");
    let mut failed = Vec::new();
    for (number, run) in pending.iter().enumerate() {
        bar.note(format!("run {} of {}: {}", number + 1, pending.len(), run.begin.name));
        let Some(mut upload) = Upload::open(&run.folder, &server, &run.begin)? else {
            progress.message(&format!("mlflow    another process uploads {}", run.begin.name));
            continue;
        };
        let outcome = upload.send(&server, None, progress, Some(&bar));
        synced.runs.push(UploadedRun {
            run: run.begin.name.clone(),
            id: upload.run_id().to_owned(),
            sent: upload.sent.clone(),
            under_way: run.is_running,
            error: outcome.as_ref().err().map(|error| chain(error)),
        });
        report(run, outcome, progress, &bar, &mut failed)?;
    }
    bar.finish();
    if !failed.is_empty() {
        bail!("{} of {} runs were not uploaded completely: {}", failed.len(), pending.len(), failed.join(", "));
    }
    Ok(())
}

/// The runs that the server does not have completely, and the number of those that it has.
fn pending_runs(store: &Store, server: &Server) -> Result<(Vec<PendingRun>, usize)> {
    let (mut pending, mut complete) = (Vec::new(), 0);
    for (folder, mut state) in spool::folders(store.root())? {
        let Some(begin) = state.begin.take() else {
            store.progress().message(&format!("mlflow    skips {}: the spool has no start of a run", folder.display()));
            continue;
        };
        // If no process writes a spool without an end, the training was killed. It may be resumed later.
        let mut is_running = false;
        if state.ended.is_none() {
            match Spool::open(&folder) {
                Ok(Some(mut spool)) => spool.end_killed()?,
                _ => is_running = true,
            }
        }
        let entries = spool::count(&folder, sync_position(&folder, server, &begin).0)?;
        if entries > 0 { pending.push(PendingRun { folder, begin, entries, is_running }) } else { complete += 1 }
    }
    Ok((pending, complete))
}

/// Reports a failed upload; if the server does not answer, the other runs are not tried.
fn report(run: &PendingRun, outcome: Result<()>, progress: &Progress, bar: &Bar, failed: &mut Vec<String>) -> Result<()> {
    let Err(error) = outcome.with_context(|| format!("uploading {}", run.begin.name)) else { return Ok(()) };
    if error.is_unreachable() {
        bar.finish();
        return Err(error);
    }
    progress.message(&format!("mlflow    {}", chain(&error)));
    failed.push(run.begin.name.clone());
    Ok(())
}
