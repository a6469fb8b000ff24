//! An artifact kind that a program registers is saved, restored, traced, compared, verified and deleted like a built-in one.

use std::{fs, path::Path};

use crate::{
    address::{latest, resolve},
    compare, gc,
    lineage::Lineage,
    page,
    remote::Remote,
    reproduce::differences,
    restore::restore,
    save::save,
    snapshot::Selection,
    tree,
};
use ledger::{ArtifactId, Progress, Settings, Store};
use tempfile::TempDir;

use super::toy;

const NOBODY: &dyn Fn(&Path) -> bool = &|_| false;

/// A store with notes and counts, and an empty remote.
fn world(text: &str) -> (TempDir, Store, Remote) {
    let dir = tempfile::tempdir().unwrap();
    let store = toy::store(&dir.path().join("data"));
    toy::run(&store, text);
    let remote = Remote::open(dir.path().join("remote").to_str().unwrap(), true).unwrap();
    (dir, store, remote)
}

fn selection(store: &Store, names: &[&str]) -> Selection {
    Selection::of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), store.kinds()).unwrap()
}

fn save_latest(store: &Store, remote: &Remote, names: &[&str]) {
    save(store, &latest(store).unwrap(), remote, "latest", &selection(store, names), Settings(Default::default())).unwrap();
}

#[test]
fn the_last_kind_that_was_registered_is_the_latest() {
    let (_dir, store, _) = world("hello");
    assert_eq!(latest(&store).unwrap().kind, "counts");
    assert_eq!(resolve(&store, "notes").unwrap().1.kind, "notes");
}

#[test]
fn a_registered_kind_is_saved_and_restored_with_its_files() {
    let (dir, store, remote) = world("hello");
    save_latest(&store, &remote, &["all"]);
    let other = toy::store(&dir.path().join("other"));
    let restored = restore(&other, &remote, "latest", &Selection::all(other.kinds())).unwrap();
    assert_eq!((restored.artifacts, restored.without_files.len()), (2, 0));
    assert_eq!(toy::count(&other), "5");
    assert!(other.verify().unwrap().is_empty() && differences(&other).unwrap().is_empty());
}

#[test]
fn a_kind_that_is_not_selected_is_restored_as_a_manifest_that_names_the_fix() {
    let (dir, store, remote) = world("hello");
    save_latest(&store, &remote, &[]);
    let other = toy::store(&dir.path().join("other"));
    let restored = restore(&other, &remote, "latest", &Selection::all(other.kinds())).unwrap();
    assert_eq!((restored.artifacts, restored.without_files.len()), (2, 1));
    let target = latest(&other).unwrap();
    let error = save(&other, &target, &remote, "again", &selection(&other, &["notes"]), Settings(Default::default())).unwrap_err();
    assert!(error.to_string().contains("codenets restore --from") && error.to_string().contains("--with notes"), "{error}");
}

#[test]
fn a_saved_snapshot_is_verified_and_a_damaged_object_is_named() {
    let (dir, store, remote) = world("hello");
    save_latest(&store, &remote, &["all"]);
    let check = || tree::check(&remote, &tree::find(&remote, "latest").unwrap().1, &Progress::new(true).bar("verify", 1, "KiB")).unwrap();
    assert!(check().is_empty());
    let digest = ledger::Digest::of_bytes(b"hello").to_string();
    fs::write(dir.path().join("remote/objects").join(&digest[..2]).join(&digest), "hullo").unwrap();
    let damaged = check();
    assert!(damaged.len() == 1 && damaged[0].contains(&digest) && damaged[0].ends_with("is damaged"), "{damaged:?}");
}

#[test]
fn a_program_without_the_kind_refuses_the_snapshot() {
    let (dir, store, remote) = world("hello");
    save_latest(&store, &remote, &["all"]);
    let other = Store::at(dir.path().join("other"), Progress::new(true), 1);
    let error = restore(&other, &remote, "latest", &Selection::all(other.kinds())).unwrap_err().to_string();
    assert!(error.contains("counts, notes"), "{error}");
}

#[test]
fn a_lineage_leads_to_the_files_of_the_first_stage() {
    let (_dir, store, _) = world("hello");
    let lineage = Lineage::of(&store, &latest(&store).unwrap()).unwrap();
    let text = lineage.text();
    assert!(text.starts_with("counts ") && text.contains("└─ notes ") && text.contains("notes.txt"), "{text}");
    let kinds: Vec<_> = lineage.json().unwrap()["artifacts"].as_array().unwrap().iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(kinds, ["notes", "counts"]);
}

#[test]
fn the_page_draws_every_artifact_and_escapes_text() {
    let (_dir, store, _) = world("<script>alert(1)</script>");
    let lineage = Lineage::of(&store, &latest(&store).unwrap()).unwrap();
    let (html, svg) = (page::html(&lineage), page::svg(&lineage));
    assert_eq!((html.matches("<rect").count(), svg.matches("<rect").count(), svg.matches("<path").count()), (2, 2, 1));
    assert!(!html.contains("<script>") && html.contains("&#60;script&#62;alert"), "{html}");
}

#[test]
fn the_drawing_escapes_text() {
    let (_dir, store, _) = world("hello");
    let mut lineage = Lineage::of(&store, &latest(&store).unwrap()).unwrap();
    lineage.artifacts.values_mut().for_each(|manifest| manifest.stage = "<script>\"".to_owned());
    let svg = page::svg(&lineage);
    assert!(!svg.contains("<script>") && svg.contains("&#60;script&#62;&#34;"), "{svg}");
}

#[test]
fn two_builds_are_compared_in_the_order_of_the_kinds() {
    let (_dir, store, _) = world("hello");
    let before = Lineage::of(&store, &latest(&store).unwrap()).unwrap();
    toy::run(&store, "hi");
    let after = Lineage::of(&store, &latest(&store).unwrap()).unwrap();
    let text = compare::text(&compare::diff(&before, &after, store.kinds()));
    assert!(text.starts_with("notes       other bytes\n") && text.contains("config text") && text.contains("hello -> hi"), "{text}");
    assert!(text.contains("\ncounts      other bytes\n"), "{text}");
}

#[test]
fn an_unreferenced_artifact_of_a_registered_kind_is_deleted() {
    let (_dir, store, _) = world("hello");
    let first = store.artifacts().unwrap();
    assert!(gc::plan(&store, NOBODY).unwrap().is_empty());
    toy::run(&store, "hi");
    assert_eq!(gc::plan(&store, NOBODY).unwrap().len(), 2);
    gc::collect(&store, NOBODY).unwrap();
    assert!(first.iter().all(|id| !store.dir(id).exists()));
    assert_eq!(store.artifacts().unwrap().len(), 2);
}

#[test]
fn a_work_directory_that_holds_something_unsent_is_kept() {
    let (_dir, store, _) = world("hello");
    let ArtifactId { key, .. } = latest(&store).unwrap();
    let work = ledger::WorkDir::of(store.root(), "count", &key).path;
    fs::create_dir_all(&work).unwrap();
    toy::run(&store, "hi");
    assert!(gc::plan(&store, &|path| path == work).unwrap().iter().all(|one| one.path != work));
    assert!(gc::plan(&store, NOBODY).unwrap().iter().any(|one| one.path == work));
}
