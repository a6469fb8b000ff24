//! The commit that a tool was built from, and the changes on top of it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, durable::write_atomically, error::Result};

/// Name of the folder of diffs in a data folder.
pub(crate) const DIFFS: &str = "diffs";

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Full id; none outside of a checkout.
    pub id: Option<String>,
    /// Were there changes that are not committed?
    pub dirty: bool,
    /// Digest of the changes of a dirty checkout, where the build recorded them. The text is in the data folder: [`Commit::diff_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Digest>,
}

/// The commit of this program, and the text of its changes where the build recorded them.
static BUILT_FROM: OnceLock<(Commit, &'static [u8])> = OnceLock::new();

impl Commit {
    /// Says which commit this program was built from. A program calls it once, at its start. `diff`: text of the changes, empty where
    /// the build did not record it.
    pub fn set_built_from(id: Option<&str>, dirty: bool, diff: &'static [u8]) {
        let digest = (!diff.is_empty()).then(|| Digest::of_bytes(diff));
        let _ = BUILT_FROM.set((Self { id: id.map(str::to_owned), dirty, diff: digest }, diff));
    }

    /// The commit that this program was built from; without an id where nobody called [`Commit::set_built_from`].
    pub fn built_from() -> Self {
        BUILT_FROM.get().map_or(Self { id: None, dirty: false, diff: None }, |(commit, _)| commit.clone())
    }

    /// The commit of [`Commit::built_from`]; the text of its diff is written to the data folder.
    pub(crate) fn recorded_in(data: &Path) -> Result<Self> {
        if let Some((Self { diff: Some(digest), .. }, text)) = BUILT_FROM.get() {
            let path = Self::diff_file(data, *digest);
            if !path.exists() {
                write_atomically(&path, text)?;
            }
        }
        Ok(Self::built_from())
    }

    /// Folder in a data folder for the texts of diffs.
    pub fn diffs_dir(data: &Path) -> PathBuf {
        data.join(DIFFS)
    }

    /// File in a data folder for the text of a diff.
    pub fn diff_file(data: &Path, diff: Digest) -> PathBuf {
        Self::diffs_dir(data).join(format!("{diff}.diff"))
    }
}

/// Text of a recorded diff, if the data folder has it.
pub(crate) fn recorded_diff(data: &Path, commit: &Commit) -> Option<PathBuf> {
    commit.diff.map(|digest| Commit::diff_file(data, digest)).filter(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()))
}
