//! Evaluation: adopted encoders, judged queries, comparisons, and predictions of the CodeSearchNet challenge.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    python_readers::{folder, python},
    workspace::{Workspace, ran, read_json, texts},
};

fn scores(workspace: &Workspace) -> Value {
    read_json(&workspace.artifact("scores").join("scores.json"))
}

/// A workspace that adopts the encoder of [`Workspace::published`], and its settings.
fn adopting() -> (Workspace, Workspace, String) {
    let home = Workspace::published();
    let settings = format!("adopt.from = \"{}\"\n", home.artifact("encoder").display());
    let workspace = Workspace::new();
    workspace.configure(&settings);
    (home, workspace, settings)
}

/// Three judged queries: one with its answer by url, one with its answer by id and one of another build, one with no answer here.
fn write_judgments(workspace: &Workspace) -> String {
    let found = workspace.search(&["levenshtein", "--limit", "1"]);
    let judged = [
        json!({"query": "levenshtein distance of two words", "relevant": [found[0]["url"]]}),
        json!({"query": "levenshtein", "relevant": [found[0]["id"], "0123456789abcdef0123456789abcdef"]}),
        json!({"query": "an answer that is nowhere", "relevant": ["https://example.org/other"]}),
    ];
    fs::write(workspace.path("judged.jsonl"), judged.map(|line| line.to_string()).join("\n")).unwrap();
    "evaluate.judgments = [{ kind = jsonl, name = mine, path = judged.jsonl }]\n".to_owned()
}

#[test]
fn an_adopted_encoder_is_indexed_without_training() {
    let (home, workspace, _) = adopting();
    assert_eq!(ran(&workspace.run_all()), ["harvest", "ingest", "parse", "adopt", "embed", "index", "evaluate"]);
    assert_eq!(scores(&workspace), scores(&home), "the same functions and the same encoder");
    let (status, _) = workspace.run(&["status"]);
    assert!(status.contains("adopt -> encoder") && !status.contains("train ->"), "{status}");
}

#[test]
fn adopt_records_an_encoder_from_a_folder() {
    let home = Workspace::published();
    let workspace = Workspace::empty();
    workspace.run(&["adopt", home.artifact("encoder").to_str().unwrap()]);
    let onnx = |workspace: &Workspace| fs::read(workspace.artifact("encoder").join("encoder.onnx")).unwrap();
    assert!(onnx(&workspace) == onnx(&home));
    assert!(workspace.fail(&["adopt"]).contains("adopt.from"), "there is no folder");
}

#[test]
fn a_folder_without_an_encoder_is_not_adopted() {
    let workspace = Workspace::new();
    let error = workspace.fail(&["adopt", "corpus"]);
    assert!(error.contains("corpus") && error.contains("encoder"), "{error}");
}

#[test]
fn judged_queries_are_ranked_and_unknown_answers_are_counted() {
    let workspace = Workspace::published();
    let judgments = write_judgments(&workspace);
    workspace.configure(&judgments);
    assert_eq!(ran(&workspace.run_all()), ["evaluate"]);
    let found = scores(&workspace);
    let mine = |system: &str| found[format!("test_mrr@corpus_mine_{system}")].as_f64().unwrap();
    assert!((mine("bm25") - 2.0 / 3.0).abs() < 1e-9, "{}", mine("bm25"));
    let report = &workspace.manifest("scores")["report"];
    assert_eq!(report["unknown_answers"]["mine"], 2);
    let comparisons = report["comparisons"].as_array().unwrap();
    assert!(comparisons.iter().any(|of| of["language"] == "mine" && of["difference"]["p"].as_f64().unwrap() > 0.2));
}

/// Documentation that the encoder reads helps no query that is this documentation.
#[test]
fn documentation_of_the_split_is_not_embedded() {
    let workspace = Workspace::published();
    let before = scores(&workspace);
    let judgments = write_judgments(&workspace);
    workspace.configure(&format!("{judgments}embed.documentation = true\npublish.min-share-of-current = 0"));
    assert_eq!(ran(&workspace.run_all()), ["embed", "index", "evaluate"]);
    let after = scores(&workspace);
    assert_eq!(after["test_mrr@corpus_all_vector"], before["test_mrr@corpus_all_vector"]);
    let hybrid = after["test_mrr@corpus_mine_hybrid"].as_f64().unwrap();
    assert!(hybrid > 1.0 / 3.0 && hybrid < 0.67, "{hybrid}");
}

#[test]
fn compare_tests_the_difference_of_the_same_queries() {
    let workspace = Workspace::published();
    let before = workspace.artifact("scores").display().to_string();
    let judgments = write_judgments(&workspace);
    workspace.configure(&format!("{judgments}embed.documentation = true\npublish.min-share-of-current = 0"));
    workspace.run_until("evaluate");
    let after = workspace.artifact("scores").display().to_string();
    let (lines, _) = workspace.run(&["compare", &after, &before, "--json"]);
    let lines: Value = serde_json::from_str(&lines).unwrap();
    assert!(lines.as_array().unwrap().iter().all(|line| line["set"] == "test"), "the judged queries are in one of them only: {lines}");
    // BM25 is the same in both.
    assert_eq!((&lines[0]["system"], lines[0]["mean"].as_f64(), lines[0]["p"].as_f64()), (&"bm25".into(), Some(0.0), Some(1.0)));
    assert!(workspace.run(&["compare", &after, &before]).0.contains("difference"));
    assert!(workspace.fail(&["compare", &after, "nowhere"]).contains("nowhere"));
}

#[test]
fn evaluate_prints_the_table_and_writes_the_page() {
    let workspace = Workspace::published();
    let (table, _) = workspace.run(&["evaluate"]);
    assert!(["bm25", "vector", "hybrid"].iter().all(|system| table.contains(system)), "{table}");
    assert!(workspace.path("data/reports/evaluate.html").is_file());
    let report = workspace.report("evaluate");
    assert!(report["test_mrr@corpus_all_hybrid"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn judgments_without_a_known_answer_are_refused() {
    let workspace = Workspace::published();
    let judgments = write_judgments(&workspace);
    workspace.configure(&judgments);
    fs::write(workspace.path("judged.jsonl"), r#"{"query": "a", "relevant": ["nowhere"]}"#).unwrap();
    let error = workspace.fail(&["evaluate"]);
    assert!(error.contains("judged.jsonl") || error.contains("mine"), "{error}");
}

#[test]
fn a_line_that_is_no_judgment_is_named() {
    let workspace = Workspace::published();
    let judgments = write_judgments(&workspace);
    workspace.configure(&judgments);
    fs::write(workspace.path("judged.jsonl"), "{\"query\": \"a\"}").unwrap();
    assert!(workspace.fail(&["evaluate"]).contains("judged.jsonl:1"));
}

/// Unit tests compare with the numbers of `relevanceeval.py`; here, the output of `predictions` is the input of `evaluate`.
#[test]
fn predictions_are_scored_by_annotations() {
    let workspace = Workspace::published();
    let found = workspace.search(&["levenshtein", "--limit", "1"]);
    fs::write(workspace.path("queries.csv"), "query\nlevenshtein\n").unwrap();
    let url = found[0]["url"].as_str().unwrap();
    let annotations = format!("Language,Query,GitHubUrl,Relevance,Notes\nPython,Levenshtein,\"{url}\",3,\n");
    fs::write(workspace.path("annotations.csv"), annotations).unwrap();
    workspace.run(&["predictions", "--queries", "queries.csv", "--out", "predictions.csv", "--languages", "python"]);
    let (table, _) = workspace.run(&["evaluate", "--predictions", "predictions.csv", "--annotations", "annotations.csv"]);
    assert!(table.lines().any(|line| line.split_whitespace().take(4).eq(["python", "1", "1.0000", "1.0000"])), "{table}");
    assert_eq!(workspace.report("challenge")["ndcg_all_mean"], 1.0);
    let error = workspace.fail(&["evaluate", "--predictions", "queries.csv", "--annotations", "annotations.csv"]);
    assert!(error.contains("column `language`"), "{error}");
}

/// The encoder of a workspace as a sentence encoder is usually published: a graph that ends at the token vectors.
fn without_pooling(home: &Workspace) -> PathBuf {
    let target = home.path("without-pooling");
    let mut command = Command::new(python());
    let output = command.arg(folder().join("foreign_encoder.py")).arg(home.artifact("encoder")).arg(&target).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    target
}

#[test]
fn an_encoder_without_pooling_scores_as_the_encoder_with_it() {
    let home = Workspace::tokenized();
    home.configure("train.pooler = mean");
    home.run_all();
    let workspace = Workspace::new();
    workspace.configure(&format!("adopt.from = \"{}\"", without_pooling(&home).display()));
    workspace.run_all();
    let (ours, theirs) = (scores(&home), scores(&workspace));
    for (name, score) in ours.as_object().unwrap() {
        assert!((score.as_f64().unwrap() - theirs[name].as_f64().unwrap()).abs() < 1e-3, "{name}: {score} and {}", theirs[name]);
    }
    let ids = |workspace: &Workspace| -> Vec<Value> {
        let hits = workspace.search(&["parse a date", "--mode", "vector", "--limit", "5"]);
        hits.into_iter().map(|hit| hit["id"].clone()).collect()
    };
    assert_eq!(ids(&workspace), ids(&home));
}

#[test]
fn an_encoder_json_that_does_not_fit_its_graph_is_refused() {
    let home = Workspace::trained();
    let encoder = without_pooling(&home);
    let path = encoder.join("encoder.json");
    let spec = fs::read_to_string(&path).unwrap();
    let workspace = Workspace::new();
    for (from, to, reason) in [
        ("last_hidden_state", "pooler_output", "`pooler_output`"),
        ("\"pooling\": \"mean\"}", "\"pooling\": null}", "32"),
        ("\"token_types\": true", "\"token_types\": false", "token_type_ids"),
    ] {
        let wrong = spec.replace(from, to);
        assert_ne!(wrong, spec);
        fs::write(&path, wrong).unwrap();
        let error = workspace.fail(&["adopt", encoder.to_str().unwrap()]);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

/// Scores of `evaluate --judgments` for the group `all`: measure to score by system.
fn judged(workspace: &Workspace, format: &str, file: &str) -> Value {
    let (text, _) = workspace.run(&["evaluate", "--json", "--judgments", format, file]);
    let judged: Value = serde_json::from_str(&text).unwrap();
    let all = judged["scores"].as_array().unwrap().iter().filter(|score| score["group"] == "all");
    let scores = all.map(|score| (score["measure"].as_str().unwrap().to_owned(), score["systems"].clone())).collect();
    json!({ "left_out": judged["left_out"], "scores": Value::Object(scores) })
}

#[test]
fn judged_queries_are_scored_with_a_bundle_that_is_not_published() {
    let workspace = Workspace::published();
    write_judgments(&workspace);
    fs::remove_dir_all(workspace.path("data/serve")).unwrap();
    let found = judged(&workspace, "jsonl", "judged.jsonl");
    // Two answers at the first rank, none for the third query.
    assert!((found["scores"]["MRR"]["hybrid"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9, "{found}");
    let bundle = workspace.artifact("bundle").join("bundle");
    let arguments = ["evaluate", "--judgments", "jsonl", "judged.jsonl", "--bundle", bundle.to_str().unwrap()];
    assert!(workspace.run(&arguments).0.contains("MRR"));
}

#[test]
fn questions_about_files_are_scored_by_file_and_others_are_counted() {
    let workspace = Workspace::published();
    let hit = &workspace.search(&["levenshtein", "--limit", "1"])[0];
    let repo = hit["repo"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let task = |repo: &str| json!({"repo": repo, "category": "symbol", "query": "levenshtein", "relevant_files": [hit["path"]], "relevant_count": 1});
    fs::write(workspace.path("files.json"), json!({ "tasks": [task(&repo), task("elsewhere")] }).to_string()).unwrap();
    let found = judged(&workspace, "files", "files.json");
    assert_eq!((&found["scores"]["NDCG@10"]["bm25"], &found["left_out"]), (&json!(1.0), &json!(1)), "{found}");
}

#[test]
fn challenge_judgments_give_the_score_of_the_predictions() {
    let workspace = Workspace::published();
    let hits = workspace.search(&["edit distance", "--language", "python", "--limit", "3"]);
    assert_eq!(hits.len(), 3);
    let rows: String =
        hits.iter().zip([0, 3, 1]).map(|(hit, grade)| format!("Python,edit distance,{},{grade}\n", hit["url"].as_str().unwrap())).collect();
    fs::write(workspace.path("judged.csv"), format!("Language,Query,GitHubUrl,Relevance\n{rows}")).unwrap();
    fs::write(workspace.path("queries.csv"), "query\nedit distance\n").unwrap();
    let found = judged(&workspace, "csn", "judged.csv");
    workspace.run(&["predictions", "--queries", "queries.csv", "--out", "predictions.csv", "--languages", "python"]);
    let (scored, _) = workspace.run(&["evaluate", "--json", "--predictions", "predictions.csv", "--annotations", "judged.csv"]);
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let close = |a: &Value, b: &Value| assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12, "{found} {scored}");
    close(&found["scores"]["NDCG All"]["hybrid"], &scored[0]["ndcg_all"]);
    close(&found["scores"]["NDCG Within"]["hybrid"], &scored[0]["ndcg_within"]);
}

#[test]
fn a_bundle_is_only_named_with_judgments() {
    let workspace = Workspace::published();
    assert!(workspace.fail(&["evaluate", "--bundle", "data/serve/current"]).contains("--bundle needs --judgments"));
}
