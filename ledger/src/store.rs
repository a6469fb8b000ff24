//! The store: `data/<kind>/<key>/{files…, manifest.json}` and one pointer a kind, `CURRENT`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    ARTIFACT_KINDS, Digest, Error, Manifest, Progress, Recordable, RestoreMarker, chain, ensure,
    error::{Context, Result},
    lock::Lock,
    manifest::MANIFEST,
    seal, write_atomically,
};

const CURRENT: &str = "CURRENT";
/// Begins the name of a folder that a stage writes to before it is sealed.
pub const SCRATCH: &str = ".making-";
const PINS: &str = "pins";

/// A folder of recorded artifacts: one directory per kind, one subdirectory per key.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) progress: Progress,
    pub(crate) threads: usize,
    kinds: Vec<&'static str>,
}

/// Which artifact: its kind and the folder below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactId {
    pub kind: String,
    pub key: String,
}

/// A typed handle on one sealed directory.
#[derive(Debug)]
pub struct Artifact<A> {
    dir: PathBuf,
    manifest: Arc<Manifest>,
    digest: Digest,
    payload: PhantomData<fn() -> A>,
}

impl<A: Recordable> Artifact<A> {
    pub fn open(&self) -> Result<A> {
        RestoreMarker::require_here(&self.dir, &self.manifest)?;
        A::open(&self.dir).with_context(|| format!("opening {}", self.dir.display()))
    }

    /// Are its files here, or were they left where the ledger was restored from?
    pub fn is_here(&self) -> bool {
        RestoreMarker::require_here(&self.dir, &self.manifest).is_ok()
    }

    /// Digest of the output bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn file_digest(&self, path: &Path) -> Result<Digest> {
        let file = self.manifest.outputs.get(path);
        Ok(file.with_context(|| format!("{} has no record of {}", A::KIND, path.display()))?.blake3)
    }

    pub(crate) fn at(dir: PathBuf) -> Result<Self> {
        let manifest = Manifest::read(&dir)?;
        ensure!(manifest.kind == A::KIND, "{} holds {}, not {}", dir.display(), manifest.kind, A::KIND);
        Ok(Self { digest: manifest.digest()?, dir, manifest: Arc::new(manifest), payload: PhantomData })
    }
}

impl Store {
    /// A store with the built-in artifact kinds.
    pub fn at(root: impl Into<PathBuf>, progress: Progress, threads: usize) -> Self {
        Self { root: root.into(), progress, threads, kinds: ARTIFACT_KINDS.to_vec() }
    }

    /// The store with these artifact kinds, in the order in which they are made ([`Registry::kinds`](crate::Registry::kinds)).
    #[must_use]
    pub fn with_kinds(self, kinds: Vec<&'static str>) -> Self {
        Self { kinds, ..self }
    }

    /// Another data folder with the same artifact kinds.
    #[must_use]
    pub fn sibling(&self, root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), progress: self.progress, threads: self.threads, kinds: self.kinds.clone() }
    }

    /// Artifact kinds in the order in which they are made.
    pub fn kinds(&self) -> &[&'static str] {
        &self.kinds
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The artifact that `make` last left for this kind.
    pub fn current<A: Recordable>(&self) -> Result<Artifact<A>> {
        let key = self.current_key(A::KIND).ok_or_else(|| Error::NotRecorded { kind: A::KIND.to_owned(), data: self.root.clone() })?;
        Artifact::at(self.root.join(A::KIND).join(key))
    }

    /// An artifact by its key.
    pub fn artifact<A: Recordable>(&self, id: &ArtifactId) -> Result<Artifact<A>> {
        Artifact::at(self.dir(id))
    }

    /// The manifest that `CURRENT` of a kind names, if there is one.
    pub fn current_manifest(&self, kind: &str) -> Option<(PathBuf, Manifest)> {
        let dir = self.root.join(kind).join(self.current_key(kind)?);
        Manifest::read(&dir).ok().map(|manifest| (dir, manifest))
    }

    /// The key that `CURRENT` of a kind names.
    pub fn current_key(&self, kind: &str) -> Option<String> {
        let key = fs::read_to_string(self.root.join(kind).join(CURRENT)).ok()?;
        let key = key.trim();
        is_key(key).then(|| key.to_owned())
    }

    /// Points `CURRENT` of a kind at an artifact.
    pub fn set_current(&self, id: &ArtifactId) -> Result<()> {
        write_atomically(&self.root.join(&id.kind).join(CURRENT), format!("{}\n", id.key).as_bytes())
    }

    pub fn dir(&self, id: &ArtifactId) -> PathBuf {
        self.root.join(&id.kind).join(&id.key)
    }

    /// Does a kind have a pointer that names no key?
    pub fn has_damaged_pointer(&self, kind: &str) -> bool {
        self.root.join(kind).join(CURRENT).exists() && self.current_key(kind).is_none()
    }

    /// Every sealed folder, current or not, by kind and key.
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

    /// Artifacts that are kept whatever `CURRENT` says, by the name they were pinned under.
    pub fn pins(&self) -> Result<BTreeMap<String, ArtifactId>> {
        let folder = self.root.join(PINS);
        let mut pins = BTreeMap::new();
        if !folder.exists() {
            return Ok(pins);
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
            let id = text.trim().split_once(' ').filter(|(_, key)| is_key(key));
            let (kind, key) = id.with_context(|| format!("{} is damaged: remove it, and pin again", entry.path().display()))?;
            pins.insert(name, ArtifactId { kind: kind.to_owned(), key: key.to_owned() });
        }
        Ok(pins)
    }

    /// Keeps an artifact, and all it came from, under a name.
    pub fn pin(&self, name: &str, id: &ArtifactId) -> Result<()> {
        let _held = self.lock()?;
        ensure!(self.dir(id).is_dir(), "{} {} is not in {}", id.kind, id.key, self.root.display());
        write_atomically(&self.pin_file(name)?, format!("{} {}\n", id.kind, id.key).as_bytes())
    }

    pub fn unpin(&self, name: &str) -> Result<()> {
        let path = self.pin_file(name)?;
        fs::remove_file(&path).with_context(|| format!("nothing is pinned as {name}"))
    }

    fn pin_file(&self, name: &str) -> Result<PathBuf> {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        ensure!(plain && !name.starts_with('.'), "{name:?} cannot name a pin: letters, digits, `-`, `_` and `.` can");
        Ok(self.root.join(PINS).join(name))
    }

    /// One stage of a store runs at a time; the system lets go of the lock when a process ends, however
    /// it ends. Under the lock, scratch folders are debris of killed runs.
    pub fn lock(&self) -> Result<Lock> {
        fs::create_dir_all(&self.root).with_context(|| format!("creating {}: is its folder read-only?", self.root.display()))?;
        let held = Lock::wait(&self.root.join(".lock"), &self.progress)?;
        // RestoreMarker others may be writing: reports need no lock.
        let written_under_lock = self.kinds.iter().copied().chain([PINS, "diffs"]).map(|folder| self.root.join(folder));
        for folder in written_under_lock.chain([self.root.clone()]) {
            let is_root = folder == self.root;
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                let removed = if name.starts_with(SCRATCH) {
                    fs::remove_dir_all(&path)
                } else if name.starts_with(seal::TEMPORARY) && !is_root {
                    fs::remove_file(&path)
                } else {
                    Ok(())
                };
                removed.with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(held)
    }

    /// The manifests of artifacts and of all they were made of, by kind and key; what has no folder here is left out.
    ///
    /// # Errors
    /// A manifest does not read: what it was made of is not known.
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

    /// Hashes every file of every sealed folder again and names the damaged ones, which are remembered: the stage that made them
    /// is no longer fresh.
    pub fn verify(&self) -> Result<Vec<PathBuf>> {
        ensure!(self.root.is_dir(), "{} is not a folder", self.root.display());
        let mut damaged = BTreeMap::new();
        let ids = self.artifacts()?;
        let bar = self.progress.bar("verify", ids.len() as u64, "artifacts");
        for id in ids {
            let dir = self.dir(&id);
            let files = match Manifest::read(&dir) {
                Ok(manifest) => manifest.damaged_files(&dir),
                Err(_) => vec![PathBuf::from(MANIFEST)],
            };
            if !files.is_empty() {
                damaged.insert(id, files);
            }
            bar.add(1);
        }
        bar.finish();
        let files = damaged.iter().flat_map(|(id, files)| files.iter().map(|file| self.dir(id).join(file))).collect();
        if let Err(error) = self.remember_damage(damaged) {
            self.progress.message(&format!("what is damaged is not remembered for `status`: {}", chain(&error)));
        }
        Ok(files)
    }
}

/// Keys are the first digits of a digest.
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
