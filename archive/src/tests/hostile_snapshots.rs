//! Snapshots from elsewhere: no name in them leads out of the data folder, and nothing is installed before all of them are checked.

use std::{collections::BTreeMap, fs, path::PathBuf};

use ledger::{ArtifactId, Digest, Progress, Settings, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::toy;
use crate::{remote::Remote, restore::restore, save::save, snapshot::Selection, tree};

/// A folder with a saved snapshot, from which a second store restores.
struct Saved {
    dir: TempDir,
    store: Store,
    remote: Remote,
    key: String,
}

impl Saved {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = toy::store(&dir.path().join("data"));
        toy::run(&store, "some text");
        let key = store.current_key("notes").unwrap();
        let remote = Remote::open(dir.path().join("remote").to_str().unwrap(), true).unwrap();
        let target = ArtifactId { kind: "notes".to_owned(), key: key.clone() };
        save(&store, &target, &remote, "latest", &Selection::all(store.kinds()), Settings(BTreeMap::new())).unwrap();
        Self { dir, store, remote, key }
    }

    /// Stores other bytes of a file at the remote, and returns its record in the list.
    fn put(&self, bytes: Vec<u8>) -> Value {
        let digest = Digest::of_bytes(&bytes).to_string();
        let record = json!({ "bytes": bytes.len(), "blake3": digest });
        self.remote.put(&format!("objects/{}/{digest}", &digest[..2]), bytes).unwrap();
        record
    }

    /// The digest of the snapshot with a changed list of files, and an empty store.
    fn changed(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> (String, Store) {
        let (_, list) = tree::find(&self.remote, "latest").unwrap();
        let mut list = serde_json::to_value(&list).unwrap();
        change(list["files"].as_object_mut().unwrap());
        let text = serde_json::to_vec_pretty(&list).unwrap();
        let digest = Digest::of_bytes(&text).to_string();
        self.remote.put(&format!("records/{digest}.json"), text).unwrap();
        (digest, self.store.sibling(self.dir.path().join("other/data")))
    }

    /// The error of restoring the snapshot with a changed list of files. Nothing is restored.
    fn refused(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
        let (digest, target) = self.changed(change);
        let folder = self.dir.path().join("other");
        let error = restore(&target, &self.remote, &digest, &Selection::all(target.kinds())).unwrap_err();
        assert_eq!((target.current_key("notes"), target.artifacts().unwrap().len()), (None, 0));
        let outside: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(outside, [folder.join("data")], "nothing is written outside of the data folder");
        ledger::chain(&error)
    }
}

#[test]
fn a_file_outside_of_the_snapshot_is_refused() {
    let saved = Saved::new();
    let file = saved.put(b"evil".to_vec());
    for path in ["../evil", "../../evil", "notes/../../evil", "/tmp/codenets-evil", "notes/key/sealed/../../../../evil", ".."] {
        let error = saved.refused(|files| {
            files.insert(path.to_owned(), file.clone());
        });
        assert!(error.contains("outside the record"), "{path}: {error}");
    }
}

#[test]
fn an_artifact_folder_that_is_no_key_is_refused() {
    let saved = Saved::new();
    let folder = format!("notes/{}/", saved.key);
    for (name, reason) in [
        ("notes/NOT A KEY/", "is not the folder of an artifact"),
        ("notes/.making-x/", "is not the folder of an artifact"),
        ("notes/000/", "not the artifact of its path"),
    ] {
        let error = saved.refused(|files| {
            let own: Vec<String> = files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
            for path in own {
                let record = files.remove(&path).unwrap();
                files.insert(path.replace(&folder, name), record);
            }
        });
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn a_current_key_that_is_no_artifact_of_the_snapshot_is_refused() {
    let saved = Saved::new();
    for key in ["../../../tmp", "ffffffffffff", ""] {
        let target = json!({ "kind": "notes", "key": saved.key, "current": { "notes": key } });
        let file = saved.put(target.to_string().into_bytes());
        let (digest, store) = saved.changed(|files| assert!(files.insert("target/value.json".to_owned(), file).is_some()));
        let error = restore(&store, &saved.remote, &digest, &Selection::all(store.kinds())).unwrap_err();
        assert!(ledger::chain(&error).contains("as current"), "{key}: {}", ledger::chain(&error));
        assert_eq!(store.current_key("notes"), None);
    }
}

#[test]
fn a_list_with_another_digest_than_its_name_is_refused() {
    let saved = Saved::new();
    let (id, list) = tree::find(&saved.remote, "latest").unwrap();
    let mut other = list.clone();
    other.about.insert("artifact".to_owned(), "another one".to_owned());
    saved.remote.put(&format!("records/{id}.json"), serde_json::to_vec_pretty(&other).unwrap()).unwrap();
    let target = Store::at(saved.dir.path().join("other"), Progress::new(true), 1);
    let error = restore(&target, &saved.remote, "latest", &Selection::all(target.kinds())).unwrap_err();
    assert!(ledger::chain(&error).contains("damaged"), "{}", ledger::chain(&error));
}

#[test]
fn a_name_of_a_snapshot_is_no_path() {
    let saved = Saved::new();
    let id = ArtifactId { kind: "notes".to_owned(), key: saved.key.clone() };
    for name in ["../latest", "a/b", "/etc/passwd", ".hidden", "..", "", "a b"] {
        let settings = Settings(BTreeMap::new());
        let error = save(&saved.store, &id, &saved.remote, name, &Selection::all(saved.store.kinds()), settings).unwrap_err();
        assert!(error.to_string().contains("is not a name of a snapshot"), "{name}: {error}");
        assert!(tree::find(&saved.remote, name).unwrap_err().to_string().contains("is not a name of a snapshot"), "{name}");
    }
}
