//! Pins: names for artifacts that garbage collection keeps. `data/pins/<name>` has a line `<kind> <key>`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::artifact_store::{PINS, Store};
use crate::{
    artifacts::artifact::ArtifactId,
    digest::is_key,
    durable::write_atomically,
    ensure,
    error::{Context, Error, Result},
};

impl Store {
    /// Pinned artifacts by the name of the pin.
    pub fn pins(&self) -> Result<BTreeMap<String, ArtifactId>> {
        let folder = self.root.join(PINS);
        let mut pins = BTreeMap::new();
        if !folder.exists() {
            return Ok(pins);
        }
        for entry in fs::read_dir(&folder).map_err(Error::io("listing", &folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let text = fs::read_to_string(entry.path()).map_err(Error::io("reading", &entry.path()))?;
            let id = text.trim().split_once(' ').filter(|(_, key)| is_key(key));
            let (kind, key) =
                id.with_context(|| format!("{} is damaged: delete it, and run `codenets pin` again", entry.path().display()))?;
            pins.insert(name, ArtifactId { kind: kind.to_owned(), key: key.to_owned() });
        }
        Ok(pins)
    }

    /// Pins an artifact: garbage collection keeps it and all artifacts that it was computed from.
    pub fn pin(&self, name: &str, id: &ArtifactId) -> Result<()> {
        let _lock = self.lock()?;
        ensure!(self.dir(id).is_dir(), "{} {} is not in {}", id.kind, id.key, self.root.display());
        write_atomically(&self.pin_file(name)?, format!("{} {}\n", id.kind, id.key).as_bytes())
    }

    /// Removes a pin.
    pub fn unpin(&self, name: &str) -> Result<()> {
        let path = self.pin_file(name)?;
        fs::remove_file(&path).with_context(|| format!("no artifact is pinned as {name}"))
    }

    fn pin_file(&self, name: &str) -> Result<PathBuf> {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        ensure!(plain && !name.starts_with('.'), "{name:?} cannot be the name of a pin: use letters, digits, `-`, `_` and `.`");
        Ok(self.root.join(PINS).join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn store() -> (tempfile::TempDir, Store, ArtifactId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("data"), Progress::new(true), 1);
        let id = ArtifactId { kind: "raw".to_owned(), key: "0123456789ab".to_owned() };
        fs::create_dir_all(store.dir(&id)).unwrap();
        (dir, store, id)
    }

    #[test]
    fn a_pin_names_an_artifact_until_it_is_removed() {
        let (_dir, store, id) = store();
        assert!(store.pins().unwrap().is_empty());
        store.pin("v1.0-good_one", &id).unwrap();
        assert_eq!(store.pins().unwrap(), BTreeMap::from([("v1.0-good_one".to_owned(), id.clone())]));
        store.unpin("v1.0-good_one").unwrap();
        assert!(store.pins().unwrap().is_empty() && store.unpin("v1.0-good_one").is_err());
        let missing = ArtifactId { key: "ffffffffffff".to_owned(), ..id };
        assert!(store.pin("other", &missing).unwrap_err().to_string().contains("is not in"));
    }

    #[test]
    fn the_name_of_a_pin_is_no_path() {
        let (dir, store, id) = store();
        for name in ["../evil", "a/b", "/tmp/evil", ".hidden", "..", "", "a b"] {
            assert!(store.pin(name, &id).unwrap_err().to_string().contains("cannot be the name of a pin"), "{name}");
            assert!(store.unpin(name).unwrap_err().to_string().contains("cannot be the name of a pin"), "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
