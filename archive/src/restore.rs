//! `restore`: the ledger rebuilt from what was saved.
//!
//! Files come into `.restoring/` first, each checked, so that an interrupted restore goes on where it was; then every artifact is
//! sealed by a rename, and the pointers are set last.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use ledger::{
    ARTIFACT_KINDS, ArtifactId, ArtifactRef, Digest, FileRecord, Manifest, Recordable, RestoreMarker, Retracted, Store, fsync_tree, is_key,
    load, open_to_all, write_atomically,
};

use crate::{
    remote::Remote,
    snapshot::{Selection, Snapshot},
    tree::{self, Tree},
};

const RESTORING: &str = ".restoring";
/// The saved configuration, in the data folder.
pub const CONFIG: &str = "restored.conf";

/// What came of it.
#[derive(Debug, Default)]
pub struct Restored {
    pub artifacts: u64,
    pub kept: u64,
    pub without_files: Vec<String>,
    pub runs: u64,
    pub fetched_bytes: u64,
}

/// Rebuilds what was saved under a name in this store.
pub fn restore(store: &Store, remote: &Remote, name: &str, wanted: &Selection) -> Result<Restored> {
    let _held = store.lock()?;
    let (id, tree) = tree::find(remote, name)?;
    ensure!(
        tree.kind == Snapshot::KIND && tree.version == Snapshot::VERSION,
        "{} holds {} of version {} under {name}, not {} of version {}",
        remote.address(),
        tree.kind,
        tree.version,
        Snapshot::KIND,
        Snapshot::VERSION
    );
    let scratch = store.root().join(RESTORING);
    let mut restored = Restored::default();
    let here = already_here(store, remote, &tree, wanted)?;
    let assembled = assemble(store, remote, &id, &tree, wanted, &here, &mut restored)?;
    let point: Snapshot = load(&assembled).context("what was fetched does not open")?;
    let from = remote.address().to_owned();
    let mut install = Install { store, assembled: &assembled, here: &here, from, restored: &mut restored };
    install.all(&point.raw)?;
    install.all(&point.functions)?;
    install.all(&point.syntax)?;
    install.all(&point.vocabulary)?;
    install.all(&point.tokens)?;
    install.all(&point.checkpoint)?;
    install.all(&point.encoder)?;
    install.all(&point.embeddings)?;
    install.all(&point.bundle)?;
    install.all(&point.scores)?;
    for (run, checkout) in &point.commits {
        if let Some((diff, text)) = checkout.commit.diff.zip(checkout.diff.as_ref()) {
            let bytes = fs::read(text).with_context(|| format!("reading the diff of {run}"))?;
            write_atomically(&ledger::Commit::diff_file(store.root(), diff), &bytes)?;
        }
    }
    for (run, folder) in &point.runs {
        let target = store.root().join("runs").join(run);
        if target.exists() {
            store.progress().message(&format!("keeps runs/{run}, which is here already"));
            continue;
        }
        fs::create_dir_all(store.root().join("runs"))?;
        fsync_tree(&folder.dir)?;
        fs::rename(&folder.dir, &target).with_context(|| format!("restoring {}", target.display()))?;
        restored.runs += 1;
    }
    let mut retracted = Retracted::read(store.root())?.unwrap_or_default();
    retracted.0.extend(point.retracted.0);
    if !retracted.0.is_empty() {
        retracted.write(store.root())?;
    }
    write_atomically(&store.root().join(CONFIG), &serde_json::to_vec_pretty(&point.config.0)?)?;
    for (kind, key) in &point.target.current {
        let id = ArtifactId { kind: kind.clone(), key: key.clone() };
        ensure!(
            ARTIFACT_KINDS.contains(&kind.as_str()) && is_key(key) && store.dir(&id).is_dir(),
            "the record names {kind} {key} as current and does not have it"
        );
        if let Some(other) = store.current_key(kind).filter(|other| other != key) {
            store.progress().message(&format!("{kind}: current was {other}, is {key}"));
        }
        store.set_current(&id)?;
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    Ok(restored)
}

/// Folders of artifacts in the tree that are here with the same bytes, whole, or with as many files as are to come.
///
/// # Errors
/// One is here with other bytes, as another machine may have made it: neither is put in the other's place.
fn already_here(store: &Store, remote: &Remote, tree: &Tree, wanted: &Selection) -> Result<BTreeMap<PathBuf, ArtifactId>> {
    let mut here = BTreeMap::new();
    for (path, file) in &tree.files {
        let Some((kind, key)) = sealed(path).filter(|_| path.ends_with("sealed/manifest.json")) else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        let id = ArtifactId { kind, key };
        let dir = store.dir(&id);
        // One that does not read is made good by what comes.
        let Ok(own) = Manifest::read(&dir) else { continue };
        let mut bytes = Vec::new();
        tree::read(remote, file, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        let theirs = Manifest::of_bytes(&bytes, &remote.address_of(&path.display().to_string()))?;
        ensure!(
            own.digest()? == theirs.digest()?,
            "{} {} is here with other bytes than were saved (made on another machine?): restore into another folder (DATA=), or remove {}",
            id.kind,
            id.key,
            dir.display()
        );
        let has_all = own.outputs.keys().all(|path| dir.join(path).exists());
        let is_intact = own.files_of_wrong_size(&dir).is_empty() && store.known_damage(&id).is_empty();
        let brings_files = tree.files.keys().any(|path| path.starts_with(folder) && !path.ends_with("manifest.json") && wanted.takes(path));
        if (has_all && is_intact) || !brings_files {
            here.insert(folder.to_owned(), id);
        }
    }
    Ok(here)
}

/// `<kind>/<key>/sealed/…`
fn sealed(path: &Path) -> Option<(String, String)> {
    let mut parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    let (kind, key, sealed) = (parts.next()?, parts.next()?, parts.next()?);
    (sealed == "sealed" && ARTIFACT_KINDS.contains(&kind.as_str()) && is_key(&key)).then_some((kind, key))
}

/// Fetches what is wanted and not here, and lays it out as it was saved.
fn assemble(
    store: &Store,
    remote: &Remote,
    id: &Digest,
    tree: &Tree,
    wanted: &Selection,
    here: &BTreeMap<PathBuf, ArtifactId>,
    restored: &mut Restored,
) -> Result<PathBuf> {
    let objects = store.root().join(RESTORING).join("objects");
    fs::create_dir_all(&objects).with_context(|| format!("creating {}", objects.display()))?;
    let is_here = |path: &Path| here.keys().any(|folder| path.starts_with(folder) && !path.ends_with("manifest.json"));
    let files: Vec<(&PathBuf, &FileRecord)> = tree.files.iter().filter(|(path, _)| wanted.takes(path) && !is_here(path)).collect();
    let mut distinct: BTreeMap<Digest, &FileRecord> = files.iter().map(|(_, file)| (file.blake3, *file)).collect();
    // What an interrupted restore left is whole: it was checked before it got its name.
    distinct.retain(|digest, file| objects.join(digest.to_string()).metadata().map(|meta| meta.len()).ok() != Some(file.bytes));
    restored.fetched_bytes = distinct.values().map(|file| file.bytes).sum();
    let bar = store.progress().bar("restore", restored.fetched_bytes >> 10, "KiB");
    tree::each(distinct, |(digest, file)| {
        tree::fetch(remote, file, &objects.join(digest.to_string()))?;
        bar.add(file.bytes >> 10);
        Ok(())
    })?;
    bar.finish();
    let assembled = store.root().join(RESTORING).join(id.short());
    if assembled.exists() {
        fs::remove_dir_all(&assembled)?;
    }
    for (path, file) in files {
        let (source, target) = (objects.join(file.blake3.to_string()), assembled.join(path));
        fs::create_dir_all(target.parent().context("a file lies in a folder")?)?;
        // Sealed files are never written again and may be one; what runs keep is.
        let linked = if path.starts_with("runs") { fs::copy(&source, &target).map(drop) } else { fs::hard_link(&source, &target) };
        linked.or_else(|_| fs::copy(&source, &target).map(drop)).with_context(|| format!("writing {}", target.display()))?;
        open_file_to_all(&target)?;
    }
    Ok(assembled)
}

fn open_file_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(|| format!("opening {} to all", path.display()))
}

struct Install<'a> {
    store: &'a Store,
    assembled: &'a Path,
    here: &'a BTreeMap<PathBuf, ArtifactId>,
    from: String,
    restored: &'a mut Restored,
}

impl Install<'_> {
    /// Seals all artifacts of one kind.
    fn all<A: Recordable>(&mut self, held: &BTreeMap<String, ArtifactRef<A>>) -> Result<()> {
        for (key, held) in held {
            let id = ArtifactId { kind: A::KIND.to_owned(), key: key.clone() };
            let folder = Path::new(A::KIND).join(key).join("sealed");
            if self.here.contains_key(&folder) {
                self.restored.kept += 1;
                continue;
            }
            ensure!(is_key(key) && held.artifact.manifest().key == *key, "{} {key} is another artifact than it says", A::KIND);
            let source = self.assembled.join(&folder);
            let target = self.store.dir(&id);
            if !held.has_files {
                self.restored.without_files.push(format!("{} {key}", A::KIND));
            }
            RestoreMarker { from: self.from.clone(), without_files: !held.has_files }.mark(&source)?;
            fsync_tree(&source)?;
            open_to_all(&source)?;
            let kind = self.store.root().join(A::KIND);
            fs::create_dir_all(&kind)?;
            if target.exists() {
                fs::remove_dir_all(&target).with_context(|| format!("replacing {}", target.display()))?;
            }
            fs::rename(&source, &target).with_context(|| format!("sealing {}", target.display()))?;
            ledger::fsync_dir(&kind)?;
            self.store.forget_damage(&id)?;
            self.restored.artifacts += 1;
        }
        Ok(())
    }
}
