//! Configurations that start from a recorded checkpoint, and the check before a training is resumed.

use std::path::Path;

use ledger::{Store, ensure};

use super::{train::Train, training_context::TrainingContext};
use crate::{
    config::Config,
    error::Result,
    training::{checkpoints::Checkpoints, restore::Restore},
};

/// The configuration of a recorded checkpoint, with which a training continues from its last weights and the state of its optimizer.
///
/// # Errors
/// The folder has no readable `context.json`.
pub fn recorded_config(folder: &Path) -> Result<Config> {
    let config = TrainingContext::read(&folder.join("context.json"))?.config;
    Ok(Config { restore: Some(Restore { checkpoint: folder.to_owned(), optimizer: true }), ..config })
}

/// `config`, with a training that starts from the best weights of a recorded checkpoint.
pub fn restored_config(config: Config, folder: &Path) -> Config {
    Config { restore: Some(Restore { checkpoint: folder.to_owned(), optimizer: false }), ..config }
}

/// Checks that the training with this configuration is recorded, or has a checkpoint to resume from.
///
/// # Errors
/// There is no checkpoint.
pub fn require_checkpoint(store: &Store, config: &Config) -> Result<()> {
    let folder = Checkpoints::folder(&store.work_dir::<Train>(config)?);
    ensure!(
        Checkpoints::has_any(&folder) || store.freshness::<Train>(config)?.is_up_to_date(),
        "nothing to resume in {}: no training with this configuration and these tokens was started here; restore it with `codenets restore --with runs`, or train from the start with `codenets run`",
        folder.display()
    );
    Ok(())
}
