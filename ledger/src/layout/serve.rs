//! The published bundles of a data folder. No other module knows the layout of `serve/`.
//!
//! ```text
//! serve/bundles/<utc>-<key>/      one folder for each published bundle, named by its id
//! serve/current -> bundles/<id>   what readers open; replaced atomically by rename(2)
//! serve/held-back                 key of a bundle that was rolled back: `publish` does not publish it again
//! serve/publishing                id of a bundle whose folder exists and which `current` does not name yet
//! serve/retracted                 row ids that no published bundle may show, one in each line
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::utc_stamp,
    digest::Digest,
    digest::is_key,
    durable::{TEMPORARY, fsync_dir, publish_link, write_atomically},
    error::{Context, Error, Result},
    fault,
};

/// Prefix of a bundle folder that is not published yet.
pub const UNPUBLISHED: &str = ".publishing-";
/// Prefix of a bundle folder that is damaged: no command uses it.
const SET_ASIDE: &str = ".damaged-";

/// The published bundles of one data folder.
#[derive(Debug, Clone)]
pub struct Serve {
    root: PathBuf,
}

/// Name of a published bundle: `<utc>-<key>`, or `<utc>.<n>-<key>` where several fall in one second. Ids sort by publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleId(String);

impl BundleId {
    /// The id for a bundle that is published now. It sorts after every id in `published` (sorted), also when the clock went back.
    pub fn next(published: &[Self], key: &str, unix_s: u64) -> Self {
        let now = utc_stamp(unix_s);
        let Some(last) = published.last() else { return Self(format!("{now}-{key}")) };
        let (stamp, sequence) = last.stamp();
        if now.as_str() > stamp {
            return Self(format!("{now}-{key}"));
        }
        Self(format!("{stamp}.{:04}-{key}", sequence + 1))
    }

    /// Reads a folder name; none where it is not an id: `lost+found`, `.snapshot`, a copy that someone made.
    pub fn parse(name: &str) -> Option<Self> {
        let (stamp, key) = name.rsplit_once('-')?;
        let (second, sequence) = stamp.split_once('.').unwrap_or((stamp, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_stamp = second.split_once('T').is_some_and(|(date, time)| is_digits(date) && time.strip_suffix('Z').is_some_and(is_digits));
        (is_stamp && is_digits(sequence) && is_key(key)).then(|| Self(name.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Key of the bundle artifact that was published.
    pub fn key(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(_, key)| key)
    }

    /// UTC second and sequence number within the second (0 where there is none).
    fn stamp(&self) -> (&str, u32) {
        let stamp = self.0.rsplit_once('-').map_or(self.0.as_str(), |(stamp, _)| stamp);
        match stamp.split_once('.') {
            Some((second, sequence)) => (second, sequence.parse().unwrap_or_default()),
            None => (stamp, 0),
        }
    }
}

impl std::fmt::Display for BundleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stage of the run that built a published bundle: a member of `published.stages` in the manifest of the bundle, by stage name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishedStage {
    /// Key of the artifact that the stage wrote.
    pub key: String,
    /// Digest of the files of the artifact.
    pub digest: Digest,
    /// Wall-clock seconds.
    pub wall_s: f64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub rows_rejected: u64,
}

impl Serve {
    /// Keys of the artifacts that a published bundle was built from, its scores included.
    ///
    /// # Errors
    /// The manifest of the bundle does not exist or is damaged.
    pub fn keys(&self, id: &BundleId) -> Result<BTreeSet<String>> {
        #[derive(Deserialize)]
        struct BundleManifest {
            published: Option<Published>,
        }
        #[derive(Deserialize)]
        struct Published {
            stages: BTreeMap<String, Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        let path = self.bundle(id).join("manifest.json");
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: BundleManifest = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(manifest.published.into_iter().flat_map(|published| published.stages.into_values()).map(|stage| stage.key).collect())
    }

    /// The published bundles of a data folder. It need not exist.
    pub fn of(data: &Path) -> Self {
        Self { root: data.join("serve") }
    }

    /// The link that readers open.
    pub fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Folder of all published bundles.
    pub fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// Folder of one published bundle.
    pub fn bundle(&self, id: &BundleId) -> PathBuf {
        self.bundles().join(&id.0)
    }

    /// File with the row ids that no published bundle may show.
    pub fn retracted(&self) -> PathBuf {
        self.root.join("retracted")
    }

    /// Ids of the published bundles, oldest first; none where nothing was ever published.
    ///
    /// # Errors
    /// The folder exists and cannot be listed.
    pub fn ids(&self) -> Result<Vec<BundleId>> {
        let folder = self.bundles();
        let mut ids = Vec::new();
        if folder.exists() {
            for entry in fs::read_dir(&folder).map_err(Error::io("listing", &folder))? {
                let entry = entry.map_err(Error::io("listing", &folder))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    ids.extend(BundleId::parse(&entry.file_name().to_string_lossy()));
                }
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Id that `current` points to, if there is one.
    pub fn current_id(&self) -> Option<BundleId> {
        BundleId::parse(&fs::read_link(self.current()).ok()?.file_name()?.to_string_lossy())
    }

    /// Points `current` at a published bundle, atomically. Pointing it at the same bundle again renews the link, so that readers that
    /// watch the link reopen the bundle.
    pub fn set_current(&self, id: &BundleId) -> Result<()> {
        publish_link(&self.current(), &Path::new("bundles").join(&id.0))
    }

    /// Makes a folder, which is in the folder of the bundles, the published bundle `id`. Where the process is killed in between, the
    /// next [`Serve::recover`] deletes the folder: a bundle that was never published is no bundle to roll back to.
    pub fn publish(&self, folder: &Path, id: &BundleId) -> Result<()> {
        let target = self.bundle(id);
        write_atomically(&self.publishing_file(), id.0.as_bytes())?;
        fault::point("rename of the published folder");
        fs::rename(folder, &target).with_context(|| format!("publishing {}", target.display()))?;
        fsync_dir(&self.bundles())?;
        self.set_current(id)?;
        remove_file(&self.publishing_file())
    }

    /// Deletes what killed processes left: temporary files, folders of bundles that were never published. The caller holds the lock of
    /// the store.
    pub fn recover(&self) -> Result<()> {
        if let Ok(id) = fs::read_to_string(self.publishing_file()) {
            if let Some(id) = BundleId::parse(id.trim()).filter(|id| Some(id) != self.current_id().as_ref() && self.bundle(id).exists()) {
                self.delete(&id)?;
            }
            remove_file(&self.publishing_file())?;
        }
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(TEMPORARY) || name.starts_with(".current.") {
                remove_file(&entry.path())?;
            }
        }
        for entry in fs::read_dir(self.bundles()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNPUBLISHED) {
                fs::remove_dir_all(entry.path()).map_err(Error::io("deleting", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Deletes a published bundle. A deletion that is killed leaves a folder that is no bundle, and that [`Serve::recover`] deletes.
    pub fn delete(&self, id: &BundleId) -> Result<()> {
        let hidden = self.bundles().join(format!("{UNPUBLISHED}{id}"));
        fs::rename(self.bundle(id), &hidden).and_then(|()| fs::remove_dir_all(&hidden)).with_context(|| format!("deleting {id}"))
    }

    /// Renames a damaged bundle, so that no command uses it, and returns its new folder.
    pub fn set_aside(&self, id: &BundleId) -> Result<PathBuf> {
        let aside = self.bundles().join(format!("{SET_ASIDE}{id}"));
        fs::rename(self.bundle(id), &aside).with_context(|| format!("setting the damaged bundle {id} aside"))?;
        Ok(aside)
    }

    fn publishing_file(&self) -> PathBuf {
        self.root.join("publishing")
    }

    /// Key of the bundle that was rolled back, if there is one.
    pub fn held_back(&self) -> Option<String> {
        Some(fs::read_to_string(self.held_back_file()).ok()?.trim().to_owned())
    }

    /// Records the key of a bundle that was rolled back; none removes the record.
    pub fn set_held_back(&self, key: Option<&str>) -> Result<()> {
        let path = self.held_back_file();
        match key {
            Some(key) => write_atomically(&path, key.as_bytes()),
            None => remove_file(&path),
        }
    }

    /// File that holds the key of the bundle that was rolled back.
    pub fn held_back_file(&self) -> PathBuf {
        self.root.join("held-back")
    }
}

/// Removes a file, if it exists.
fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789ab";

    #[test]
    fn other_folders_are_no_bundles() {
        let id = BundleId::next(&[], KEY, 1_795_372_800);
        assert_eq!(BundleId::parse(id.as_str()), Some(id.clone()));
        assert!(BundleId::parse("20261122T184000Z.0002-ffffffffffff").is_some());
        for name in [
            "lost+found",
            ".snapshot",
            "my-backup",
            ".damaged-20261122T184000Z-0123456789ab",
            "20261122T184000Z-0123456789ab-old",
            "20261122T184000-0123456789ab",
            "todayT184000Z-0123456789ab",
        ] {
            assert_eq!(BundleId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn an_id_sorts_after_all_others_whatever_the_clock_says() {
        let first = BundleId::next(&[], KEY, 1_795_372_800);
        assert_eq!(first.as_str(), "20261122T184000Z-0123456789ab");
        // The same second, twice, and a clock that went back.
        let second = BundleId::next(std::slice::from_ref(&first), KEY, 1_795_372_800);
        assert_eq!(second.as_str(), "20261122T184000Z.0001-0123456789ab");
        let third = BundleId::next(&[first.clone(), second.clone()], "ffffffffffff", 1_795_372_000);
        assert_eq!(third.as_str(), "20261122T184000Z.0002-ffffffffffff");
        let later = BundleId::next(&[first.clone(), second.clone(), third.clone()], KEY, 1_795_372_801);
        assert!(first < second && second < third && third < later, "{later}");
        assert_eq!(third.key(), "ffffffffffff");
    }

    #[test]
    fn a_bundle_whose_publication_was_killed_is_deleted_unless_it_is_the_current_one() {
        let dir = tempfile::tempdir().unwrap();
        let serve = Serve::of(dir.path());
        let first = BundleId::next(&[], KEY, 1_795_372_800);
        let second = BundleId::next(std::slice::from_ref(&first), KEY, 1_795_372_801);
        assert_eq!(first.to_string(), first.as_str());
        [&first, &second].iter().for_each(|id| fs::create_dir_all(serve.bundle(id)).unwrap());
        serve.set_current(&first).unwrap();
        // The link names the bundle already, or not yet.
        for (interrupted, left) in [(&first, vec![first.clone(), second.clone()]), (&second, vec![first.clone()])] {
            fs::write(serve.publishing_file(), interrupted.as_str()).unwrap();
            serve.recover().unwrap();
            assert_eq!((serve.ids().unwrap(), serve.current_id()), (left, Some(first.clone())));
            assert!(!serve.publishing_file().exists());
        }
    }

    #[test]
    fn a_bundle_is_held_back_until_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let serve = Serve::of(dir.path());
        fs::create_dir_all(serve.bundles()).unwrap();
        assert_eq!(serve.held_back(), None);
        serve.set_held_back(Some(KEY)).unwrap();
        assert_eq!(serve.held_back().as_deref(), Some(KEY));
        serve.set_held_back(None).unwrap();
        assert_eq!(serve.held_back(), None);
    }
}
