//! Publishing: files of a bundle, gates, rollback, pruning.

use std::fs;

use crate::workspace::{Workspace, skip_also_in_ci};

/// Publishes a second bundle of other settings.
fn publish_second(workspace: &Workspace) {
    workspace.configure("index.bm25f.fields.name.weight = 7.0");
    workspace.run_all();
}

#[test]
fn a_published_bundle_has_every_file_of_the_format() {
    let workspace = Workspace::published();
    for file in [
        "manifest.json",
        "CHECKSUMS",
        "docs.parquet",
        "groups.npy",
        "lengths.npy",
        "counts.npy",
        "count-starts.npy",
        "tombstones.parquet",
        "scores.json",
        "schema.md",
        "tantivy/meta.json",
        "vectors/embeddings.npy",
        "encoder/encoder.onnx",
        "encoder/tokenizer.json",
        "encoder/encoder.json",
    ] {
        assert!(workspace.path("data/serve/current").join(file).is_file(), "{file}");
    }
}

#[test]
fn inspect_describes_the_published_bundle() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["inspect"]);
    let rows = workspace.manifest("bundle")["report"]["rows"].as_u64().unwrap();
    assert!(text.contains(&rows.to_string()) && text.contains('5'), "{text}");
    let manifest: serde_json::Value = serde_json::from_str(&workspace.run(&["inspect", "--json"]).0).unwrap();
    assert_eq!((&manifest["bundle_format"], manifest["rows"].as_u64()), (&6.into(), Some(rows)));
}

#[test]
fn a_bundle_below_the_least_score_is_not_published() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    workspace.configure("index.bm25f.fields.name.weight = 7.0\npublish.min-mrr = 0.999");
    let error = workspace.fail(&["run"]);
    assert!(error.contains("not published") && error.contains("publish.min-mrr"), "{error}");
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn a_bundle_without_most_of_its_repositories_is_not_published_unless_it_is_allowed() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    for name in ["dates", "graphs"] {
        fs::remove_dir_all(workspace.path("corpus").join(name)).unwrap();
    }
    let scores = "publish { min-mrr = 0, min-share-of-current = 0 }";
    workspace.configure(scores);
    let error = workspace.fail(&["run"]);
    assert!(error.contains("2 of 6 repositories have no functions any more: dates, graphs"), "{error}");
    assert_eq!(workspace.published_bundle(), first);
    workspace.configure(&format!("{scores}\npublish.max-lost-repositories = 0.5"));
    let error = workspace.fail(&["run"]);
    assert!(error.contains("publish.max-lost-functions"), "{error}");
    workspace.configure(&format!("{scores}\npublish {{ max-lost-repositories = 0.5, max-lost-functions = 1 }}"));
    let messages = workspace.run_all();
    assert!(messages.contains("2 of 6 repositories have no functions any more: dates, graphs"), "{messages}");
    assert_ne!(workspace.published_bundle(), first);
}

#[test]
fn a_bundle_that_is_worse_than_the_published_one_is_not_published() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    workspace.configure("index.bm25f.fields.name.weight = 4.5\npublish.min-share-of-current = 1.5");
    let error = workspace.fail(&["run"]);
    assert!(error.contains("not published") && error.contains("publish.min-share-of-current"), "{error}");
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn scores_of_another_split_are_not_compared() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    workspace.configure("index.bm25f.fields.name.weight = 4.5\nevaluate.split = valid");
    let error = workspace.fail(&["run"]);
    assert!(error.contains("valid_mrr@corpus_all_hybrid"), "{error}");
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn a_damaged_bundle_is_not_published() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    workspace.configure("index.bm25f.fields.name.weight = 5.0");
    workspace.run_until("evaluate");
    let docs = workspace.artifact("bundle").join("bundle/docs.parquet");
    let mut bytes = fs::read(&docs).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&docs, bytes).unwrap();
    assert!(workspace.fail_only("publish").contains("damaged"));
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn rollback_publishes_the_previous_bundle() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    publish_second(&workspace);
    let second = workspace.published_bundle();
    assert_ne!(second, first);
    workspace.run(&["rollback"]);
    assert_eq!(workspace.published_bundle(), first);
    assert!(workspace.fail(&["rollback"]).contains("no "), "there is no third bundle");
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn a_bundle_that_was_rolled_back_is_not_published_by_the_next_run() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    publish_second(&workspace);
    workspace.run(&["rollback"]);
    let messages = workspace.run_all();
    assert!(messages.contains("rolled back"), "{messages}");
    assert_eq!(workspace.published_bundle(), first);
}

#[test]
fn prune_deletes_old_bundles_and_never_the_current_one() {
    let workspace = Workspace::published();
    publish_second(&workspace);
    let bundles = || fs::read_dir(workspace.path("data/serve/bundles")).unwrap().count();
    assert_eq!(bundles(), 2);
    assert!(workspace.run(&["prune"]).0.contains("nothing to delete"));
    let (text, _) = workspace.run(&["prune", "--keep", "1"]);
    assert!(text.starts_with("deleted ") && bundles() == 1, "{text}");
    assert!(!workspace.search(&["read a file"]).is_empty());
}

#[test]
fn prune_keeps_the_bundle_that_a_rollback_published() {
    let workspace = Workspace::published();
    let first = workspace.published_bundle();
    publish_second(&workspace);
    workspace.run(&["rollback"]);
    assert!(workspace.run(&["prune", "--keep", "1"]).0.contains("nothing to delete"), "the newest one and the published one");
    assert_eq!(workspace.published_bundle(), first);
    assert!(!workspace.search(&["read a file"]).is_empty());
}

#[test]
fn an_execution_provider_that_is_missing_is_an_error() {
    if std::env::var_os("CODENETS_TEST_CUDA").is_some() {
        return skip_also_in_ci("CODENETS_TEST_CUDA says that this machine has CUDA");
    }
    let workspace = Workspace::trained();
    workspace.configure("embed.provider = cuda");
    assert!(workspace.fail_only("embed").contains("cuda"));
    let published = Workspace::published();
    assert!(published.fail(&["search", "x", "--provider", "cuda"]).contains("cuda"));
}
