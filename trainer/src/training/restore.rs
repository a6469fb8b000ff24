//! Training from the weights of a recorded checkpoint.

use std::path::PathBuf;

use ledger::{Digest, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// Section `restore`: a recorded checkpoint whose weights the training starts with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restore {
    /// Folder of an artifact of kind checkpoint.
    pub checkpoint: PathBuf,
    /// Start with the last weights and the state of the optimizer; otherwise with the best weights and a new optimizer.
    pub optimizer: bool,
}

impl Restore {
    /// File of the weights.
    pub fn weights(&self) -> PathBuf {
        self.checkpoint.join(if self.optimizer { "last/model/tensors.safetensors" } else { "model.safetensors" })
    }

    /// File of the optimizer state.
    pub fn optimizer(&self) -> PathBuf {
        self.checkpoint.join("last/optimizer/tensors.safetensors")
    }

    /// Digests of the files that are read.
    pub fn files(&self) -> Result<Vec<(String, Digest)>> {
        let mut files = vec![self.weights(), self.checkpoint.join("tokenizer.json")];
        if self.optimizer {
            files.push(self.optimizer());
        }
        let digest = |path: PathBuf| {
            let name = path.strip_prefix(&self.checkpoint).unwrap_or(&path).display().to_string();
            Ok((format!("restore:{name}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        files.into_iter().map(digest).collect()
    }

    /// Checks that token ids have the same meaning as in the checkpoint.
    pub fn require_vocabulary(&self, tokenizer: &std::path::Path) -> Result<()> {
        let recorded = self.checkpoint.join("tokenizer.json");
        let digest = |path: &std::path::Path| Digest::of_file(path).with_context(|| format!("reading {}", path.display()));
        ensure!(
            digest(&recorded)? == digest(tokenizer)?,
            "{} was trained with another vocabulary: set vocab.from = \"{}\"",
            self.checkpoint.display(),
            recorded.display()
        );
        Ok(())
    }
}
