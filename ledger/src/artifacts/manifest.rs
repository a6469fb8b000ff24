//! `manifest.json`: what one run of a stage read, did and wrote. It is written last; a folder without it is incomplete.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{commit::Commit, restore_marker::RestoreMarker};
use crate::{
    bail,
    digest::{Digest, is_key},
    durable::{files_below, is_plain},
    ensure,
    error::{Context, Error, Result},
    fault,
};

/// Name of the file.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of the format of this file, and the oldest version that is read. Version 2 added the digest of the file.
const SCHEMA: u32 = 2;
const OLDEST_SCHEMA: u32 = 1;
/// Start of the last member: the digest of the file's text without this member.
const OWN_DIGEST: &str = ",\n  \"digest\": \"";

/// The record of one run of a stage. `host` describes the machine and the time; it enters no digest.
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
    /// Of a stage that maps shards: each output shard with the digest of its input shard and its report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shards: BTreeMap<String, ShardRecord>,
    pub rows: Rows,
    pub report: Value,
    pub host: Host,
}

/// One input: an artifact (`key` names its folder), or an external input (no key).
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

/// One shard of a stage that maps shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub input: Digest,
    pub report: Value,
}

/// Rows that a stage read, wrote, and rejected with a reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    pub read: u64,
    pub written: u64,
    pub rejected: u64,
}

/// Facts about one run that change no byte of its output.
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
    /// Shards reused from the previous artifact, and shards processed by this run.
    pub shards_reused: u64,
    pub shards_run: u64,
}

impl FileRecord {
    /// Syncs every file below `dir` to disk, and hashes it.
    pub(crate) fn of_folder(dir: &Path) -> Result<BTreeMap<PathBuf, Self>> {
        let record = |path: PathBuf| {
            let full = dir.join(&path);
            let file = File::open(&full)?;
            fault::point("fsync of an output");
            file.sync_all()?;
            Ok((path, Self { bytes: file.metadata()?.len(), blake3: Digest::of_file(&full)? }))
        };
        let records: Result<_> = files_below(dir)?.into_par_iter().map(record).collect();
        records.with_context(|| format!("hashing {}", dir.display()))
    }
}

impl Manifest {
    pub(crate) const fn schema() -> u32 {
        SCHEMA
    }

    /// Reads the manifest of a sealed folder.
    ///
    /// # Errors
    /// It is missing, damaged, or of a version that this tool does not read.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
        Self::of_bytes(&bytes, &path.display())
    }

    /// Reads the bytes of a manifest. `at`: its name in errors.
    pub fn of_bytes(bytes: &[u8], at: &impl std::fmt::Display) -> Result<Self> {
        let damaged = || format!("{at} is damaged: delete its folder and run `codenets run`");
        let value: Value = serde_json::from_slice(bytes).with_context(damaged)?;
        let schema = value["schema"].as_u64().unwrap_or_default();
        ensure!(
            (u64::from(OLDEST_SCHEMA)..=u64::from(SCHEMA)).contains(&schema),
            "{at} has schema {schema}, this tool reads {OLDEST_SCHEMA} to {SCHEMA}: use the version that wrote it, or delete the folder"
        );
        ensure!(schema < 2 || has_own_digest(bytes), "its digest differs: {}", damaged());
        let manifest: Self = serde_json::from_value(value).with_context(damaged)?;
        if let Some(path) = manifest.outputs.keys().find(|path| !is_plain(path)) {
            bail!("{at} names {}, which is outside of its folder", path.display());
        }
        ensure!(manifest.has_plain_names(), "{at} has an invalid kind, stage, key or commit: {}", damaged());
        Ok(manifest)
    }

    /// Names become parts of paths and pages.
    fn has_plain_names(&self) -> bool {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let is_hex = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let keys = self.inputs.values().filter_map(|input| input.key.as_deref()).chain([self.key.as_str()]);
        is_name(&self.kind) && is_name(&self.stage) && keys.into_iter().all(is_key) && self.host.commit.id.as_deref().is_none_or(is_hex)
    }

    /// The bytes of the file, with a digest of these bytes: a changed row count is detected too.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string_pretty(self)?;
        let digest = Digest::of_bytes(text.as_bytes());
        let members = text.strip_suffix("\n}").context("a manifest must be a JSON object")?;
        Ok(format!("{members}{OWN_DIGEST}{digest}\"\n}}").into_bytes())
    }

    /// Digest of the output files. A stage that reads this artifact runs again only when this digest changes.
    pub fn digest(&self) -> Result<Digest> {
        let files: BTreeMap<_, _> = self.outputs.iter().map(|(path, file)| (path, file.blake3)).collect();
        Ok(Digest::of(&files)?)
    }

    /// Bytes of all inputs.
    pub fn bytes_in(&self) -> u64 {
        self.inputs.values().map(|input| input.bytes).sum()
    }

    /// Bytes of all output files.
    pub fn bytes_out(&self) -> u64 {
        self.outputs.values().map(|file| file.bytes).sum()
    }

    /// Files whose size differs from the record. This is cheap; [`Manifest::damaged_files`] hashes the bytes.
    pub fn files_of_wrong_size(&self, dir: &Path) -> Vec<PathBuf> {
        let here = self.expected_here(dir);
        let wrong = here.filter(|(path, file)| fs::metadata(dir.join(path)).map(|meta| meta.len()).ok() != Some(file.bytes));
        wrong.map(|(path, _)| path.clone()).collect()
    }

    /// Files whose bytes differ from the record.
    pub fn damaged_files(&self, dir: &Path) -> Vec<PathBuf> {
        let here: Vec<_> = self.expected_here(dir).collect();
        let wrong = here.into_par_iter().filter(|(path, file)| Digest::of_file(&dir.join(path)).ok() != Some(file.blake3));
        wrong.map(|(path, _)| path.clone()).collect()
    }

    /// # Errors
    /// [`Error::FilesNotAvailable`]: the artifact was restored without its files.
    pub(crate) fn require_files(&self, dir: &Path) -> Result<()> {
        let Some(marker) = RestoreMarker::of(dir).filter(|marker| marker.without_files) else { return Ok(()) };
        if self.outputs.keys().all(|path| dir.join(path).exists()) {
            return Ok(());
        }
        Err(Error::FilesNotAvailable { kind: self.kind.clone(), key: self.key.clone(), from: marker.from })
    }

    /// All files, except the missing ones of an artifact that was restored without its files.
    fn expected_here(&self, dir: &Path) -> impl Iterator<Item = (&PathBuf, &FileRecord)> {
        let is_without_files = RestoreMarker::of(dir).is_some_and(|marker| marker.without_files);
        self.outputs.iter().filter(move |(path, _)| !is_without_files || dir.join(path).exists())
    }
}

/// Does the digest in the file equal the digest of its text?
fn has_own_digest(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let digested = || {
        let (members, digest) = text.strip_suffix("\"\n}")?.rsplit_once(OWN_DIGEST)?;
        Some(Digest::of_bytes(format!("{members}\n}}").as_bytes()).to_string() == digest)
    };
    digested() == Some(true)
}

impl Host {
    /// This machine and process; times and measurements are zero.
    pub fn here(threads: usize) -> Self {
        Self {
            tool: format!("codenets {}", env!("CARGO_PKG_VERSION")),
            commit: Commit::built_from(),
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
        /// Every manifest is read back, and every flipped bit is detected.
        #[test]
        fn a_flipped_bit_of_a_manifest_is_detected(wall_s in 0.0f64..1e9, read: u64, at: proptest::sample::Index, bit in 0u8..8) {
            let bytes = manifest(wall_s, read).to_bytes().unwrap();
            let back = Manifest::of_bytes(&bytes, &"manifest").unwrap();
            proptest::prop_assert_eq!((back.rows.read, back.kind), (read, "raw".to_owned()));
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            proptest::prop_assert!(Manifest::of_bytes(&flipped, &"manifest").is_err());
        }
    }

    #[test]
    fn a_manifest_whose_names_are_paths_or_markup_is_refused() {
        let changes: [fn(&mut Manifest); 7] = [
            |of| of.host.commit.id = Some(String::new()),
            |of| of.kind = String::new(),
            |of| of.stage = String::new(),
            |of| of.key = "../../../../x".to_owned(),
            |of| of.kind = "<script>".to_owned(),
            |of| of.stage = "a/b".to_owned(),
            |of| of.host.commit.id = Some("\u{e9}".repeat(20)),
        ];
        let mut plain = manifest(1.0, 2);
        plain.host.commit.id = Some("00ff".to_owned());
        Manifest::of_bytes(&plain.to_bytes().unwrap(), &"manifest").unwrap();
        for change in changes {
            let mut of = manifest(1.0, 2);
            change(&mut of);
            assert!(Manifest::of_bytes(&of.to_bytes().unwrap(), &"manifest").unwrap_err().to_string().contains("has an invalid kind"));
        }
    }

    #[test]
    fn a_manifest_that_names_a_file_outside_of_its_folder_is_refused() {
        let mut of = manifest(1.0, 2);
        of.outputs.insert(PathBuf::from("../secret"), FileRecord { bytes: 1, blake3: Digest::of_bytes(b"x") });
        let error = Manifest::of_bytes(&of.to_bytes().unwrap(), &"manifest").unwrap_err();
        assert!(error.to_string().contains("outside of its folder"), "{error}");
    }

    #[test]
    fn the_bytes_of_an_artifact_are_those_of_its_files() {
        let mut of = manifest(1.0, 2);
        assert_eq!(of.bytes_out(), 0);
        for (name, bytes) in [("a", 3), ("b", 4)] {
            of.outputs.insert(PathBuf::from(name), FileRecord { bytes, blake3: Digest::of_bytes(b"x") });
        }
        assert_eq!(of.bytes_out(), 7);
    }
}
