//! A snapshot: an artifact with its lineage, as one record.
//!
//! ```text
//! target/value.json                 the artifact that was saved, and the current keys at that time
//! config/value.json                 the configuration that each stage ran with
//! commits/<stage>-<key>/            the commit that each stage ran from, with the changes of a dirty checkout
//! <kind>/<key>/sealed/…             every artifact: manifest.json always, its files where they were selected
//! runs/<stage>-<key>/files/…        work directories, where they were selected
//! metrics/value.json, retracted/value.json
//! ```
//! Every folder has a `record.json` with its kind and version.

mod artifact;
mod selection;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ledger::{
    ArtifactId, Checkout, Files, Folder, Manifest, Metrics, Recordable, Retracted, Scores, Settings, Store, WorkDir, ensure, load,
    recordable_json,
};
use serde::{Deserialize, Serialize};

pub use self::{artifact::SavedArtifact, selection::Selection};
use crate::error::Result;

/// Folder of the work directories.
const RUNS: &str = "runs";
/// Folder of an artifact's manifest and files.
const SEALED: &str = "sealed";
const MANIFEST: &str = "manifest.json";
/// Folders of a snapshot that hold no artifacts.
const RESERVED: [&str; 6] = ["target", "config", "commits", RUNS, "metrics", "retracted"];

/// Artifacts of one kind, by key.
pub type ArtifactMap = BTreeMap<String, SavedArtifact>;

/// The complete context of a build. Every artifact is there with its manifest; those of selected kinds also with their files.
#[derive(Debug)]
pub struct Snapshot {
    pub target: Target,
    /// The section that each stage ran with; the other sections as they were configured when the snapshot was saved.
    pub config: Settings,
    /// The commit of each stage's run, by `<stage>-<key>`.
    pub commits: BTreeMap<String, Checkout>,
    /// Artifacts by kind.
    pub artifacts: BTreeMap<String, ArtifactMap>,
    /// Work directories by `<stage>-<key>`: checkpoints to resume from, event files.
    pub runs: BTreeMap<String, Folder>,
    pub metrics: Metrics,
    pub retracted: Retracted,
}

/// The artifact that was saved, and which artifacts of its lineage were current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub kind: String,
    pub key: String,
    /// Key by kind.
    pub current: BTreeMap<String, String>,
}
recordable_json!(Target, "target", 1);

impl Snapshot {
    /// The snapshot of an artifact of this store and its lineage.
    ///
    /// # Errors
    /// A manifest does not read, or files of a selected kind are not available locally.
    pub fn of(store: &Store, target: &ArtifactId, selection: &Selection, mut config: Settings) -> Result<Self> {
        let closure = store.closure([target.clone()])?;
        if !closure.contains_key(target) {
            // The error names what is missing.
            Manifest::read(&store.dir(target))?;
        }
        config.0.extend(closure.values().map(|manifest| (manifest.stage.clone(), manifest.config.clone())));
        let commits = closure.values().map(|manifest| {
            (WorkDir::of(store.root(), &manifest.stage, &manifest.key).name(), Checkout::recorded(store.root(), &manifest.host.commit))
        });
        let current = store.kinds().iter().filter_map(|&kind| Some((kind.to_owned(), store.current_key(kind)?)));
        let current = current.filter(|(kind, key)| closure.contains_key(&ArtifactId { kind: kind.clone(), key: key.clone() })).collect();
        let artifacts = collect(store, &closure, |id| selection.has(&id.kind) || id == target)?;
        Ok(Self {
            target: Target { kind: target.kind.clone(), key: target.key.clone(), current },
            config,
            commits: commits.collect(),
            metrics: metrics(store, &artifacts)?,
            artifacts,
            runs: if selection.has_runs() { work_dirs(store)? } else { BTreeMap::new() },
            retracted: Retracted::read(store.root())?.unwrap_or_default(),
        })
    }
}

impl Recordable for Snapshot {
    const KIND: &'static str = "save-point";

    fn open(dir: &Path) -> ledger::Result<Self> {
        let mut artifacts = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !RESERVED.contains(&kind.as_str()) {
                artifacts.insert(kind, load(&entry.path())?);
            }
        }
        Ok(Self {
            target: load(&dir.join("target"))?,
            config: load(&dir.join("config"))?,
            commits: load(&dir.join("commits"))?,
            artifacts,
            runs: load(&dir.join(RUNS))?,
            metrics: load(&dir.join("metrics"))?,
            retracted: load(&dir.join("retracted"))?,
        })
    }

    fn files(&self) -> ledger::Result<Files> {
        let mut files = Files::default();
        files.insert_record("target", &self.target)?;
        files.insert_record("config", &self.config)?;
        files.insert_record("commits", &self.commits)?;
        for (kind, artifacts) in &self.artifacts {
            ensure!(!RESERVED.contains(&kind.as_str()), "an artifact kind cannot have the name {kind:?}: snapshots use it");
            files.insert_record(kind, artifacts)?;
        }
        files.insert_record(RUNS, &self.runs)?;
        files.insert_record("metrics", &self.metrics)?;
        files.insert_record("retracted", &self.retracted)?;
        Ok(files)
    }
}

/// The artifact that a file of a snapshot belongs to, and the file's path in the artifact; none for any other file.
///
/// * `path`: `<kind>/<key>/sealed/<file>`, relative to the snapshot.
pub fn artifact_path(path: &Path) -> Option<(ArtifactId, &Path)> {
    let mut parts = path.iter();
    let (kind, key, sealed) = (parts.next()?.to_str()?, parts.next()?.to_str()?, parts.next()?);
    let id = || ArtifactId { kind: kind.to_owned(), key: key.to_owned() };
    (sealed == SEALED && !RESERVED.contains(&kind)).then(|| (id(), parts.as_path()))
}

/// `<kind>/<key>/sealed`, the folder of an artifact in a snapshot.
pub fn artifact_folder(id: &ArtifactId) -> PathBuf {
    Path::new(&id.kind).join(&id.key).join(SEALED)
}

/// Does a file of a snapshot belong to a work directory?
pub fn is_work_file(path: &Path) -> bool {
    path.starts_with(RUNS)
}

/// The artifacts of a lineage by kind. Every kind of the store has an entry, also where it has no artifact.
fn collect(
    store: &Store,
    closure: &BTreeMap<ArtifactId, Manifest>,
    has_files: impl Fn(&ArtifactId) -> bool,
) -> Result<BTreeMap<String, ArtifactMap>> {
    let mut found: BTreeMap<String, ArtifactMap> = store.kinds().iter().map(|&kind| (kind.to_owned(), ArtifactMap::new())).collect();
    for (id, manifest) in closure {
        let artifact = SavedArtifact::of(store, id, manifest, has_files(id))?;
        found.entry(id.kind.clone()).or_default().insert(id.key.clone(), artifact);
    }
    Ok(found)
}

/// The numbers of all scores that are saved with their files.
fn metrics(store: &Store, artifacts: &BTreeMap<String, ArtifactMap>) -> Result<Metrics> {
    let mut numbers = BTreeMap::new();
    for (key, saved) in artifacts.get(Scores::KIND).into_iter().flatten() {
        if saved.has_files {
            let id = ArtifactId { kind: Scores::KIND.to_owned(), key: key.clone() };
            numbers.extend(store.artifact::<Scores>(&id)?.open()?.flat);
        }
    }
    Ok(Metrics(numbers))
}

/// Work directories that are not empty.
fn work_dirs(store: &Store) -> Result<BTreeMap<String, Folder>> {
    let mut runs = BTreeMap::new();
    for run in WorkDir::all(store.root()) {
        if !Folder::files_of(&run.path)?.is_empty() {
            runs.insert(run.name(), Folder { dir: run.path });
        }
    }
    Ok(runs)
}

/// Kinds of a saved snapshot that this store does not have.
pub fn unknown_kinds<'a>(store: &Store, paths: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<String> {
    paths.filter_map(|path| artifact_path(path)).map(|(id, _)| id.kind).filter(|kind| !store.kinds().contains(&kind.as_str())).collect()
}
