//! `retract`: functions that are deleted from every published bundle.

use std::fs;

use serde_json::Value;

use crate::workspace::{Workspace, ran};

pub const QUERY: &str = "levenshtein edit distance, return a value of path and text";

/// A workspace in which `levenshtein` is retracted, the id, and the hits before.
fn retracted() -> (Workspace, String, Vec<Value>) {
    let workspace = Workspace::published();
    let hits = workspace.search(&[QUERY, "--limit", "50"]);
    assert_eq!(hits[0]["func_name"], "levenshtein");
    let id = hits[0]["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids.txt"), format!("{id}\n\n")).unwrap();
    let (text, _) = workspace.run(&["retract", "ids.txt"]);
    assert!(text.contains(&format!("levenshtein  {id}")) && text.contains("deleted functions of the published bundle: 1;"), "{text}");
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

/// A function whose body is secret, and a small file that changes with it.
const SECRET: &str =
    "def wire_pelican(order):\n    \"\"\"Wire the pelican money home.\"\"\"\n    key = order.pelican_key\n    return send(order, key)\n";

/// A workspace with `wire_pelican` in `vault/secret.py`, published.
fn with_secret() -> Workspace {
    let workspace = Workspace::copy_of(&Workspace::published());
    write_source(&workspace, "vault/secret.py", SECRET);
    workspace.configure("publish.min-share-of-current = 0");
    workspace.run_all();
    workspace
}

fn write_source(workspace: &Workspace, path: &str, text: &str) {
    let path = workspace.path("corpus").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Paths of the hits with the secret function.
fn found(workspace: &Workspace) -> Vec<String> {
    let hits = workspace.search(&["wire the pelican money", "--mode", "bm25", "--limit", "50"]);
    let secret = hits.iter().filter(|hit| hit["func_name"] == "wire_pelican");
    secret.map(|hit| format!("{}/{}", hit["repo"].as_str().unwrap(), hit["path"].as_str().unwrap())).collect()
}

fn retract_secret(workspace: &Workspace, more: &[&str]) -> String {
    let hits = workspace.search(&["wire the pelican money", "--mode", "bm25"]);
    let id = hits.iter().find(|hit| hit["func_name"] == "wire_pelican").unwrap()["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids.txt"), format!("{id}\n")).unwrap();
    workspace.run(&[&["retract", "ids.txt"], more].concat()).0
}

#[test]
fn a_retracted_function_stays_deleted_when_it_moves_is_laid_out_anew_or_is_copied() {
    let workspace = with_secret();
    assert_eq!(found(&workspace), ["vault/secret.py"]);
    retract_secret(&workspace, &[]);
    assert_eq!(found(&workspace), [""; 0]);
    fs::remove_file(workspace.path("corpus/vault/secret.py")).unwrap();
    write_source(&workspace, "vault/deep/moved.py", SECRET);
    write_source(
        &workspace,
        "vault/spaces.py",
        &SECRET.replace("return send", "return  send").replace("key = ", "# a comment\n    key = "),
    );
    write_source(&workspace, "annex/copy.py", &SECRET.replace("Wire the", "Wires the"));
    write_source(&workspace, "annex/other.py", &SECRET.replace("send(order, key)", "send(order)"));
    workspace.run_all();
    assert_eq!(found(&workspace), ["annex/other.py"], "a function with other code is found");
    workspace.run(&["verify"]);
}

#[test]
fn retract_by_id_path_or_repository_deletes_exactly_that() {
    let workspace = with_secret();
    write_source(&workspace, "vault/copy.py", SECRET);
    write_source(&workspace, "annex/copy.py", SECRET);
    workspace.run_all();
    let all = ["annex/copy.py", "vault/copy.py", "vault/secret.py"];
    let visible = |by: &str| {
        let hits = workspace.search(&["wire the pelican money", "--mode", "bm25", "--repo", "vault", "--path", "secret.py"]);
        fs::write(workspace.path("ids.txt"), hits[0]["id"].as_str().unwrap()).unwrap();
        let (text, _) = workspace.run(&["retract", "ids.txt", "--by", by]);
        assert!(text.contains("vault secret.py  wire_pelican"), "{text}");
        let left: Vec<&str> = all
            .into_iter()
            .filter(|place| {
                let (repo, path) = place.split_once('/').unwrap();
                let hits = workspace.search(&["wire the pelican money", "--mode", "bm25", "--repo", repo, "--path", path]);
                hits.iter().any(|hit| hit["func_name"] == "wire_pelican")
            })
            .collect();
        fs::write(workspace.path("none.txt"), "").unwrap();
        workspace.run(&["retract", "none.txt", "--only"]);
        left
    };
    assert_eq!(visible("id"), ["annex/copy.py", "vault/copy.py"]);
    assert_eq!(visible("path"), ["annex/copy.py", "vault/copy.py"]);
    assert_eq!(visible("repo"), ["annex/copy.py"]);
    assert_eq!(visible("content"), [""; 0]);
    assert!(workspace.fail(&["retract", "none.txt", "--by", "name"]).contains("expected content, id, path or repo"));
}

/// Version 0.2.0 listed ids only. Another rule of harvest gives the function another id.
#[test]
fn a_list_of_ids_is_carried_to_functions_with_their_code() {
    let workspace = with_secret();
    retract_secret(&workspace, &["--by", "id"]);
    let list = workspace.path("data/serve/retracted");
    let id = fs::read_to_string(&list).unwrap().trim().trim_start_matches("id\t").to_owned();
    fs::write(&list, format!("{id}\n")).unwrap();
    fs::remove_file(workspace.path("corpus/vault/secret.py")).unwrap();
    write_source(&workspace, "vault/moved.py", SECRET);
    workspace.run_all();
    assert_eq!(found(&workspace), [""; 0]);
    let text = fs::read_to_string(&list).unwrap();
    assert!(text.contains(&id) && text.contains("content\t"), "{text}");
}
