//! The store: `data/<kind>/<key>/{files…, manifest.json}`, and the key of the current artifact in `data/<kind>/CURRENT`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::lock::Lock;
use crate::{
    artifacts::{
        artifact::{Artifact, ArtifactId},
        commit::DIFFS,
        kinds::ARTIFACT_KINDS,
        manifest::Manifest,
        recordable::Recordable,
    },
    digest::is_key,
    durable::{TEMPORARY, write_atomically},
    error::{Context, Error, Result},
    progress::Progress,
};

/// Folder of the pins.
pub(crate) const PINS: &str = "pins";
/// File with the key of the current artifact of a kind.
const CURRENT: &str = "CURRENT";
/// Prefix of a folder that a stage writes into before it is sealed.
pub const SCRATCH: &str = ".making-";
/// File of the lock of runs.
const RUN_LOCK: &str = ".run.lock";

/// An artifact store: a data folder with one folder for each artifact kind, and in it one folder for each key.
///
/// One process at a time writes to it ([`Store::lock`]).
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) progress: Progress,
    pub(crate) threads: usize,
    kinds: Vec<&'static str>,
}

impl Store {
    /// The store in a data folder, with the built-in artifact kinds. The folder need not exist. `threads`: number of worker threads.
    pub fn at(root: impl Into<PathBuf>, progress: Progress, threads: usize) -> Self {
        Self { root: root.into(), progress, threads, kinds: ARTIFACT_KINDS.to_vec() }
    }

    /// The store with other artifact kinds ([`Registry::kinds`](crate::Registry::kinds)).
    #[must_use]
    pub fn with_kinds(self, kinds: Vec<&'static str>) -> Self {
        Self { kinds, ..self }
    }

    /// Another data folder with the same artifact kinds.
    #[must_use]
    pub fn sibling(&self, root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), progress: self.progress, threads: self.threads, kinds: self.kinds.clone() }
    }

    /// Artifact kinds, each after the kinds that its stage reads.
    pub fn kinds(&self) -> &[&'static str] {
        &self.kinds
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where messages and progress bars go.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The current artifact of a kind.
    ///
    /// # Errors
    /// [`Error::NotRecorded`], or the artifact is damaged.
    pub fn current<A: Recordable>(&self) -> Result<Artifact<A>> {
        let key = self.current_key(A::KIND).ok_or_else(|| Error::NotRecorded { kind: A::KIND.to_owned(), data: self.root.clone() })?;
        Artifact::at(self.root.join(A::KIND).join(key))
    }

    /// An artifact by kind and key.
    pub fn artifact<A: Recordable>(&self, id: &ArtifactId) -> Result<Artifact<A>> {
        Artifact::at(self.dir(id))
    }

    /// Folder and manifest of the current artifact of a kind, if there is one.
    pub fn current_manifest(&self, kind: &str) -> Option<(PathBuf, Manifest)> {
        let dir = self.root.join(kind).join(self.current_key(kind)?);
        Manifest::read(&dir).ok().map(|manifest| (dir, manifest))
    }

    /// Key of the current artifact of a kind.
    pub fn current_key(&self, kind: &str) -> Option<String> {
        let key = fs::read_to_string(self.root.join(kind).join(CURRENT)).ok()?;
        let key = key.trim();
        is_key(key).then(|| key.to_owned())
    }

    /// Makes an artifact the current one of its kind.
    pub fn set_current(&self, id: &ArtifactId) -> Result<()> {
        write_atomically(&self.root.join(&id.kind).join(CURRENT), format!("{}\n", id.key).as_bytes())
    }

    /// Folder of an artifact.
    pub fn dir(&self, id: &ArtifactId) -> PathBuf {
        self.root.join(&id.kind).join(&id.key)
    }

    /// Does the file `CURRENT` of a kind exist without a key in it?
    pub fn has_damaged_pointer(&self, kind: &str) -> bool {
        self.root.join(kind).join(CURRENT).exists() && self.current_key(kind).is_none()
    }

    /// All artifacts, current or not, sorted.
    pub fn artifacts(&self) -> Result<Vec<ArtifactId>> {
        let mut found = Vec::new();
        for &kind in &self.kinds {
            let Ok(entries) = fs::read_dir(self.root.join(kind)) else { continue };
            for entry in entries {
                let key = entry?.file_name().to_string_lossy().into_owned();
                let id = ArtifactId { kind: kind.to_owned(), key };
                if is_key(&id.key) && self.dir(&id).is_dir() {
                    found.push(id);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Folder of verified downloads.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Waits until no other process makes a run of stages, restores or adopts: what it makes current would be mixed with this run's.
    /// The lock of [`Store::lock`] is taken by each stage on its own.
    pub fn lock_run(&self) -> Result<Lock> {
        self.locked(RUN_LOCK)
    }

    /// [`Store::lock_run`] without waiting.
    ///
    /// # Errors
    /// [`Error::InUse`] where another process has the lock.
    pub fn lock_run_now(&self) -> Result<Lock> {
        self.create_root()?;
        Lock::now(&self.root.join(RUN_LOCK), &self.progress)
    }

    fn create_root(&self) -> Result<()> {
        fs::create_dir_all(&self.root).with_context(|| format!("creating {}: is its folder read-only?", self.root.display()))
    }

    fn locked(&self, name: &str) -> Result<Lock> {
        self.create_root()?;
        Lock::wait(&self.root.join(name), &self.progress)
    }

    /// Waits until this process is the only writer. The system releases the lock when the process ends.
    ///
    /// It also deletes scratch folders and temporary files of killed runs.
    pub fn lock(&self) -> Result<Lock> {
        let lock = self.locked(".lock")?;
        // Reports are written without the lock: temporary files in other folders may belong to a running process.
        let written_under_lock = self.kinds.iter().copied().chain([PINS, DIFFS]).map(|folder| self.root.join(folder));
        for folder in written_under_lock.chain([self.root.clone()]) {
            let is_root = folder == self.root;
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                let removed = if name.starts_with(SCRATCH) {
                    fs::remove_dir_all(&path)
                } else if name.starts_with(TEMPORARY) && !is_root {
                    fs::remove_file(&path)
                } else {
                    Ok(())
                };
                removed.map_err(Error::io("removing", &path))?;
            }
        }
        Ok(lock)
    }

    /// The manifests of artifacts and of all artifacts that they were computed from. Artifacts without a folder are left out.
    ///
    /// # Errors
    /// A manifest cannot be read, so that its inputs are not known.
    pub fn closure(&self, of: impl IntoIterator<Item = ArtifactId>) -> Result<BTreeMap<ArtifactId, Manifest>> {
        let mut found = BTreeMap::new();
        let mut open: Vec<ArtifactId> = of.into_iter().collect();
        let mut seen: BTreeSet<ArtifactId> = open.iter().cloned().collect();
        while let Some(id) = open.pop() {
            let dir = self.dir(&id);
            if !dir.is_dir() {
                continue;
            }
            let manifest = Manifest::read(&dir)?;
            let inputs = manifest.inputs.iter().filter(|(kind, _)| self.kinds.contains(&kind.as_str()));
            let inputs = inputs.filter_map(|(kind, input)| input.key.clone().map(|key| ArtifactId { kind: kind.clone(), key }));
            open.extend(inputs.filter(|input| seen.insert(input.clone())));
            found.insert(id, manifest);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_a_folder_whose_name_is_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), Progress::new(true), 1);
        for folder in ["0123456789ab", "no-key"] {
            fs::create_dir_all(dir.path().join("raw").join(folder)).unwrap();
        }
        fs::write(dir.path().join("raw/ba9876543210"), "").unwrap();
        let keys: Vec<String> = store.artifacts().unwrap().into_iter().map(|id| id.key).collect();
        assert_eq!(keys, ["0123456789ab"]);
    }
}
