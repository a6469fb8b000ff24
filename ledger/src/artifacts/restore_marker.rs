//! The file that marks a restored artifact, with its files or without.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{durable::write_atomically, error::Result};

/// Name of the file, in the folder of the artifact.
pub(crate) const RESTORE_MARKER: &str = "ELSEWHERE";

/// Where an artifact was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreMarker {
    /// URL of the remote.
    pub from: String,
    /// Was only the manifest restored? An artifact restored with its files is marked too, because the external inputs of its stage
    /// need not exist on this machine.
    pub without_files: bool,
}

impl RestoreMarker {
    /// The marker in the folder of an artifact, if there is one.
    pub fn of(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(RESTORE_MARKER)).ok()?).ok()
    }

    /// Writes the marker into the folder of an artifact.
    pub fn mark(&self, dir: &Path) -> Result<()> {
        write_atomically(&dir.join(RESTORE_MARKER), &serde_json::to_vec(self)?)
    }
}
