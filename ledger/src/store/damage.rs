//! Damage that `verify` found. It is recorded until the artifact is written again, because checks of file sizes do not detect it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::artifact_store::Store;
use crate::{
    artifacts::{
        artifact::ArtifactId,
        manifest::{MANIFEST, Manifest},
    },
    durable::write_atomically,
    ensure,
    error::{Result, chain},
};

/// File in the data folder: `kind/key` to damaged files.
const DAMAGED: &str = "damaged.json";

type Damage = BTreeMap<String, Vec<PathBuf>>;

fn name(id: &ArtifactId) -> String {
    format!("{}/{}", id.kind, id.key)
}

fn read(root: &Path) -> Damage {
    fs::read(root.join(DAMAGED)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(root: &Path, damage: &Damage) -> Result<()> {
    if damage.is_empty() {
        return match fs::remove_file(root.join(DAMAGED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    write_atomically(&root.join(DAMAGED), &serde_json::to_vec_pretty(damage)?)
}

impl Store {
    /// Hashes every file of every artifact, and returns the damaged ones. They are recorded, so that their stages are not up to date.
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
            self.progress.message(&format!("the damaged files are not recorded for `status`: {}", chain(&error)));
        }
        Ok(files)
    }

    fn remember_damage(&self, damaged: BTreeMap<ArtifactId, Vec<PathBuf>>) -> Result<()> {
        write(&self.root, &damaged.into_iter().map(|(id, files)| (name(&id), files)).collect())
    }

    /// Files of an artifact that the last `verify` found damaged.
    pub fn known_damage(&self, id: &ArtifactId) -> Vec<PathBuf> {
        read(&self.root).remove(&name(id)).unwrap_or_default()
    }

    /// Forgets the damage of an artifact that was written again or deleted.
    pub fn forget_damage(&self, id: &ArtifactId) -> Result<()> {
        let mut damage = read(&self.root);
        if damage.remove(&name(id)).is_some() { write(&self.root, &damage) } else { Ok(()) }
    }
}
