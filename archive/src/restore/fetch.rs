//! Fetches the files of a snapshot that are selected and that the data folder does not have.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ledger::{ArtifactId, Digest, FileRecord, Store, ensure};

use super::{RESTORING, Restored};
use crate::{
    error::{Context, Result},
    remote::Remote,
    snapshot::{Selection, is_work_file},
    tree::{self, Tree},
};

pub(super) struct Fetch<'a> {
    pub store: &'a Store,
    pub remote: &'a Remote,
    pub tree: &'a Tree,
    pub selection: &'a Selection,
    /// Folders of artifacts that are not fetched.
    pub present: &'a BTreeMap<PathBuf, ArtifactId>,
}

impl Fetch<'_> {
    /// Fetches the files, lays them out as they were saved, and returns their folder.
    pub fn to_dir(&self, id: &Digest, restored: &mut Restored) -> Result<PathBuf> {
        let scratch = self.store.root().join(RESTORING);
        let is_link = fs::symlink_metadata(&scratch).is_ok_and(|meta| meta.is_symlink());
        ensure!(!is_link, "{} is a link, and a restore writes into it: delete the link", scratch.display());
        let objects = scratch.join("objects");
        fs::create_dir_all(&objects).with_context(|| format!("creating {}", objects.display()))?;
        let files: Vec<(&PathBuf, &FileRecord)> = self.tree.files.iter().filter(|(path, _)| self.is_needed(path)).collect();
        self.fetch_objects(&files, &objects, restored)?;
        let dir = scratch.join(id.short());
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        for (path, file) in files {
            place(&objects.join(file.blake3.to_string()), &dir.join(path), is_work_file(path))?;
        }
        Ok(dir)
    }

    fn is_needed(&self, path: &Path) -> bool {
        let is_present = || self.present.keys().any(|folder| path.starts_with(folder) && !path.ends_with("manifest.json"));
        self.selection.takes(path) && !is_present()
    }

    fn fetch_objects(&self, files: &[(&PathBuf, &FileRecord)], objects: &Path, restored: &mut Restored) -> Result<()> {
        let mut distinct: BTreeMap<Digest, &FileRecord> = files.iter().map(|(_, file)| (file.blake3, *file)).collect();
        // Files of an interrupted restore are complete: they were checked before they got their names.
        distinct.retain(|digest, file| objects.join(digest.to_string()).metadata().map(|meta| meta.len()).ok() != Some(file.bytes));
        restored.fetched_bytes = distinct.values().map(|file| file.bytes).sum();
        let bar = self.store.progress().bar("restore", restored.fetched_bytes >> 10, "KiB");
        tree::each(distinct, |(digest, file)| {
            tree::fetch(self.remote, file, &objects.join(digest.to_string()))?;
            bar.add(file.bytes >> 10);
            Ok(())
        })?;
        bar.finish();
        Ok(())
    }
}

/// Links or copies a fetched object to its path. Sealed files are never written again and may share their bytes; files of a work directory
/// are written again and are copied.
fn place(object: &Path, target: &Path, copy: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let place = || -> std::io::Result<()> {
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir)?;
        }
        if copy || fs::hard_link(object, target).is_err() {
            fs::copy(object, target)?;
        }
        fs::set_permissions(target, fs::Permissions::from_mode(0o644))
    };
    place().with_context(|| format!("writing {}", target.display()))
}
