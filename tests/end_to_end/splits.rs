//! What is learned, selected and reported comes from three splits, and none of them knows the others.

use std::fs;

use serde_json::{Value, json};

use crate::{
    bad_input::record,
    workspace::{Workspace, read_json, source},
};

/// The learning curve without times, and the digest of the weights.
fn training(workspace: &Workspace) -> (Vec<Value>, Value) {
    let manifest = workspace.manifest("checkpoint");
    let epochs = manifest["report"]["epochs"].as_array().unwrap();
    let curve = epochs.iter().map(|epoch| json!([epoch["loss"], epoch["train_mrr"], epoch["valid"]])).collect();
    (curve, manifest["outputs"]["last/model/tensors.safetensors"].clone())
}

/// Replaces a part of the documentation in a file of the corpus, and trains again.
fn trained_with(file: &str, from: &str, to: &str) -> (Vec<Value>, Value) {
    let workspace = Workspace::trained();
    let path = workspace.path("corpus").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "the fixture changed");
    fs::write(path, text.replace(from, to)).unwrap();
    workspace.run_until("train");
    training(&workspace)
}

fn column(curve: &[Value], index: usize) -> Vec<&Value> {
    curve.iter().map(|epoch| &epoch[index]).collect()
}

#[test]
fn training_reads_the_training_split_and_validates_on_the_validation_split() {
    let workspace = Workspace::trained();
    let rows = &workspace.manifest("functions")["report"]["documented"];
    let count = |split: &str| -> u64 {
        let of_split = rows.as_object().unwrap().iter().filter(|(name, _)| name.ends_with(split));
        of_split.map(|(_, count)| count.as_u64().unwrap()).sum()
    };
    assert_eq!((count("_train"), count("_valid"), count("_test")), (21, 8, 6), "three different numbers");
    let report = &workspace.manifest("checkpoint")["report"];
    assert_eq!((&report["pairs"], &report["valid_pairs"]), (&json!(21), &json!(8)));

    let (curve, weights) = training(&workspace);
    let (by_test, same_weights) = trained_with("text/distance.py", "the edit distance between two strings", "nothing of interest");
    assert_eq!((&by_test, &same_weights), (&curve, &weights), "nothing is learned from the test split");

    let (by_valid, same_weights) = trained_with("store/config.py", "Merges two nested dictionaries", "Loads a file of JSON");
    assert_eq!(same_weights, weights, "the weights do not depend on the validation split");
    assert_eq!([column(&by_valid, 0), column(&by_valid, 1)], [column(&curve, 0), column(&curve, 1)]);
    assert!(by_valid.iter().zip(&curve).all(|(now, before)| now[2]["loss"] != before[2]["loss"]), "{by_valid:?}");

    let (_, other) = trained_with("math/folds.py", "\"\"\"", "\"\"\"Another text. ");
    assert_ne!(other, weights, "the weights depend on the training split");
}

/// Words that are in no code: where the documentation is searched, each query finds its own function first.
const INVENTED: &str = r#"
def first(rows):
    """Zyxol quarfen brimdo wuggle."""
    return sorted(rows, key=len)[0]


def again(rows):
    """Mivvel trosken plarn ghebbit."""
    for row in rows:
        yield row
        yield row


def joined(names):
    """Dorvin sploot krell aftwaz."""
    return ", ".join(name.strip() for name in names if name)
"#;

#[test]
fn a_query_does_not_search_the_documentation_that_it_is_made_of() {
    let workspace = Workspace::tokenized();
    fs::remove_dir_all(workspace.path("corpus/text")).unwrap();
    fs::create_dir(workspace.path("corpus/text")).unwrap();
    fs::write(workspace.path("corpus/text/words.py"), INVENTED).unwrap();
    for settings in ["", "embed.documentation = true"] {
        workspace.configure(settings);
        workspace.run_until("evaluate");
        let scores = read_json(&workspace.artifact("scores").join("scores.json"));
        assert_eq!(workspace.manifest("scores")["report"]["queries"], 3);
        assert_eq!(scores["test_mrr@corpus_all_bm25"], 0.0, "{settings}: {scores}");
    }
    // A search of the same bundle does find the documentation.
    workspace.configure("publish { min-mrr = 0, min-share-of-current = 0 }");
    workspace.run_all();
    assert_eq!(workspace.search(&["quarfen brimdo", "--mode", "bm25"])[0]["func_name"], "first");
}

#[test]
fn evaluate_scores_the_configured_split_only() {
    let workspace = Workspace::published();
    for (split, rows) in [("test", 6), ("valid", 8)] {
        workspace.configure(&format!("evaluate.split = {split}"));
        workspace.run_until("evaluate");
        let report = workspace.manifest("scores")["report"].clone();
        assert_eq!((&report["queries"], &report["candidates"]), (&json!(rows), &json!(rows)), "{split}: {report}");
        let scores = read_json(&workspace.artifact("scores").join("scores.json"));
        assert!(scores.as_object().unwrap().keys().all(|name| name.starts_with(split)), "{scores}");
    }
    workspace.configure("evaluate.split = train");
    assert!(workspace.fail_only("evaluate").contains("not held out"));
}

/// A copy in the split would answer the query as well as the function itself.
#[test]
fn a_duplicate_is_no_query_and_no_candidate() {
    let workspace = Workspace::tokenized();
    fs::copy(workspace.path("corpus/text/distance.py"), workspace.path("corpus/text/again.py")).unwrap();
    workspace.run_until("evaluate");
    assert_eq!(workspace.manifest("functions")["report"]["duplicates"], 3);
    let report = &workspace.manifest("scores")["report"];
    assert_eq!((&report["queries"], &report["candidates"]), (&json!(6), &json!(6)), "{report}");
}

/// In a batch, only the functions of the batch are ranked.
#[test]
fn a_smaller_batch_has_better_ranks() {
    let workspace = Workspace::published();
    workspace.configure("evaluate.batch = 3");
    workspace.run_until("evaluate");
    let scores = read_json(&workspace.artifact("scores").join("scores.json"));
    let score = |name: &str| scores[format!("test_{name}_all_vector")].as_f64().unwrap();
    assert!(score("mrr@3") > score("mrr@corpus"), "{scores}");
}

/// Settings that learn a model from a split, and evaluate it on the other one.
fn learned(model: &str, split: &str, other: &str) -> String {
    format!("index.{model} {{ kind = learned, learned {{ least = 2, penalty = 0.01, split = {split} }} }}\nevaluate.split = {other}\n")
}

#[test]
fn a_model_is_learned_from_the_split_that_it_names() {
    let workspace = Workspace::published();
    for (model, in_manifest) in [("fusion", "fusion"), ("reranking", "reranker")] {
        let learn = |split: &str, other: &str| {
            workspace.configure(&learned(model, split, other));
            workspace.run_until("index");
            let manifest = read_json(&workspace.artifact("bundle").join("bundle/manifest.json"));
            let report = workspace.manifest("bundle")["report"][model].clone();
            assert_eq!(manifest[in_manifest]["split"], split, "{manifest}");
            (report, manifest[in_manifest]["weights"].clone())
        };
        let ((by_valid, of_valid), (by_test, of_test)) = (learn("valid", "test"), learn("test", "valid"));
        assert_ne!(of_valid, of_test, "{model}");
        // Every documented function is a query of fusion.
        if model == "fusion" {
            assert_eq!((&by_valid["queries"], &by_test["queries"]), (&json!(8), &json!(6)));
        }
        // The bundle that was learned from the test split is not evaluated on it.
        workspace.configure(&learned(model, "test", "test"));
        assert!(workspace.fail_only("evaluate").contains(&format!("index.{model}.split")), "{model}");
    }
}

/// Records of one repository in two splits, and of another one in one split.
fn leaking() -> Workspace {
    let workspace = Workspace::empty();
    let write = |split: &str, repo: &str, range: std::ops::Range<usize>| {
        let rows = range.map(|number| {
            let mut row = record(number, split);
            row["repo"] = repo.into();
            row.to_string() + "\n"
        });
        let folder = workspace.path("csn/python/final/jsonl").join(split);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("python_{split}_{}.jsonl", repo.len())), rows.collect::<String>()).unwrap();
    };
    write("test", "owner/both", 0..4);
    write("train", "owner/both", 4..9);
    write("valid", "owner/one", 9..12);
    workspace
}

fn ingest(workspace: &Workspace, split_leaks: &str) -> Value {
    workspace.configure(&format!("{}ingest {{ split-leaks = {split_leaks}, max-reject-fraction = 0.5 }}", source("csn", "path = csn")));
    workspace.run_until("ingest");
    workspace.manifest("functions")["report"].clone()
}

#[test]
fn a_repository_in_two_splits_is_refused() {
    let workspace = leaking();
    workspace.configure(&source("csn", "path = csn"));
    let error = workspace.fail(&["run", "--until", "ingest"]);
    assert!(error.contains("1 repositories are in two splits") && error.contains("ingest.split-leaks = drop"), "{error}");
    assert!(!workspace.path("data/functions/CURRENT").exists());
    fs::remove_dir_all(workspace.path("csn/python/final/jsonl/test")).unwrap();
    workspace.run_until("ingest");
}

#[test]
fn the_later_rows_of_a_repository_in_two_splits_are_dropped_or_kept() {
    let workspace = leaking();
    let dropped = ingest(&workspace, "drop");
    assert_eq!(dropped["rows"], json!({"python_test": 4, "python_valid": 3}), "{dropped}");
    assert_eq!((&dropped["rejected"], dropped["reasons"].as_object().unwrap().len()), (&json!(5), 1), "{dropped}");
    let kept = ingest(&workspace, "keep");
    assert_eq!(kept["rows"], json!({"python_test": 4, "python_train": 5, "python_valid": 3}), "{kept}");
}
