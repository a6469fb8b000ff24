//! `gc`: what nobody can reach any more is shown, and removed when that is asked for.
//!
//! Kept is what `CURRENT` names, what published bundles were made of, and what is pinned, each with all it came from; what runs keep
//! for themselves while their artifact is kept or not made yet (a training to go on with); and every download. Under the store's lock,
//! so never below a running stage; and not while a `save` reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use ledger::{ArtifactId, Bundle, Commit, Manifest, ROAD, Recordable, Scores, Store};
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
pub fn plan(store: &Store) -> Result<Vec<Garbage>> {
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
    for entry in fs::read_dir(store.root().join("runs")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = name.rsplit_once('-').map_or("", |(_, key)| key);
        if gone.contains(key) && !keys.contains(key) && !has_unsent(&entry.path()) {
            garbage.push(Garbage { bytes: freed(&entry.path()), path: entry.path(), why: "kept by a run whose artifact goes".to_owned() });
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
pub fn collect(store: &Store) -> Result<Vec<Garbage>> {
    let _held = store.lock()?;
    let path = store.root().join(READERS);
    let readers = fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    if readers.try_lock().is_err() {
        store.progress().say("waits for a save that reads");
        readers.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    let garbage = plan(store)?;
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
    if let Some(kind) = ROAD.iter().find(|kind| store.has_damaged_pointer(kind)) {
        bail!("{}/{kind}/CURRENT is damaged: nothing is removed until `make run` has set it again", store.root().display());
    }
    let current = ROAD.iter().filter_map(|&kind| Some(ArtifactId { kind: kind.to_owned(), key: store.current_key(kind)? }));
    let mut roots: BTreeSet<ArtifactId> = current.collect();
    roots.extend(store.pins()?.into_values());
    let served = store.root().join("serve").join("bundles");
    if served.exists() {
        for entry in fs::read_dir(&served).with_context(|| format!("listing {}", served.display()))? {
            roots.extend(published(&entry?.path())?);
        }
    }
    Ok(roots)
}

/// The bundle that was published, which leads back to all that it was made of, and its scores.
fn published(dir: &Path) -> Result<BTreeSet<ArtifactId>> {
    let mut found = BTreeSet::new();
    let path = dir.join("manifest.json");
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Not published yet, and not an artifact of ours: under the lock there is nothing like it but debris.
    if id.starts_with('.') {
        return Ok(found);
    }
    if let Some((_, key)) = id.rsplit_once('-') {
        found.insert(ArtifactId { kind: Bundle::KIND.to_owned(), key: key.to_owned() });
    }
    let bytes = fs::read(&path)
        .with_context(|| format!("reading {}: nothing is removed while it is not known what it was made of", path.display()))?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: roll back, or remove it", path.display()))?;
    if let Some(key) = manifest["published"]["stages"]["evaluate"]["key"].as_str() {
        found.insert(ArtifactId { kind: Scores::KIND.to_owned(), key: key.to_owned() });
    }
    Ok(found)
}

/// Has a run told a tracking server less than all it has to tell? (`mlflow*/spool.jsonl`, and beside it how far a server has it.)
fn has_unsent(run: &Path) -> bool {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    entries(run).iter().any(|folder| {
        let Ok(spool) = fs::metadata(folder.join("spool.jsonl")) else { return false };
        let sent = entries(folder).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let most = sent.filter_map(|path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).ok()?).ok()?["bytes"].as_u64()).max();
        most.unwrap_or_default() < spool.len()
    })
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
