//! Where a training starts: from nothing, from a recorded checkpoint, or from where a killed one stopped.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ledger::Store;

use crate::{Train, config::Config, restore::Restore, train::Context};

/// The configuration of a recorded checkpoint, to continue training from its last weights and its optimizer's moments.
pub fn recorded_config(folder: &Path) -> Result<Config> {
    let path = folder.join("context.json");
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let context: Context = serde_json::from_slice(&bytes).with_context(|| format!("{} is not a training context", path.display()))?;
    Ok(Config { restore: Some(Restore { checkpoint: folder.to_owned(), optimizer: true }), ..context.config })
}

/// A configuration whose training starts from a recorded checkpoint's best weights and tokenizer.
pub fn restored_config(config: Config, folder: &Path) -> Config {
    Config { restore: Some(Restore { checkpoint: folder.to_owned(), optimizer: false }), ..config }
}

/// Checks that a training is complete, or that a killed or restored one left a checkpoint to resume from.
///
/// # Errors
/// There is nothing to resume.
pub fn require_checkpoint(store: &Store, config: &Config) -> Result<()> {
    let folder = store.work_dir::<Train>(config)?.join("checkpoints");
    let is_begun = std::fs::read_dir(&folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("step-"))));
    ensure!(
        is_begun || store.freshness::<Train>(config)?.is_fresh(),
        "nothing to resume in {}: no training with this configuration and these tokens was started here; restore it with `codenets restore --with runs`, or train from the start with `codenets run`",
        folder.display()
    );
    Ok(())
}
