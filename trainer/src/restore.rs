//! Starting from a recorded checkpoint instead of fresh weights.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ledger::Digest;
use serde::{Deserialize, Serialize};

/// Section `restore`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restore {
    /// The folder of a checkpoint.
    pub checkpoint: PathBuf,
    /// Also the optimizer's state as training left it (the last weights then, not the best); else it starts fresh.
    pub optimizer: bool,
}

impl Restore {
    pub fn weights(&self) -> PathBuf {
        self.checkpoint.join(if self.optimizer { "last/model/tensors.safetensors" } else { "model.safetensors" })
    }

    pub fn optimizer(&self) -> PathBuf {
        self.checkpoint.join("last/optimizer/tensors.safetensors")
    }

    /// Digests of what is read.
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

    /// Weights mean nothing under another vocabulary.
    pub fn require_vocabulary(&self, tokenizer: &std::path::Path) -> Result<()> {
        let recorded = self.checkpoint.join("tokenizer.json");
        let digest = |path: &std::path::Path| Digest::of_file(path).with_context(|| format!("reading {}", path.display()));
        ensure!(
            digest(&recorded)? == digest(tokenizer)?,
            "the vocabulary is not the one that {} was trained with: set vocab.from = \"{}\"",
            self.checkpoint.display(),
            recorded.display()
        );
        Ok(())
    }
}
