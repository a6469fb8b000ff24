//! `codenets mlflow sync`: uploads every spooled run that the server does not have completely.

use std::path::PathBuf;

use ledger::{Bar, Progress, Store, bail, chain};
use serde_json::{Value, json};

use super::{
    server::Server,
    spool::{self, Begin, Spool},
    upload::{Sent, Upload, sync_position},
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

/// Uploads all runs of a data folder to the server of `MLFLOW_TRACKING_URI`, and prints a line for each uploaded run, or with `json` an
/// array.
///
/// # Errors
/// No server is named or it does not answer, a spool cannot be read, or a run could not be uploaded completely.
pub fn sync(store: &Store, json: bool) -> Result<()> {
    let server = Server::of_environment()?;
    let server = server.context("MLFLOW_TRACKING_URI is not set: set it to the address of an MLflow server")?;
    let progress = store.progress();
    let (pending, complete) = pending_runs(store, &server)?;
    let bar = progress.bar("sync", pending.iter().map(|run| run.entries).sum(), "entries");
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (number, run) in pending.iter().enumerate() {
        bar.note(format!("run {} of {}: {}", number + 1, pending.len(), run.begin.name));
        let Some(mut upload) = Upload::open(&run.folder, &server, &run.begin)? else {
            progress.message(&format!("mlflow    another process uploads {}", run.begin.name));
            continue;
        };
        let outcome = upload.send(&server, None, progress, Some(&bar));
        let sent = upload.sent.clone();
        if json {
            rows.push(row(run, upload.run_id(), &sent, &outcome));
        } else if outcome.is_ok() {
            print_run(run, upload.run_id(), &sent);
        }
        report(run, outcome, progress, &bar, &mut failed)?;
    }
    bar.finish();
    if json {
        println!("{}", serde_json::to_string(&rows)?);
    } else if pending.is_empty() {
        println!("nothing to upload: {} has all of {complete} runs", server.address);
    }
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

fn row(run: &PendingRun, id: &str, sent: &Sent, outcome: &Result<()>) -> Value {
    let mut row = json!({"run": run.begin.name, "id": id, "sent": sent, "under_way": run.is_running});
    row["error"] = outcome.as_ref().err().map(|error| chain(error)).into();
    row
}

fn print_run(run: &PendingRun, id: &str, sent: &Sent) {
    let rest = if run.is_running { "; the training is still running" } else { "" };
    let (metrics, artifacts, versions) = (sent.metrics, sent.artifacts, sent.versions);
    println!("{}: uploaded {metrics} metrics, {artifacts} artifacts, {versions} model versions (run {id}){rest}", run.begin.name);
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
