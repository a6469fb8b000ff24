//! `restore`: rebuilds a data folder from a snapshot.
//!
//! Files are fetched to `.restoring/` and checked, so that an interrupted restore does not fetch them again. Then a rename moves each
//! artifact to its place. The `CURRENT` files are set last.

mod fetch;
mod install;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ledger::{
    ArtifactId, Commit, Manifest, Recordable, Retracted, Store, WorkDir, ensure, fsync_dir, fsync_tree, is_key, load, runs_dir,
    write_atomically,
};

use crate::{
    error::{Context, Result},
    remote::Remote,
    snapshot::{Selection, Snapshot, artifact_path, unknown_kinds},
    tree::{self, Tree},
};

/// Folder of a restore that has not finished.
pub(crate) const RESTORING: &str = ".restoring";
/// The saved configuration, in the data folder.
pub const CONFIG: &str = "restored.conf";

/// What a restore did.
#[derive(Debug, Default)]
pub struct Restored {
    /// Artifacts that were restored.
    pub artifacts: u64,
    /// Artifacts that the data folder had already.
    pub kept: u64,
    /// `<kind> <key>` of artifacts whose files were not restored.
    pub without_files: Vec<String>,
    /// Work directories that were restored.
    pub runs: u64,
    pub fetched_bytes: u64,
}

/// Restores the snapshot with this name or digest into a store. Artifacts that the store has already stay as they are.
///
/// * `selection`: the kinds whose files are restored. Manifests are always restored.
///
/// # Errors
/// There is no such snapshot, an object of it is damaged, it has an artifact kind that the store does not have, or the store has an
/// artifact of the same key with other bytes. Nothing is installed in these cases.
pub fn restore(store: &Store, remote: &Remote, name: &str, selection: &Selection) -> Result<Restored> {
    let _lock = store.lock()?;
    let (id, tree) = tree::find(remote, name)?;
    require_snapshot(store, remote, name, &tree)?;
    let mut restored = Restored::default();
    let present = present(store, remote, &tree, selection)?;
    let fetched = fetch::Fetch { store, remote, tree: &tree, selection, present: &present };
    let dir = fetched.to_dir(&id, &mut restored)?;
    let snapshot: Snapshot = load(&dir).context("opening the fetched snapshot")?;
    install::Install { store, tree: &tree, fetched: &dir, present: &present, from: remote.address(), restored: &mut restored }
        .all(&snapshot)?;
    restore_diffs(store, &snapshot)?;
    restore_runs(store, &snapshot, &mut restored)?;
    let mut retracted = Retracted::read(store.root())?.unwrap_or_default();
    retracted.0.extend(snapshot.retracted.0);
    if !retracted.0.is_empty() {
        retracted.write(store.root())?;
    }
    write_atomically(&store.root().join(CONFIG), &serde_json::to_vec_pretty(&snapshot.config.0)?)?;
    set_current(store, &snapshot.target.current)?;
    let scratch = store.root().join(RESTORING);
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    Ok(restored)
}

/// Is the record a snapshot that this store can hold?
fn require_snapshot(store: &Store, remote: &Remote, name: &str, tree: &Tree) -> Result<()> {
    ensure!(
        tree.kind == Snapshot::KIND && tree.version == Snapshot::VERSION,
        "{} has {} of version {} under {name}, expected {} of version {}",
        remote.address(),
        tree.kind,
        tree.version,
        Snapshot::KIND,
        Snapshot::VERSION
    );
    let unknown = unknown_kinds(store, tree.files.keys());
    let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
    ensure!(
        unknown.is_empty(),
        "the snapshot {name} at {} has artifact kinds that no stage of this program has ({}): restore it with the program that saved it",
        remote.address(),
        unknown.join(", ")
    );
    Ok(())
}

/// Folders of artifacts in the tree that the store has already with equal bytes: completely, or as far as the selection goes.
///
/// # Errors
/// The store has one with other bytes, as a stage on another machine may write them. Neither replaces the other.
fn present(store: &Store, remote: &Remote, tree: &Tree, selection: &Selection) -> Result<BTreeMap<PathBuf, ArtifactId>> {
    let mut present = BTreeMap::new();
    for (path, file) in &tree.files {
        let Some((id, _)) = artifact_path(path).filter(|(_, inner)| *inner == Path::new("manifest.json")) else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        ensure!(is_key(&id.key), "{} is not the folder of an artifact", folder.display());
        let dir = store.dir(&id);
        // A damaged manifest is replaced by the one of the snapshot.
        let Ok(own) = Manifest::read(&dir) else { continue };
        let mut bytes = Vec::new();
        tree::read(remote, file, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        let saved = Manifest::of_bytes(&bytes, &remote.address_of(&path.display().to_string()))?;
        ensure!(
            own.digest()? == saved.digest()?,
            "{0} {1} exists with other bytes than were saved, perhaps made on another machine: restore into another folder with \
             `codenets restore --data FOLDER`, or delete {2}",
            id.kind,
            id.key,
            dir.display()
        );
        let has_all = own.outputs.keys().all(|path| dir.join(path).exists());
        let is_intact = own.files_of_wrong_size(&dir).is_empty() && store.known_damage(&id).is_empty();
        let brings_files =
            tree.files.keys().any(|path| path.starts_with(folder) && !path.ends_with("manifest.json") && selection.takes(path));
        if (has_all && is_intact) || !brings_files {
            present.insert(folder.to_owned(), id);
        }
    }
    Ok(present)
}

/// The changes of dirty checkouts.
fn restore_diffs(store: &Store, snapshot: &Snapshot) -> Result<()> {
    for (run, checkout) in &snapshot.commits {
        if let Some((diff, file)) = checkout.commit.diff.zip(checkout.diff.as_ref()) {
            let bytes = fs::read(file).with_context(|| format!("reading the changes that {run} ran with"))?;
            write_atomically(&Commit::diff_file(store.root(), diff), &bytes)?;
        }
    }
    Ok(())
}

/// Work directories; one that exists stays as it is.
fn restore_runs(store: &Store, snapshot: &Snapshot, restored: &mut Restored) -> Result<()> {
    for (run, folder) in &snapshot.runs {
        let target = WorkDir::parse(store.root(), run).with_context(|| format!("{run:?} is not the name of a work directory"))?.path;
        if target.exists() {
            store.progress().message(&format!("runs/{run} exists and is not restored"));
            continue;
        }
        fs::create_dir_all(runs_dir(store.root())).with_context(|| format!("restoring {}", target.display()))?;
        fsync_tree(&folder.dir)?;
        fs::rename(&folder.dir, &target).with_context(|| format!("restoring {}", target.display()))?;
        fsync_dir(&runs_dir(store.root()))?;
        restored.runs += 1;
    }
    Ok(())
}

/// Sets the current artifacts to those of the snapshot.
fn set_current(store: &Store, current: &BTreeMap<String, String>) -> Result<()> {
    for (kind, key) in current {
        let id = ArtifactId { kind: kind.clone(), key: key.clone() };
        let is_restored = store.kinds().contains(&kind.as_str()) && is_key(key) && store.dir(&id).is_dir();
        ensure!(is_restored, "the snapshot names {kind} {key} as current and does not contain it");
        if let Some(other) = store.current_key(kind).filter(|other| other != key) {
            store.progress().message(&format!("{kind}: current was {other}, is {key}"));
        }
        store.set_current(&id)?;
    }
    Ok(())
}
