//! The checkout that a tool was built from, as a record.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    commit::{Commit, recorded_diff},
    recordable::{Content, Files, Recordable, json_files, open_json},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// The commit that a tool was built from, with the text of its diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub commit: Commit,
    /// File with `git diff HEAD` of a dirty checkout, where it was recorded.
    pub diff: Option<PathBuf>,
}

const DIFF: &str = "changes.diff";

impl Checkout {
    /// A recorded commit, with the diff from the data folder.
    pub fn recorded(data: &Path, commit: &Commit) -> Self {
        Self { commit: commit.clone(), diff: recorded_diff(data, commit) }
    }
}

impl Recordable for Checkout {
    const KIND: &'static str = "commit";
    fn open(dir: &Path) -> Result<Self> {
        let commit: Commit = open_json(dir)?;
        let path = dir.join(DIFF);
        let diff = path.is_file().then_some(path);
        if let Some((path, recorded)) = diff.as_ref().zip(commit.diff) {
            let bytes = fs::read(path).map_err(Error::io("reading", path))?;
            if Digest::of_bytes(&bytes) != recorded {
                return Err(Error::Damaged { path: path.clone(), why: "its digest differs".to_owned() });
            }
        }
        Ok(Self { commit, diff })
    }
    fn files(&self) -> Result<Files> {
        let mut files = json_files(&self.commit)?;
        if let Some(diff) = &self.diff {
            files.insert(DIFF, Content::File(diff.clone(), None));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifacts::recordable::{load, save},
        durable::write_atomically,
        error::chain,
    };

    #[test]
    fn a_dirty_checkout_is_recorded_with_its_changes() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"diff --git a/x b/x\n";
        let digest = Digest::of_bytes(text);
        let commit = Commit { id: Some("0123".to_owned()), dirty: true, diff: Some(digest) };
        write_atomically(&Commit::diff_file(dir.path(), digest), text).unwrap();
        save(&Checkout::recorded(dir.path(), &commit), &dir.path().join("record")).unwrap();
        let back: Checkout = load(&dir.path().join("record")).unwrap();
        assert_eq!((back.commit, fs::read(back.diff.unwrap()).unwrap()), (commit, text.to_vec()));
        fs::write(dir.path().join("record/changes.diff"), "other text").unwrap();
        assert!(chain(&load::<Checkout>(&dir.path().join("record")).unwrap_err()).contains("is damaged"));
    }
}
