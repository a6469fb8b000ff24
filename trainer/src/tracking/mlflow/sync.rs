//! `trainer sync`: everything that is spooled below `data/runs` and that the server lacks.

use anyhow::{Context, Result, bail};
use ledger::Store;
use serde_json::json;

use super::{
    delivery::{Delivery, standing},
    server::{Failure, Server},
    spool::{self, Spool},
};

/// Sends every run; prints a line a run that lacked something.
pub fn sync(store: &Store, json: bool) -> Result<()> {
    let server = Server::of_environment()?;
    let server = server.context("MLFLOW_TRACKING_URI is not set: name the server that runs are sent to")?;
    let progress = store.progress();
    let mut pending = Vec::new();
    let mut whole = 0;
    for (folder, mut said) in spool::folders(store.root())? {
        let Some(begin) = said.begin.take() else {
            progress.message(&format!("mlflow    passes over {}: it does not begin with its training", folder.display()));
            continue;
        };
        // Nobody writes to a spool without an end: the training was killed. It may still go on another time.
        let mut under_way = false;
        if said.ended.is_none() {
            match Spool::open(&folder) {
                Ok(Some(mut spool)) => spool.end_killed()?,
                _ => under_way = true,
            }
        }
        let entries = spool::count(&folder, standing(&folder, &server, &begin).0)?;
        if entries > 0 { pending.push((folder, begin, entries, under_way)) } else { whole += 1 }
    }
    let bar = progress.bar("sync", pending.iter().map(|(_, _, entries, _)| entries).sum(), "entries");
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let count = pending.len();
    for (number, (folder, begin, _, under_way)) in pending.into_iter().enumerate() {
        bar.note(format!("run {} of {count}: {}", number + 1, begin.name));
        let Some(mut delivery) = Delivery::open(&folder, &server, &begin)? else {
            progress.message(&format!("mlflow    {} is being sent by another process", begin.name));
            continue;
        };
        let outcome = delivery.send(&server, None, progress, Some(&bar));
        let sent = delivery.sent.clone();
        if json {
            let mut row = json!({"run": begin.name, "id": delivery.run_id(), "sent": sent, "under_way": under_way});
            row["error"] = outcome.as_ref().err().map(|error| format!("{error:#}")).into();
            rows.push(row);
        } else if outcome.is_ok() {
            let rest = if under_way { "; its training is under way" } else { "" };
            println!(
                "{}: {} metrics, {} artifacts, {} model versions sent (run {}){rest}",
                begin.name,
                sent.metrics,
                sent.artifacts,
                sent.versions,
                delivery.run_id()
            );
        }
        if let Err(error) = outcome {
            let error = error.context(format!("sending {}", begin.name));
            // Nor would it answer for the others.
            if matches!(Failure::of(&error), Some(Failure::Unreachable { .. })) {
                bar.finish();
                return Err(error);
            }
            progress.message(&format!("mlflow    {error:#}"));
            failed.push(begin.name);
        }
    }
    bar.finish();
    if json {
        println!("{}", serde_json::to_string(&rows)?);
    } else if count == 0 {
        println!("nothing to send: {} has {whole} runs whole", server.address);
    }
    if !failed.is_empty() {
        bail!("{} of {count} runs were not sent whole: {}", failed.len(), failed.join(", "));
    }
    Ok(())
}
