//! `gc`: what nobody can reach any more is shown, and removed when that is asked for.
//!
//! ArtifactMap is what `CURRENT` names, what published bundles were made of, and what is pinned, each with all it came from; what runs keep
//! for themselves while their artifact is kept or not made yet (a training to go on with); and every download. Under the store's lock,
//! so never below a running stage; and not while a `save` reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use ledger::{ArtifactId, Bundle, BundleId, Commit, Manifest, Recordable, Scores, Serve, Store, WorkDir};
use serde::Serialize;

use crate::save::READERS;

/// Something that nothing reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    pub path: PathBuf,
    /// Bytes that its removal gives back: files that others link to give none.
    pub bytes: u64,
    pub why: String,
}

/// What would go, largest first.
///
/// `is_unsent`: does a work directory hold something that still has to be sent? It then stays.
pub fn plan(store: &Store, is_unsent: &dyn Fn(&Path) -> bool) -> Result<Vec<Garbage>> {
    let roots = roots(store)?;
    let kept = reached(store, roots.clone())?;
    let keys: BTreeSet<&str> = kept.keys().map(|id| id.key.as_str()).collect();
    let mut garbage = Vec::new();
    let mut gone = BTreeSet::new();
    // One whose manifest cannot be read reaches nothing, but may itself be one that is kept.
    for id in store.artifacts()? {
        if !kept.contains_key(&id) && !roots.contains(&id) {
            garbage.push(Garbage {
                bytes: freed(&store.dir(&id)),
                path: store.dir(&id),
                why: "not reached from current, published or pinned".to_owned(),
            });
            gone.insert(id.key);
        }
    }
    for run in WorkDir::all(store.root()) {
        if gone.contains(&run.key) && !keys.contains(run.key.as_str()) && !is_unsent(&run.path) {
            garbage.push(Garbage { bytes: freed(&run.path), path: run.path, why: "work directory of an unreferenced artifact".to_owned() });
        }
    }
    let diffs: BTreeSet<PathBuf> =
        kept.values().filter_map(|manifest| manifest.host.commit.diff).map(|diff| Commit::diff_file(store.root(), diff)).collect();
    for entry in fs::read_dir(store.root().join("diffs")).into_iter().flatten().flatten() {
        if !diffs.contains(&entry.path()) {
            garbage.push(Garbage {
                bytes: freed(&entry.path()),
                path: entry.path(),
                why: "changes that no kept artifact was made with".to_owned(),
            });
        }
    }
    let restoring = store.root().join(".restoring");
    if restoring.exists() {
        garbage.push(Garbage { bytes: freed(&restoring), path: restoring, why: "left by a restore that did not end".to_owned() });
    }
    garbage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    Ok(garbage)
}

/// All that the roots came from, also by files: a training may begin from another checkpoint's, which it knows by their digests.
fn reached(store: &Store, mut roots: BTreeSet<ArtifactId>) -> Result<BTreeMap<ArtifactId, Manifest>> {
    loop {
        let kept = store.closure(roots.iter().cloned())?;
        let outside: BTreeSet<_> = kept
            .values()
            .flat_map(|manifest| manifest.inputs.values())
            .filter(|input| input.key.is_none())
            .map(|input| input.digest)
            .collect();
        let mut more = Vec::new();
        for id in store.artifacts()?.into_iter().filter(|id| !kept.contains_key(id)) {
            let is_read = |manifest: Manifest| manifest.outputs.values().any(|file| outside.contains(&file.blake3));
            if Manifest::read(&store.dir(&id)).is_ok_and(is_read) {
                more.push(id);
            }
        }
        if more.is_empty() {
            return Ok(kept);
        }
        roots.extend(more);
    }
}

/// Removes what [`plan`] finds, under the lock; what was removed.
pub fn collect(store: &Store, is_unsent: &dyn Fn(&Path) -> bool) -> Result<Vec<Garbage>> {
    let _held = store.lock()?;
    let path = store.root().join(READERS);
    let readers = fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    if readers.try_lock().is_err() {
        store.progress().message("waits for a save that reads");
        readers.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    let garbage = plan(store, is_unsent)?;
    for one in &garbage {
        remove(&one.path).with_context(|| format!("removing {}", one.path.display()))?;
    }
    Ok(garbage)
}

/// Out of sight first: a removal that is killed leaves debris that no tool takes for an artifact.
fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = path.with_file_name(format!("{}{name}", ledger::SCRATCH));
        fs::rename(path, &hidden)?;
        fs::remove_dir_all(hidden)?;
    } else {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn roots(store: &Store) -> Result<BTreeSet<ArtifactId>> {
    if let Some(kind) = store.kinds().iter().find(|kind| store.has_damaged_pointer(kind)) {
        bail!("{}/{kind}/CURRENT is damaged: nothing is removed until `make run` has set it again", store.root().display());
    }
    let current = store.kinds().iter().filter_map(|&kind| Some(ArtifactId { kind: kind.to_owned(), key: store.current_key(kind)? }));
    let mut roots: BTreeSet<ArtifactId> = current.collect();
    roots.extend(store.pins()?.into_values());
    let serve = Serve::of(store.root());
    for id in serve.ids()? {
        roots.extend(published(&serve.bundle(&id), &id)?);
    }
    Ok(roots)
}

/// The bundle that was published, which leads back to all that it was made of, and its scores.
fn published(dir: &Path, id: &BundleId) -> Result<BTreeSet<ArtifactId>> {
    let mut found = BTreeSet::from([ArtifactId { kind: Bundle::KIND.to_owned(), key: id.key().to_owned() }]);
    let path = dir.join("manifest.json");
    let bytes = fs::read(&path)
        .with_context(|| format!("reading {}: nothing is removed while it is not known what it was made of", path.display()))?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: roll back, or remove it", path.display()))?;
    if let Some(key) = manifest["published"]["stages"]["evaluate"]["key"].as_str() {
        found.insert(ArtifactId { kind: Scores::KIND.to_owned(), key: key.to_owned() });
    }
    Ok(found)
}

/// Bytes of files that have no other name.
fn freed(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if meta.is_dir() {
        return fs::read_dir(path).into_iter().flatten().flatten().map(|entry| freed(&entry.path())).sum();
    }
    if meta.nlink() == 1 { meta.len() } else { 0 }
}
