//! What else belongs to the context of a build: its configuration, the code that ran, its numbers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Commit, Content, Digest, Files, Recordable, json_files, open_json, recordable_json};

/// A resolved configuration: its sections, without includes and substitutions. JSON is HOCON, so the tools read its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings(pub BTreeMap<String, Value>);
recordable_json!(Settings, "config", 1);

/// Numbers by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics(pub BTreeMap<String, f64>);
recordable_json!(Metrics, "metrics", 1);

/// The commit that a tool ran from, and what was changed on top of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub commit: Commit,
    /// `git diff HEAD` of a dirty checkout, where it was kept.
    pub diff: Option<PathBuf>,
}

const DIFF: &str = "changes.diff";

impl Checkout {
    /// Of a recorded commit, its diff from the data folder.
    pub fn recorded(data: &Path, commit: &Commit) -> Self {
        let diff = commit.diff.map(|digest| Commit::diff_file(data, digest)).filter(|path| path.is_file());
        Self { commit: commit.clone(), diff }
    }
}

impl Recordable for Checkout {
    const KIND: &'static str = "commit";
    fn open(dir: &Path) -> Result<Self> {
        let commit: Commit = open_json(dir)?;
        let path = dir.join(DIFF);
        let diff = path.is_file().then_some(path);
        if let Some((path, recorded)) = diff.as_ref().zip(commit.diff) {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            ensure!(Digest::of_bytes(&bytes) == recorded, "{} is damaged", path.display());
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
