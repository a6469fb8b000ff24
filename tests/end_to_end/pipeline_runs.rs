//! A run of all stages: recorded, up to date the second time, incremental, and with the same bytes on any number of threads.

use std::{fs, path::Path};

use serde_json::Value;

use crate::workspace::{CORPUS_KINDS, FIXTURES, STAGES, Workspace, is_up_to_date, ran, read_json};

/// Shards that ran, and shards that were taken over.
fn shard_counts(manifest: &Value) -> (u64, u64) {
    let host = &manifest["host"];
    (host["shards_run"].as_u64().unwrap(), host["shards_reused"].as_u64().unwrap())
}

/// Changes one function of the test split, from which nothing is learned.
fn edit_a_source_file(workspace: &Workspace) {
    let file = workspace.path("corpus/text/distance.py");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replace("counts[word] = counts.get(word, 0) + 1", "counts[word] = 1 + counts.get(word, 0)");
    assert_ne!(changed, text, "the fixture changed");
    fs::write(&file, changed).unwrap();
}

#[test]
fn the_first_run_runs_every_stage() {
    let workspace = Workspace::new();
    assert_eq!(ran(&workspace.run_all()), STAGES);
    assert_eq!(workspace.digests(), Workspace::expected_digests());
}

#[test]
fn every_stage_writes_a_manifest_with_inputs_configuration_and_outputs() {
    let workspace = Workspace::published();
    for kind in ledger::ARTIFACT_KINDS {
        let manifest = workspace.manifest(kind);
        assert_eq!(manifest["kind"], kind);
        assert!(manifest["rows"]["written"].as_u64().unwrap() > 0, "{kind}");
        assert!(!manifest["outputs"].as_object().unwrap().is_empty(), "{kind}");
        assert!(manifest["host"]["commit"].is_object() && manifest["config"].is_object(), "{kind}");
    }
}

#[test]
fn the_fixture_corpus_has_six_languages_and_two_segments() {
    let workspace = Workspace::published();
    let harvested = &workspace.manifest("raw")["report"];
    assert_eq!(harvested["by_language"].as_object().unwrap().len(), 6, "{harvested}");
    assert_eq!(harvested["documented"], 35, "{harvested}");
    let syntax = &workspace.manifest("syntax")["report"];
    assert!(syntax["specials"].as_array().unwrap().iter().any(|token| token == "<lvl>"), "{syntax}");
    assert_eq!(workspace.manifest("bundle")["report"]["segments"], 2);
}

#[test]
fn a_second_run_does_nothing_and_names_every_stage() {
    let workspace = Workspace::published();
    let messages = workspace.run_all();
    assert_eq!(ran(&messages), [""; 0]);
    for stage in STAGES.into_iter().chain(["publish"]) {
        let is_named = |line: &str| line.starts_with(stage) && (line.contains("up to date") || line.contains("fresh"));
        assert!(messages.lines().any(is_named), "{stage}: {messages}");
    }
}

#[test]
fn a_changed_key_runs_the_stages_downstream_of_it() {
    let workspace = Workspace::published();
    workspace.configure("tokenize.query-tokens = 12");
    let messages = workspace.run_all();
    assert_eq!(ran(&messages), ["tokenize", "train", "export", "embed", "index", "evaluate"]);
    let reason = messages.lines().find(|line| line.starts_with("tokenize  runs: ")).unwrap();
    assert!(reason.contains("query-tokens"), "{reason}");
    // The old value again: the artifacts recorded before are current again.
    workspace.configure("");
    let messages = workspace.run_all();
    assert_eq!(ran(&messages), [""; 0]);
    assert!(messages.contains("recorded before"), "{messages}");
}

#[test]
fn a_changed_source_file_runs_one_shard() {
    let workspace = Workspace::published();
    edit_a_source_file(&workspace);
    let (plan, _) = workspace.run(&["status"]);
    assert!(plan.contains("inputs changed: dir:"), "{plan}");
    let messages = workspace.run_all();
    assert!(messages.contains("harvest   runs: inputs changed: dir:"), "{messages}");
    for kind in ["syntax", "tokens", "embeddings"] {
        let (run, reused) = shard_counts(&workspace.manifest(kind));
        assert_eq!(run, 1, "{kind}");
        assert!(reused >= 4, "{kind}: {reused}");
    }
    // The encoder read the changed function alone.
    assert!(messages.lines().any(|line| line.starts_with("embed     1 texts of ")), "{messages}");
}

#[test]
fn an_incremental_run_gives_the_bytes_of_a_run_from_nothing() {
    let workspace = Workspace::published();
    edit_a_source_file(&workspace);
    workspace.run_all();
    let incremental = workspace.digests();
    fs::remove_dir_all(workspace.path("data")).unwrap();
    workspace.run_all();
    assert_eq!(workspace.digests(), incremental);
}

#[test]
fn one_and_two_threads_give_the_same_bytes() {
    let workspace = Workspace::new();
    for threads in ["1", "2"] {
        let _ = fs::remove_dir_all(workspace.path("data"));
        workspace.run(&["run", "--threads", threads]);
        for (kind, digests) in workspace.digests() {
            assert_eq!(digests, Workspace::expected_digests()[kind], "{kind} with {threads} threads");
        }
    }
}

#[test]
fn status_of_an_empty_data_folder_lists_every_stage() {
    let workspace = Workspace::new();
    let (text, _) = workspace.run(&["status"]);
    assert!(text.contains("harvest -> raw") && text.contains("harvest will run first"), "{text}");
    assert_eq!(workspace.report("status")["harvest_will_run"], true);
    let names: Vec<String> = workspace.status().iter().map(|row| row["stage"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, [&STAGES[..], &["publish"]].concat());
}

#[test]
fn status_of_a_finished_run_is_up_to_date_and_a_report() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["status"]);
    assert!(STAGES.iter().all(|stage| text.contains(&format!("{stage} ->"))), "{text}");
    assert!(workspace.status().iter().all(is_up_to_date), "{:?}", workspace.stale());
    let report = workspace.report("status");
    assert_eq!((&report["evaluate_will_run"], &report["publish_will_run"]), (&Value::Bool(false), &Value::Bool(false)));
    assert!(report["tokenize_rows"].as_u64().unwrap() > 30);
}

#[test]
fn plan_lists_only_the_stages_that_would_run() {
    let workspace = Workspace::published();
    assert!(workspace.run(&["plan"]).0.contains("nothing to do"));
    workspace.configure("index.segment-rows = 9");
    let plan: Vec<Value> = serde_json::from_str(&workspace.run(&["plan", "--json"]).0).unwrap();
    let names: Vec<&str> = plan.iter().map(|row| row["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["index", "evaluate", "publish"]);
}

#[test]
fn explain_names_the_changed_key_with_both_values() {
    let workspace = Workspace::published();
    workspace.configure("index.segment-rows = 9");
    let (text, _) = workspace.run(&["explain", "index"]);
    assert!(text.contains("will run") && text.contains("index.segment-rows: 20 -> 9"), "{text}");
    edit_a_source_file(&workspace);
    let (text, _) = workspace.run(&["explain"]);
    assert!(text.lines().any(|line| line.starts_with("harvest: will run")), "{text}");
}

#[test]
fn only_and_until_run_the_selected_stages() {
    let workspace = Workspace::new();
    assert_eq!(ran(&workspace.run_until("parse")), ["harvest", "ingest", "parse"]);
    assert_eq!(ran(&workspace.run_only("vocab,tokenize")), ["vocab", "tokenize"]);
    let error = workspace.fail_only("tokenise");
    assert!(error.contains("tokenise") && error.contains("tokenize"), "{error}");
}

/// The bytes of the stages without floating-point arithmetic. `raw` is left out: a deflate library may compress equal records
/// differently on another processor.
#[test]
fn golden_outputs_are_unchanged() {
    let workspace = Workspace::tokenized();
    let golden = Path::new(FIXTURES).join("golden.json");
    let mut now = serde_json::Map::new();
    for kind in &CORPUS_KINDS[1..] {
        let manifest = workspace.manifest(kind);
        now.insert((*kind).to_owned(), serde_json::json!({ "revision": manifest["revision"], "outputs": manifest["outputs"] }));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, serde_json::to_vec_pretty(&now).unwrap()).unwrap();
    }
    let before = read_json(&golden);
    for (kind, now) in now {
        let is_equal = before[&kind] == now;
        assert!(is_equal, "{kind} has other bytes than before: raise REVISION of its stage and run with UPDATE_GOLDEN=1, or fix the code");
    }
}
