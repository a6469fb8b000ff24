//! An artifact of any kind in a snapshot: `<kind>/<key>/{record.json, value.json, sealed/…}`.

use std::path::{Path, PathBuf};

use ledger::{ArtifactId, Content, Files, Manifest, Recordable, RestoreMarker, Store, bail, ensure, json_files, open_json};
use serde::{Deserialize, Serialize};

use super::{MANIFEST, SEALED};
use crate::error::Result;

/// A recorded artifact: its manifest, and its files where `has_files`.
#[derive(Debug, Clone)]
pub struct SavedArtifact {
    pub manifest: Manifest,
    /// Folder with `manifest.json` and the files.
    pub dir: PathBuf,
    pub has_files: bool,
}

/// `value.json`.
#[derive(Debug, Serialize, Deserialize)]
struct SavedId {
    kind: String,
    key: String,
}

impl SavedArtifact {
    /// An artifact of a store, with or without its files.
    ///
    /// # Errors
    /// The files are requested and not available locally.
    pub fn of(store: &Store, id: &ArtifactId, manifest: &Manifest, has_files: bool) -> Result<Self> {
        let dir = store.dir(id);
        if let Some(missing) = manifest.outputs.keys().find(|path| has_files && !dir.join(path).is_file()) {
            match RestoreMarker::of(&dir) {
                Some(marker) => bail!(
                    "the files of {0} {1} are not available locally: run `codenets restore --from {2} --with {0}`",
                    id.kind,
                    id.key,
                    marker.from
                ),
                None => bail!("{} is missing: run `codenets verify`, then `codenets run`", dir.join(missing).display()),
            }
        }
        Ok(Self { manifest: manifest.clone(), dir, has_files })
    }
}

impl Recordable for SavedArtifact {
    const KIND: &'static str = "artifact";

    fn open(dir: &Path) -> ledger::Result<Self> {
        let saved: SavedId = open_json(dir)?;
        let dir = dir.join(SEALED);
        let manifest = Manifest::read(&dir)?;
        ensure!(
            manifest.kind == saved.kind && manifest.key == saved.key,
            "{} is {} {}, expected {} {}",
            dir.display(),
            manifest.kind,
            manifest.key,
            saved.kind,
            saved.key
        );
        let has_files = manifest.outputs.keys().all(|path| dir.join(path).is_file());
        Ok(Self { manifest, dir, has_files })
    }

    fn files(&self) -> ledger::Result<Files> {
        let Manifest { kind, key, outputs, .. } = &self.manifest;
        let mut files = json_files(&SavedId { kind: kind.clone(), key: key.clone() })?;
        let sealed = Path::new(SEALED);
        files.insert(sealed.join(MANIFEST), Content::File(self.dir.join(MANIFEST), None));
        for (path, record) in outputs.iter().filter(|_| self.has_files) {
            files.insert(sealed.join(path), Content::File(self.dir.join(path), Some(record.clone())));
        }
        Ok(files)
    }
}
