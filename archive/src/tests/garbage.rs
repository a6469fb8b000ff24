//! What garbage collection keeps: current, pinned and published artifacts, each with its lineage.

use std::{fs, path::Path};

use ledger::{ArtifactId, Store};
use tempfile::TempDir;

use super::toy;
use crate::gc;

/// A store in which the notes and counts of "old" are recorded, and those of "new" are current.
fn store() -> (TempDir, Store, [ArtifactId; 4]) {
    let dir = tempfile::tempdir().unwrap();
    let store = toy::store(&dir.path().join("data"));
    let current = |kind: &str| ArtifactId { kind: kind.to_owned(), key: store.current_key(kind).unwrap() };
    toy::run(&store, "old");
    let (old_notes, old_counts) = (current("notes"), current("counts"));
    toy::run(&store, "newer");
    let (notes, counts) = (current("notes"), current("counts"));
    assert!(old_notes != notes && old_counts != counts);
    (dir, store, [old_notes, old_counts, notes, counts])
}

/// Names of what would be deleted: `kind/key`, `runs/…`.
fn garbage_of(store: &Store, is_unsent: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let plan = gc::plan(store, is_unsent).unwrap();
    let mut names: Vec<String> = plan.iter().map(|one| one.path.strip_prefix(store.root()).unwrap().display().to_string()).collect();
    names.sort();
    names
}

fn garbage(store: &Store) -> Vec<String> {
    garbage_of(store, &|_| false)
}

fn names(ids: &[&ArtifactId]) -> Vec<String> {
    let mut names: Vec<String> = ids.iter().map(|id| format!("{}/{}", id.kind, id.key)).collect();
    names.sort();
    names
}

#[test]
fn artifacts_that_are_not_current_are_garbage() {
    let (_dir, store, [old_notes, old_counts, notes, counts]) = store();
    assert_eq!(garbage(&store), names(&[&old_notes, &old_counts]));
    let deleted = gc::collect(&store, &|_| false).unwrap();
    assert_eq!(deleted.len(), 2);
    assert!(deleted.iter().all(|one| one.bytes > 0 && !one.path.exists()), "{deleted:?}");
    assert_eq!(store.artifacts().unwrap(), [counts, notes]);
    assert!(garbage(&store).is_empty());
}

#[test]
fn a_pinned_artifact_and_its_lineage_are_kept() {
    let (_dir, store, [old_notes, old_counts, ..]) = store();
    store.pin("good", &old_counts).unwrap();
    assert!(garbage(&store).is_empty());
    store.unpin("good").unwrap();
    store.pin("text", &old_notes).unwrap();
    assert_eq!(garbage(&store), names(&[&old_counts]), "the notes do not need their counts");
}

#[test]
fn artifacts_of_a_published_bundle_are_kept() {
    let (_dir, store, [old_notes, old_counts, ..]) = store();
    let bundle = store.root().join("serve/bundles/20261122T184000Z-0123456789ab");
    fs::create_dir_all(&bundle).unwrap();
    let manifest = |keys: &[&ArtifactId]| {
        let stages: serde_json::Map<_, _> = keys.iter().map(|id| (id.kind.clone(), serde_json::json!({ "key": id.key }))).collect();
        fs::write(bundle.join("manifest.json"), serde_json::json!({ "published": { "stages": stages } }).to_string()).unwrap();
    };
    manifest(&[&old_counts, &old_notes]);
    assert!(garbage(&store).is_empty());
    manifest(&[&old_notes]);
    assert_eq!(garbage(&store), names(&[&old_counts]));
    fs::remove_dir_all(&bundle).unwrap();
    assert_eq!(garbage(&store), names(&[&old_notes, &old_counts]));
}

#[test]
fn an_artifact_whose_file_is_read_is_kept_and_none_that_only_has_the_same_file() {
    let (_dir, store, [_, old_counts, notes, counts]) = store();
    let link = store.root().join("link");
    std::os::unix::fs::symlink(store.dir(&old_counts), &link).unwrap();
    let is_kept_by = |form: &str, folder: &Path| {
        toy::run(&store, &format!("{form} {}", folder.join("count.txt").display()));
        !garbage(&store).contains(&names(&[&old_counts])[0])
    };
    // The link first: counts of equal notes are recorded with the notes that were counted first, which would name the folder.
    assert!(is_kept_by("length of", &link) && is_kept_by("length of", &store.dir(&old_counts)));
    assert!(names(&[&notes, &counts]).iter().all(|name| garbage(&store).contains(name)));
    assert!(!is_kept_by("copy", &link), "the copy is enough");
    assert!(is_kept_by("copy", &store.dir(&old_counts)), "the configuration names it");
}

#[test]
fn a_damaged_pointer_or_pin_stops_the_collection() {
    let (_dir, store, [old_notes, ..]) = store();
    let current = store.root().join("notes/CURRENT");
    let key = fs::read(&current).unwrap();
    fs::write(&current, "no key").unwrap();
    assert!(gc::plan(&store, &|_| false).unwrap_err().to_string().contains("CURRENT is damaged"));
    fs::write(&current, key).unwrap();
    store.pin("good", &old_notes).unwrap();
    fs::write(store.root().join("pins/good"), "no pin").unwrap();
    assert!(ledger::chain(&gc::collect(&store, &|_| false).unwrap_err()).contains("pins/good is damaged"));
    assert_eq!(store.artifacts().unwrap().len(), 4);
}

#[test]
fn work_directories_are_garbage_with_their_artifact_unless_they_are_unsent() {
    let (_dir, store, [old_notes, _, notes, _]) = store();
    let run = |key: &str| {
        let path = ledger::WorkDir::of(store.root(), "note", key).path;
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("state"), "1").unwrap();
        path
    };
    let (old, current, other) = (run(&old_notes.key), run(&notes.key), run("0123456789ab"));
    let is_garbage = |path: &Path| garbage(&store).contains(&path.strip_prefix(store.root()).unwrap().display().to_string());
    assert!(is_garbage(&old) && !is_garbage(&current));
    assert!(!is_garbage(&other), "a run whose artifact does not exist yet is resumed");
    let without_runs = garbage_of(&store, &|path| path == old);
    assert!(without_runs.iter().all(|name| !name.starts_with("runs")), "{without_runs:?}");
}

#[test]
fn what_a_restore_and_a_checkout_left_is_garbage() {
    let (_dir, store, _) = store();
    store.pin("all", &store.artifacts().unwrap()[0]).unwrap();
    fs::create_dir_all(store.root().join(".restoring")).unwrap();
    fs::create_dir_all(store.root().join("diffs")).unwrap();
    fs::write(store.root().join("diffs/0123.diff"), "changes").unwrap();
    let found = garbage(&store);
    assert!(found.contains(&".restoring".to_owned()) && found.contains(&"diffs/0123.diff".to_owned()), "{found:?}");
    gc::collect(&store, &|_| false).unwrap();
    assert!(!store.root().join(".restoring").exists() && !store.root().join("diffs/0123.diff").exists());
}
