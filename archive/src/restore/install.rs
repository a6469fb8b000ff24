//! Moves fetched artifacts to their places in the data folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ledger::{ArtifactId, Manifest, RestoreMarker, Store, ensure, fsync_dir, fsync_tree, is_key};

use super::Restored;
use crate::{
    error::{Context, Result},
    snapshot::{SavedArtifact, Snapshot, artifact_folder},
    tree::Tree,
};

pub(super) struct Install<'a> {
    pub store: &'a Store,
    pub tree: &'a Tree,
    /// Folder of the fetched snapshot.
    pub fetched: &'a Path,
    /// Folders of artifacts that the store has already.
    pub present: &'a BTreeMap<PathBuf, ArtifactId>,
    /// Address of the remote.
    pub from: &'a str,
    pub restored: &'a mut Restored,
}

impl Install<'_> {
    /// Installs every artifact of the snapshot, in the order in which kinds are made.
    pub fn all(&mut self, snapshot: &Snapshot) -> Result<()> {
        for &kind in self.store.kinds() {
            for (key, artifact) in snapshot.artifacts.get(kind).into_iter().flatten() {
                self.install(&ArtifactId { kind: kind.to_owned(), key: key.clone() }, artifact)?;
            }
        }
        Ok(())
    }

    fn install(&mut self, id: &ArtifactId, artifact: &SavedArtifact) -> Result<()> {
        let folder = artifact_folder(id);
        if self.present.contains_key(&folder) {
            self.restored.kept += 1;
            return Ok(());
        }
        let Manifest { kind, key, .. } = &artifact.manifest;
        ensure!(is_key(key) && *kind == id.kind && *key == id.key, "{} is {kind} {key}, not the artifact of its path", folder.display());
        require_recorded(self.tree, &folder, &artifact.manifest)?;
        let (source, target) = (self.fetched.join(&folder), self.store.dir(id));
        if !artifact.has_files {
            self.restored.without_files.push(format!("{kind} {key}"));
        }
        RestoreMarker { from: self.from.to_owned(), without_files: !artifact.has_files }.mark(&source)?;
        fsync_tree(&source)?;
        let kind_dir = self.store.root().join(kind);
        fs::create_dir_all(&kind_dir).with_context(|| format!("creating {}", kind_dir.display()))?;
        if target.exists() {
            fs::remove_dir_all(&target).with_context(|| format!("replacing {}", target.display()))?;
        }
        fs::rename(&source, &target).with_context(|| format!("restoring {}", target.display()))?;
        fsync_dir(&kind_dir)?;
        self.store.forget_damage(id)?;
        self.restored.artifacts += 1;
        Ok(())
    }
}

/// The files that the snapshot has for an artifact are those that its manifest records, with the same digests.
fn require_recorded(tree: &Tree, folder: &Path, manifest: &Manifest) -> Result<()> {
    for (path, file) in &tree.files {
        let Ok(path) = path.strip_prefix(folder) else { continue };
        let is_recorded = path == Path::new("manifest.json") || manifest.outputs.get(path) == Some(file);
        ensure!(is_recorded, "{} of the snapshot is not the file that its manifest records: save it again", folder.join(path).display());
    }
    Ok(())
}
