//! Garbage collection: finds unreferenced artifacts, and deletes them.
//!
//! Referenced are the current artifacts, the artifacts of published bundles and the pinned artifacts, each with its lineage. A work
//! directory is referenced while its artifact is, or while its artifact does not exist yet: a training resumes from it. Downloads are
//! never deleted. Deletion holds the lock of the store, so no stage runs and no `save` reads meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ledger::{ArtifactId, Bundle, Commit, Digest, Manifest, Recordable, Serve, Store, WorkDir, bail};
use serde::Serialize;
use serde_json::Value;
use walkdir::WalkDir;

use crate::{
    error::{Context, Result},
    readers,
    restore::RESTORING,
};

/// A file or folder that nothing references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    pub path: PathBuf,
    /// Bytes that its deletion frees. A file with a second hard link frees none.
    pub bytes: u64,
    pub why: String,
}

/// Finds what would be deleted, largest first.
///
/// * `is_unsent`: does this work directory hold something that has still to be sent? It is kept then.
///
/// # Errors
/// A `CURRENT` file, a manifest of a referenced artifact or a published bundle does not read: what it references is unknown.
pub fn plan(store: &Store, is_unsent: &dyn Fn(&Path) -> bool) -> Result<Vec<Garbage>> {
    let roots = roots(store)?;
    let referenced = referenced(store, roots.clone())?;
    let mut garbage = Garbages::default();
    let mut unreferenced_keys = BTreeSet::new();
    // A root whose manifest does not read references nothing and is still a root.
    for id in store.artifacts()?.into_iter().filter(|id| !referenced.contains_key(id) && !roots.contains(id)) {
        garbage.add(store.dir(&id), "not referenced by a current, published or pinned artifact");
        unreferenced_keys.insert(id.key);
    }
    let keys: BTreeSet<&str> = referenced.keys().map(|id| id.key.as_str()).collect();
    for run in WorkDir::all(store.root()) {
        if unreferenced_keys.contains(&run.key) && !keys.contains(run.key.as_str()) && !is_unsent(&run.path) {
            garbage.add(run.path, "work directory of an unreferenced artifact");
        }
    }
    let diffs = referenced.values().filter_map(|manifest| manifest.host.commit.diff);
    let diffs: BTreeSet<PathBuf> = diffs.map(|diff| Commit::diff_file(store.root(), diff)).collect();
    for entry in
        fs::read_dir(Commit::diffs_dir(store.root())).into_iter().flatten().flatten().filter(|entry| !diffs.contains(&entry.path()))
    {
        garbage.add(entry.path(), "changes of a checkout that no referenced artifact was made with");
    }
    let restoring = store.root().join(RESTORING);
    if restoring.exists() {
        garbage.add(restoring, "files of a restore that did not finish");
    }
    garbage.0.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    Ok(garbage.0)
}

#[derive(Default)]
struct Garbages(Vec<Garbage>);

impl Garbages {
    fn add(&mut self, path: PathBuf, why: &str) {
        self.0.push(Garbage { bytes: freed(&path), path, why: why.to_owned() });
    }
}

/// The roots with their lineages, and the artifacts whose files are an external input of one of them: a training that starts from another
/// checkpoint records the digests of its files, not its key.
fn referenced(store: &Store, mut roots: BTreeSet<ArtifactId>) -> Result<BTreeMap<ArtifactId, Manifest>> {
    loop {
        let found = store.closure(roots.iter().cloned())?;
        let reads = ExternalReads::of(found.values());
        let other = store.artifacts()?.into_iter().filter(|id| !found.contains_key(id));
        let read: Vec<ArtifactId> =
            other.filter(|id| Manifest::read(&store.dir(id)).is_ok_and(|manifest| reads.needs(id, &manifest))).collect();
        if read.is_empty() {
            return Ok(found);
        }
        roots.extend(read);
    }
}

/// The external inputs of artifacts.
struct ExternalReads<'a> {
    /// The configurations that read a file.
    by_file: BTreeMap<Digest, Vec<&'a Value>>,
    /// The files of the artifacts themselves.
    own: BTreeSet<Digest>,
}

impl<'a> ExternalReads<'a> {
    fn of(manifests: impl Iterator<Item = &'a Manifest>) -> Self {
        let mut reads = Self { by_file: BTreeMap::new(), own: BTreeSet::new() };
        for manifest in manifests {
            reads.own.extend(manifest.outputs.values().map(|file| file.blake3));
            for input in manifest.inputs.values().filter(|input| input.key.is_none()) {
                reads.by_file.entry(input.digest).or_default().push(&manifest.config);
            }
        }
        reads
    }

    /// Is a file of another artifact read? Every bundle has a copy of its encoder: where the artifacts have the file too, only the folder
    /// that the configuration names is needed.
    fn needs(&self, id: &ArtifactId, manifest: &Manifest) -> bool {
        manifest.outputs.values().any(|file| {
            let readers = self.by_file.get(&file.blake3);
            readers.is_some_and(|configs| !self.own.contains(&file.blake3) || configs.iter().any(|config| names(config, &id.key)))
        })
    }
}

/// Has a text of a configuration this key in it?
fn names(config: &Value, key: &str) -> bool {
    match config {
        Value::String(text) => text.contains(key),
        Value::Array(values) => values.iter().any(|value| names(value, key)),
        Value::Object(members) => members.values().any(|value| names(value, key)),
        _ => false,
    }
}

/// Deletes what [`plan`] finds, and returns it. Waits for a running stage and a running `save`.
///
/// # Errors
/// Those of [`plan`], and a file that cannot be deleted.
pub fn collect(store: &Store, is_unsent: &dyn Fn(&Path) -> bool) -> Result<Vec<Garbage>> {
    let _lock = store.lock()?;
    let _readers = readers::lock_exclusive(store)?;
    let garbage = plan(store, is_unsent)?;
    for one in &garbage {
        delete(&one.path).with_context(|| format!("deleting {}", one.path.display()))?;
    }
    Ok(garbage)
}

/// Deletes a file or folder. A folder is renamed first, so that what a killed deletion leaves is not taken for an artifact.
fn delete(path: &Path) -> Result<()> {
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

/// The current artifacts, the artifacts of published bundles and the pinned artifacts.
fn roots(store: &Store) -> Result<BTreeSet<ArtifactId>> {
    if let Some(kind) = store.kinds().iter().find(|kind| store.has_damaged_pointer(kind)) {
        bail!("{}/{kind}/CURRENT is damaged: nothing is deleted until `codenets run` has written it again", store.root().display());
    }
    let current = store.kinds().iter().filter_map(|&kind| Some(ArtifactId { kind: kind.to_owned(), key: store.current_key(kind)? }));
    let mut roots: BTreeSet<ArtifactId> = current.collect();
    roots.extend(store.pins()?.into_values());
    let serve = Serve::of(store.root());
    let recorded = store.artifacts()?;
    for id in serve.ids()? {
        // The lineage of its artifact is kept where its own manifest does not read.
        match serve.keys(&id) {
            Ok(keys) => roots.extend(recorded.iter().filter(|artifact| keys.contains(&artifact.key)).cloned()),
            Err(error) => store.progress().message(&format!("gc        bundle {id} is damaged: {}", ledger::chain(&error))),
        }
        roots.insert(ArtifactId { kind: Bundle::KIND.to_owned(), key: id.key().to_owned() });
    }
    Ok(roots)
}

/// Bytes that the deletion of a file or folder frees.
fn freed(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = WalkDir::new(path).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    files.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.nlink() == 1).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_found_wherever_a_configuration_has_it() {
        let has = |config: Value| names(&config, "0123456789ab");
        assert!(has(json!({ "adopt": { "from": "encoder 0123456789ab" } })));
        assert!(has(json!({ "sources": ["a", { "path": "data/raw/0123456789ab" }] })));
        assert!(!has(json!({ "0123456789ab": [1, true, null, "0123456789ac"] })));
    }
}
