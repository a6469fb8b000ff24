//! `repos.json` of a harvest: where each repository came from. `harvest` writes the file, `ingest` reads the licences.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use ledger::Split;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// Name of the file in a raw artifact.
pub const REPOS: &str = "repos.json";
/// Name of the list of source files in a raw artifact: it says where the records of each file are.
pub const FILES: &str = "files.json";

/// A repository as the rows name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repo {
    pub name: String,
    /// Text before `path#L1-L9` in the url of a row.
    pub url_prefix: String,
    /// Commit, or sha256 of the archive.
    pub sha: String,
    pub licence: String,
    /// Digest of what the repository says about its licence, from which `licence` was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence_digest: Option<String>,
    /// Link to a line of a file, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_template: Option<String>,
    /// Folder of the source; empty for a package.
    #[serde(default)]
    pub source: PathBuf,
}

/// An entry of the file: the repository, its split and what was taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoEntry {
    #[serde(flatten)]
    pub repo: Repo,
    pub split: Split,
    pub files: usize,
    pub functions: usize,
}

/// Writes the file into the folder of a raw artifact.
pub fn write(raw: &Path, entries: &[RepoEntry]) -> Result<()> {
    let path = raw.join(REPOS);
    fs::write(&path, serde_json::to_vec_pretty(entries)?).with_context(|| format!("writing {}", path.display()))
}

/// The entries of a raw artifact.
pub fn read(raw: &Path) -> Result<Vec<RepoEntry>> {
    let path = raw.join(REPOS);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: run `codenets run --only harvest`", path.display()))
}

/// Licence by name of the repository; empty where the raw artifact has no such file.
pub fn licences(raw: &Path) -> Result<BTreeMap<String, String>> {
    let path = raw.join(REPOS);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    Ok(read(raw)?.into_iter().map(|entry| (entry.repo.name, entry.repo.licence)).collect())
}

/// Licences by [`Repo::licence_digest`]; empty where the raw artifact cannot be read.
pub fn licences_by_digest(raw: &Path) -> HashMap<String, String> {
    let entries = read(raw).unwrap_or_default().into_iter();
    entries.filter_map(|entry| Some((entry.repo.licence_digest?, entry.repo.licence))).collect()
}
