//! `manifest.json`: what one run read, did and wrote. Written last; a directory without one is debris.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Digest, RestoreMarker, bail, ensure,
    error::{Context, Result},
    is_plain,
};

pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of this file's own format, and the oldest that is read. 2: the file has a digest of its own.
const SCHEMA: u32 = 2;
const OLDEST_SCHEMA: u32 = 1;
/// The last member: the digest of the file's text without it.
const OWN_DIGEST: &str = ",\n  \"digest\": \"";
/// A longer diff is recorded by its digest alone.
const LONGEST_DIFF: usize = 4 << 20;

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
    /// What a dirty checkout had changed (`git diff HEAD`): the name of a file in the data folder's `diffs/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Digest>,
}

impl Manifest {
    pub(crate) const fn schema() -> u32 {
        SCHEMA
    }

    /// Reads the manifest of a sealed directory and refuses a format it does not know.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::of_bytes(&bytes, &path.display())
    }

    /// Reads a manifest that `at` names in errors.
    pub fn of_bytes(bytes: &[u8], at: &impl std::fmt::Display) -> Result<Self> {
        let damaged = || format!("{at} is damaged: delete its folder and run the stage again");
        let value: Value = serde_json::from_slice(bytes).with_context(damaged)?;
        let schema = value["schema"].as_u64().unwrap_or_default();
        ensure!(
            (u64::from(OLDEST_SCHEMA)..=u64::from(SCHEMA)).contains(&schema),
            "{at} has schema {schema}, this tool reads {OLDEST_SCHEMA} to {SCHEMA}: use the tool that wrote it, or delete the folder"
        );
        ensure!(schema < 2 || has_own_digest(bytes), "its own digest differs: {}", damaged());
        let manifest: Self = serde_json::from_value(value).with_context(damaged)?;
        if let Some(path) = manifest.outputs.keys().find(|path| !is_plain(path)) {
            bail!("{at} names {}, which is outside of its folder", path.display());
        }
        Ok(manifest)
    }

    /// The bytes of the file, with a digest of themselves: a flipped bit in a row count is seen too.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string_pretty(self)?;
        let digest = Digest::of_bytes(text.as_bytes());
        let members = text.strip_suffix("\n}").context("a manifest is an object")?;
        Ok(format!("{members}{OWN_DIGEST}{digest}\"\n}}").into_bytes())
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
        let here = self.expected_here(dir);
        let wrong = here.filter(|(path, file)| std::fs::metadata(dir.join(path)).map(|meta| meta.len()).ok() != Some(file.bytes));
        wrong.map(|(path, _)| path.clone()).collect()
    }

    /// Files whose bytes differ from the record.
    pub fn damaged_files(&self, dir: &Path) -> Vec<PathBuf> {
        let here: Vec<_> = self.expected_here(dir).collect();
        let wrong = here.into_par_iter().filter(|(path, file)| Digest::of_file(&dir.join(path)).ok() != Some(file.blake3));
        wrong.map(|(path, _)| path.clone()).collect()
    }

    /// All files, less those that a restored ledger left elsewhere.
    fn expected_here(&self, dir: &Path) -> impl Iterator<Item = (&PathBuf, &FileRecord)> {
        let elsewhere = RestoreMarker::of(dir).is_some_and(|elsewhere| elsewhere.without_files);
        self.outputs.iter().filter(move |(path, _)| !elsewhere || dir.join(path).exists())
    }
}

/// Is the text what it was when it was digested?
fn has_own_digest(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let digested = || {
        let (members, digest) = text.strip_suffix("\"\n}")?.rsplit_once(OWN_DIGEST)?;
        Some(Digest::of_bytes(format!("{members}\n}}").as_bytes()).to_string() == digest)
    };
    digested() == Some(true)
}

impl Host {
    /// Of this process, before it did anything.
    pub fn here(threads: usize) -> Self {
        Self {
            tool: format!("codenets {}", env!("CARGO_PKG_VERSION")),
            commit: Commit::here().clone(),
            started_unix_s: 0,
            finished_unix_s: 0,
            wall_s: 0.0,
            peak_rss_mib: 0,
            threads,
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            shards_reused: 0,
            shards_run: 0,
        }
    }
}

impl Commit {
    /// Of the checkout that the tool was built in, or nothing outside one; the text of its diff is kept in `data`.
    pub(crate) fn recorded_in(data: &Path) -> Result<Self> {
        let (commit, diff) = Self::checkout();
        if let Some((digest, text)) = commit.diff.zip(diff.as_ref()) {
            let path = Self::diff_file(data, digest);
            if !path.exists() {
                crate::write_atomically(&path, text)?;
            }
        }
        Ok(commit.clone())
    }

    /// Of the checkout that the tool was built in.
    pub fn here() -> &'static Self {
        &Self::checkout().0
    }

    /// The commit, and its diff where that is not too long to keep.
    fn checkout() -> &'static (Self, Option<Vec<u8>>) {
        static HERE: LazyLock<(Commit, Option<Vec<u8>>)> = LazyLock::new(|| {
            let git = |args: &[&str]| {
                let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args).output().ok()?;
                output.status.success().then_some(output.stdout)
            };
            let id = git(&["rev-parse", "HEAD"]).map(|id| String::from_utf8_lossy(&id).trim().to_owned());
            let diff = git(&["diff", "--binary", "HEAD"]).filter(|text| !text.is_empty());
            let commit = Commit { id, dirty: diff.is_some(), diff: diff.as_ref().map(|text| Digest::of_bytes(text)) };
            (commit, diff.filter(|text| text.len() <= LONGEST_DIFF))
        });
        &HERE
    }

    /// Where the text of a diff is.
    pub fn diff_file(data: &Path, diff: Digest) -> PathBuf {
        data.join("diffs").join(format!("{diff}.diff"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(wall_s: f64, read: u64) -> Manifest {
        let host = Host { wall_s, ..Host::here(2) };
        let rows = Rows { read, written: 1, rejected: 0 };
        let (kind, stage, key) = ("raw".to_owned(), "harvest".to_owned(), "0123456789ab".to_owned());
        let config = serde_json::json!({ "share": wall_s, "name": "ü\n\"" });
        let (inputs, outputs, shards) = Default::default();
        Manifest { schema: SCHEMA, kind, stage, revision: 1, key, config, inputs, outputs, shards, rows, report: Value::Null, host }
    }

    proptest::proptest! {
        /// Every manifest comes back, whatever its numbers; no bit of it can be flipped unseen.
        #[test]
        fn a_flipped_bit_of_a_manifest_is_seen(wall_s in 0.0f64..1e9, read: u64, place: proptest::sample::Index, bit in 0u8..8) {
            let bytes = manifest(wall_s, read).to_bytes().unwrap();
            let back = Manifest::of_bytes(&bytes, &"it").unwrap();
            proptest::prop_assert_eq!((back.rows.read, back.kind), (read, "raw".to_owned()));
            let mut flipped = bytes.clone();
            flipped[place.index(bytes.len())] ^= 1 << bit;
            proptest::prop_assert!(Manifest::of_bytes(&flipped, &"it").is_err());
        }
    }

    #[test]
    fn a_manifest_whose_files_lie_elsewhere_is_refused() {
        let mut of = manifest(1.0, 2);
        of.outputs.insert(PathBuf::from("../secret"), FileRecord { bytes: 1, blake3: Digest::of_bytes(b"x") });
        let error = Manifest::of_bytes(&of.to_bytes().unwrap(), &"it").unwrap_err();
        assert!(error.to_string().contains("outside of its folder"), "{error}");
    }
}
