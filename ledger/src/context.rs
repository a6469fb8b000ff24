//! What else belongs to the context of a build: its configuration, the code that ran, its numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Commit, Content, Digest, Files, Recordable, Serve, ensure,
    error::{Context, Result},
    json_files, open_json, recordable_json, write_atomically,
};

/// A resolved configuration: its sections, without includes and substitutions. JSON is HOCON, so the tools read its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings(pub BTreeMap<String, Value>);
recordable_json!(Settings, "config", 1);

/// Numbers by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics(pub BTreeMap<String, f64>);
recordable_json!(Metrics, "metrics", 1);

/// Ids of functions that nothing published may show, wherever it is published: `serve/retracted` of a data folder, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retracted(pub BTreeSet<String>);
recordable_json!(Retracted, "retracted", 1);

impl Retracted {
    /// Ids of a text, a line each.
    pub fn of_lines(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Those of a data folder; none where nothing was ever retracted.
    pub fn read(data: &Path) -> Result<Option<Self>> {
        let path = Self::path(data);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self::of_lines(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub fn write(&self, data: &Path) -> Result<()> {
        let lines: String = self.0.iter().map(|id| format!("{id}\n")).collect();
        write_atomically(&Self::path(data), lines.as_bytes())
    }

    fn path(data: &Path) -> PathBuf {
        Serve::of(data).retracted()
    }
}

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
