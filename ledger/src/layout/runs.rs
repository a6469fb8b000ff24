//! Work directories of stages. No other module knows the layout of `runs/`.
//!
//! ```text
//! runs/<stage>-<key>/    checkpoints to resume from, event files, spools; key of the artifact that the stage writes
//! ```
//! A work directory is never part of an artifact.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One work directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkDir {
    pub stage: String,
    /// Key of the artifact that the stage writes.
    pub key: String,
    pub path: PathBuf,
}

/// Folder of all work directories of a data folder.
pub fn runs_dir(data: &Path) -> PathBuf {
    data.join("runs")
}

impl WorkDir {
    /// The work directory of a stage for the artifact with this key. It need not exist.
    pub fn of(data: &Path, stage: &str, key: &str) -> Self {
        Self { stage: stage.to_owned(), key: key.to_owned(), path: runs_dir(data).join(format!("{stage}-{key}")) }
    }

    /// The work directory with this [`name`](Self::name); none where the text is not a name.
    pub fn parse(data: &Path, name: &str) -> Option<Self> {
        let (stage, key) = name.rsplit_once('-')?;
        Some(Self::of(data, stage, key))
    }

    /// All work directories of a data folder, sorted.
    pub fn all(data: &Path) -> Vec<Self> {
        let entries = fs::read_dir(runs_dir(data)).into_iter().flatten().flatten();
        let mut found: Vec<Self> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let found = Self::parse(data, &name)?;
                (!name.starts_with('.') && entry.path().is_dir()).then_some(found)
            })
            .collect();
        found.sort();
        found
    }

    /// `<stage>-<key>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.stage, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_directories_are_folders_with_the_name_of_a_run() {
        let dir = tempfile::tempdir().unwrap();
        assert!(WorkDir::all(dir.path()).is_empty());
        let [second, first] = ["train-bbbbbbbbbbbb", "train-aaaaaaaaaaaa"].map(|name| WorkDir::parse(dir.path(), name).unwrap());
        assert_eq!((first.stage.as_str(), first.key.as_str(), first.name().as_str()), ("train", "aaaaaaaaaaaa", "train-aaaaaaaaaaaa"));
        for run in [&second, &first] {
            fs::create_dir_all(&run.path).unwrap();
        }
        fs::create_dir(runs_dir(dir.path()).join(".hidden-aaaaaaaaaaaa")).unwrap();
        fs::create_dir(runs_dir(dir.path()).join("noname")).unwrap();
        fs::write(runs_dir(dir.path()).join("file-aaaaaaaaaaaa"), "").unwrap();
        assert_eq!(WorkDir::all(dir.path()), [first, second]);
    }
}
