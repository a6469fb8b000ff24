//! `manifest.json`: what one run read, did and wrote. Written last; a directory without one is debris.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;

pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of this file's own format.
const SCHEMA: u32 = 1;

/// The record of one run. Everything under `host` is a fact about the machine and the moment: it
/// is kept for people and enters no digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub kind: String,
    pub stage: String,
    pub revision: u32,
    pub key: String,
    pub config: Value,
    pub inputs: BTreeMap<String, InputRecord>,
    pub outputs: BTreeMap<PathBuf, FileRecord>,
    /// Of a map-like stage: each output shard, the input shard it was made of, and its own report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shards: BTreeMap<String, ShardRecord>,
    pub rows: Rows,
    pub report: Value,
    pub host: Host,
}

/// One input: an artifact (`key` is its directory) or something outside the store (no key).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub digest: Digest,
    pub bytes: u64,
}

/// One output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    pub blake3: Digest,
}

/// One shard of a map-like stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub input: Digest,
    pub report: Value,
}

/// Rows that went in, came out, and were refused with a reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    pub read: u64,
    pub written: u64,
    pub rejected: u64,
}

/// What is true of this run only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub tool: String,
    pub commit: Commit,
    pub started_unix_s: u64,
    pub finished_unix_s: u64,
    pub wall_s: f64,
    pub peak_rss_mib: u64,
    pub threads: usize,
    pub os: String,
    pub arch: String,
    /// Shards taken over unchanged from the previous artifact, and shards processed by this run.
    pub shards_reused: u64,
    pub shards_run: u64,
}

/// The commit the tool ran from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub id: Option<String>,
    pub dirty: bool,
}

impl Manifest {
    pub(crate) const fn schema() -> u32 {
        SCHEMA
    }

    /// Reads the manifest of a sealed directory and refuses a format it does not know.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged: delete its folder and run the stage again", path.display()))?;
        ensure!(
            manifest.schema == SCHEMA,
            "{} has schema {}, this tool reads {SCHEMA}: use the tool that wrote it, or delete the folder",
            path.display(),
            manifest.schema
        );
        Ok(manifest)
    }

    /// Digest of the output bytes: equal bytes disturb nothing downstream.
    pub fn digest(&self) -> Result<Digest> {
        let files: BTreeMap<_, _> = self.outputs.iter().map(|(path, file)| (path, file.blake3)).collect();
        Ok(Digest::of(&files)?)
    }

    pub fn bytes_in(&self) -> u64 {
        self.inputs.values().map(|input| input.bytes).sum()
    }

    pub fn bytes_out(&self) -> u64 {
        self.outputs.values().map(|file| file.bytes).sum()
    }

    /// Files whose size differs from the record: a cheap look, `verify` hashes the bytes.
    pub fn files_of_wrong_size(&self, dir: &Path) -> Vec<PathBuf> {
        self.outputs
            .iter()
            .filter(|(path, file)| std::fs::metadata(dir.join(path)).map(|meta| meta.len()).ok() != Some(file.bytes))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Files whose bytes differ from the record.
    pub fn damaged_files(&self, dir: &Path) -> Vec<PathBuf> {
        self.outputs
            .iter()
            .filter(|(path, file)| Digest::of_file(&dir.join(path)).ok() != Some(file.blake3))
            .map(|(path, _)| path.clone())
            .collect()
    }
}

impl Commit {
    /// Of the checkout that the tool was built in, or nothing outside one.
    pub fn here() -> Self {
        let git = |args: &[&str]| {
            let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Self {
            id: git(&["rev-parse", "HEAD"]),
            dirty: git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty()),
        }
    }
}
