//! Artifacts that were restored, and those of them whose files were left where the ledger was restored from.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, Manifest, error::Result, write_atomically};

/// Beside the manifest of such an artifact.
pub(crate) const RESTORE_MARKER: &str = "ELSEWHERE";

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreMarker {
    /// The address that `restore` was given.
    pub from: String,
    /// Did its files stay there? (Restored ones are marked too: what they read outside the store need not be on this machine.)
    pub without_files: bool,
}

impl RestoreMarker {
    pub fn of(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(RESTORE_MARKER)).ok()?).ok()
    }

    /// Marks a sealed folder.
    pub fn mark(&self, dir: &Path) -> Result<()> {
        write_atomically(&dir.join(RESTORE_MARKER), &serde_json::to_vec(self)?)
    }

    /// An error with the remedy where files of an artifact were left elsewhere.
    pub(crate) fn require_here(dir: &Path, manifest: &Manifest) -> Result<()> {
        let Some(elsewhere) = Self::of(dir).filter(|elsewhere| elsewhere.without_files) else { return Ok(()) };
        if manifest.outputs.keys().all(|path| dir.join(path).exists()) {
            return Ok(());
        }
        Err(Error::FilesNotAvailable { kind: manifest.kind.clone(), key: manifest.key.clone(), from: elsewhere.from })
    }
}
