//! What `verify` found: damage that a look at sizes does not show, remembered until the artifact is made again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{ArtifactId, Store, error::Result, write_atomically};

/// In the data folder: `kind/key` to files.
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
    pub(crate) fn remember_damage(&self, damaged: BTreeMap<ArtifactId, Vec<PathBuf>>) -> Result<()> {
        write(&self.root, &damaged.into_iter().map(|(id, files)| (name(&id), files)).collect())
    }

    /// Files of an artifact that the last `verify` found damaged.
    pub fn known_damage(&self, id: &ArtifactId) -> Vec<PathBuf> {
        read(&self.root).remove(&name(id)).unwrap_or_default()
    }

    /// The artifact is whole again, or gone.
    pub fn forget_damage(&self, id: &ArtifactId) -> Result<()> {
        let mut damage = read(&self.root);
        if damage.remove(&name(id)).is_some() { write(&self.root, &damage) } else { Ok(()) }
    }
}
