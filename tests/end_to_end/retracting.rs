//! `retract`: functions that are deleted from every published bundle.

use std::fs;

use serde_json::Value;

use crate::workspace::{Workspace, ran};

const QUERY: &str = "levenshtein edit distance, return a value of path and text";

/// A workspace in which `levenshtein` is retracted, the id, and the hits before.
fn retracted() -> (Workspace, String, Vec<Value>) {
    let workspace = Workspace::published();
    let hits = workspace.search(&[QUERY, "--limit", "50"]);
    assert_eq!(hits[0]["func_name"], "levenshtein");
    let id = hits[0]["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids.txt"), format!("{id}\n\n")).unwrap();
    let (text, _) = workspace.run(&["retract", "ids.txt"]);
    assert!(text.starts_with("1 ids are deleted") && text.contains("1 of them"), "{text}");
    (workspace, id, hits)
}

fn require_deleted(workspace: &Workspace, id: &str) {
    for mode in ["bm25", "vector", "hybrid"] {
        for more in [&[][..], &["--language", "python"], &["--path", "**"]] {
            let hits = workspace.search(&[&[QUERY, "--mode", mode], more].concat());
            assert!(!hits.is_empty() && hits.iter().all(|hit| hit["id"] != id), "{mode} {more:?}");
        }
    }
    workspace.run(&["verify"]);
}

#[test]
fn a_retracted_function_is_not_found_and_the_others_are() {
    let (workspace, id, before) = retracted();
    require_deleted(&workspace, &id);
    let others = |hits: &[Value]| {
        let mut ids: Vec<String> = hits.iter().map(|hit| hit["id"].as_str().unwrap().to_owned()).filter(|other| *other != id).collect();
        ids.sort();
        ids
    };
    let now = others(&workspace.search(&[QUERY, "--limit", "50"]));
    assert!(others(&before).iter().all(|id| now.contains(id)));
}

#[test]
fn a_retracted_function_stays_deleted_after_a_new_build_and_a_rollback() {
    let (workspace, id, _) = retracted();
    workspace.configure("index.bm25f.fields.name.weight = 3.0\npublish.min-share-of-current = 0");
    workspace.run_all();
    require_deleted(&workspace, &id);
    workspace.run(&["rollback"]);
    require_deleted(&workspace, &id);
    // The artifact of the bundle is unchanged.
    assert_eq!(ran(&workspace.run_all()), [""; 0]);
}

#[test]
fn the_next_publish_repairs_an_interrupted_retract() {
    let (workspace, id, _) = retracted();
    let folder = workspace.path("data/serve/current").canonicalize().unwrap();
    let sums = fs::read_to_string(folder.join("CHECKSUMS")).unwrap();
    fs::write(folder.join("CHECKSUMS"), sums.replace("  tombstones.parquet", "0  tombstones.parquet")).unwrap();
    fs::write(folder.join(".tombstones-left"), "half").unwrap();
    assert!(workspace.fail(&["verify"]).contains("tombstones.parquet"));
    workspace.run_all();
    assert_eq!(fs::read_to_string(folder.join("CHECKSUMS")).unwrap(), sums);
    assert!(!folder.join(".tombstones-left").exists());
    require_deleted(&workspace, &id);
}

#[test]
fn an_unknown_id_is_refused() {
    let (workspace, id, _) = retracted();
    fs::write(workspace.path("ids.txt"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let error = workspace.fail(&["retract", "ids.txt"]);
    assert!(error.contains("0123456789abcdef0123456789abcdef") || error.contains("no published bundle"), "{error}");
    require_deleted(&workspace, &id);
}

#[test]
fn an_empty_list_with_only_restores_every_function() {
    let (workspace, id, _) = retracted();
    fs::write(workspace.path("ids.txt"), "").unwrap();
    workspace.run(&["retract", "ids.txt", "--only"]);
    assert_eq!(workspace.search(&[QUERY])[0]["id"], id.as_str());
}
