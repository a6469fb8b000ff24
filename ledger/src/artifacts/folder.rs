//! A folder as a record.

use std::path::{Path, PathBuf};

use super::recordable::{Content, Files, Recordable};
use crate::{bail, durable::files_below, error::Result};

/// A folder with any files, such as the work directory of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub dir: PathBuf,
}

impl Folder {
    /// The files below a folder, except files that are being written: below `part`, and names that begin with a dot.
    pub fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
        let is_incomplete = |path: &PathBuf| path.iter().any(|part| part == "part" || part.to_string_lossy().starts_with('.'));
        Ok(files_below(dir)?.into_iter().filter(|path| !is_incomplete(path)).collect())
    }
}

impl Recordable for Folder {
    const KIND: &'static str = "folder";
    fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("files");
        if !dir.is_dir() {
            bail!("{} is missing", dir.display());
        }
        Ok(Self { dir })
    }
    fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        for path in Self::files_of(&self.dir)? {
            files.insert(Path::new("files").join(&path), Content::File(self.dir.join(path), None));
        }
        Ok(files)
    }
}
