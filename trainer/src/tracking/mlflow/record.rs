//! Adds recorded artifacts to the spool of their training, and uploads them.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use ledger::{Artifact, Checkpoint, Encoder, EncoderSpec, Progress, Recordable, Store, WorkDir};

use super::{
    background_upload::LAST_WAIT,
    model, outage,
    server::Server,
    spool::{self, Entry, Reader, Spool},
    upload::{Upload, sync_position},
};
use crate::error::Result;

/// Folder of the spool of a training, by the key of its checkpoint.
fn folder(store: &Store, key: &str) -> PathBuf {
    WorkDir::of(store.root(), "train", key).path.join(spool::FOLDER)
}

/// Adds the files of a recorded checkpoint to the spool of its training, and uploads what the server does not have.
///
/// # Errors
/// The spool cannot be read or written, or the environment variables of MLflow are invalid.
pub fn record_checkpoint(store: &Store, checkpoint: &Artifact<Checkpoint>) -> Result<()> {
    let server = Server::of_environment()?;
    let key = &checkpoint.manifest().key;
    let folder = folder(store, key);
    let Some(mut spool) = Spool::open(&folder)? else { return Ok(()) };
    for file in ["context.json", "report.html", EncoderSpec::FILE] {
        let name = format!("{}/{file}", Checkpoint::KIND);
        if !spool.state.artifacts.contains(&name) {
            spool.write(Entry::Artifact { name, file: PathBuf::from(Checkpoint::KIND).join(key).join(file) })?;
        }
    }
    upload(&folder, spool, server.as_ref(), store.progress())
}

/// Adds a recorded encoder to the spool of its training, and uploads what the server does not have. The encoder becomes a version of the
/// registered model.
///
/// # Errors
/// As [`record_checkpoint`].
pub fn record_encoder(store: &Store, encoder: &Artifact<Encoder>) -> Result<()> {
    let server = Server::of_environment()?;
    let Some(key) = encoder.manifest().inputs.get("checkpoint").and_then(|input| input.key.as_ref()) else { return Ok(()) };
    let folder = folder(store, key);
    let Some(mut spool) = Spool::open(&folder)? else {
        if server.is_some() {
            let run = folder.display();
            store.progress().message(&format!(
                "mlflow    no model version: {run} does not exist, because the training did not run in this data folder"
            ));
        }
        return Ok(());
    };
    if !spool.state.encoders.contains(&encoder.manifest().key) {
        spool.write(Entry::Model(model::exported(encoder)?))?;
    }
    upload(&folder, spool, server.as_ref(), store.progress())
}

/// Uploads what the server does not have, within a limited time.
fn upload(folder: &Path, spool: Spool, server: Option<&Server>, progress: &Progress) -> Result<()> {
    let (Some(server), Some(begin)) = (server, &spool.state.begin) else { return Ok(()) };
    if !Reader::open(folder, sync_position(folder, server, begin).0)?.has_more()? {
        return Ok(());
    }
    // A server that did not answer this process is not called again.
    if outage::is_down() {
        return Ok(());
    }
    // If another process uploads the spool, nothing is left to do.
    let Some(mut upload) = Upload::open(folder, server, begin)? else { return Ok(()) };
    outage::report(&upload.send(server, Some(Instant::now() + LAST_WAIT), progress, None), progress);
    Ok(())
}
