//! `context.json` of a checkpoint.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    error::{Context, Result},
    graph::model::ModelShape,
    training::progress::Epoch,
};

/// Everything that determined the weights of a checkpoint, without times and host names.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingContext {
    pub config: Config,
    pub shape: ModelShape,
    /// Digest of the tokens.
    pub tokens: String,
    /// Digest of the vocabulary.
    pub vocabulary: String,
    /// Number of weights.
    pub parameters: usize,
    /// Epoch of the recorded weights, counted from 0.
    pub best_epoch: u64,
    pub epochs: Vec<Epoch>,
}

impl TrainingContext {
    /// Reads `context.json`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a training context.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not a training context", path.display()))
    }
}
