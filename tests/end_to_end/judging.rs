//! An encoder from elsewhere, judged queries, and the challenge's measure of a file.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    outside::{folder, python},
    world::{World, ran, texts},
};

fn scores(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.artifact("scores").join("scores.json")).unwrap()).unwrap()
}

/// The encoder of one ledger serves another, where nothing is learnt; judged queries are ranked there; and documentation
/// that the encoder reads helps no query that is that documentation.
#[test]
fn an_adopted_encoder_is_indexed_and_judged() {
    let home = World::new();
    home.road(&[]);
    let adopt = format!("adopt.from = \"{}\"", home.artifact("encoder").display());

    let world = World::new();
    world.configure(&adopt);
    assert_eq!(ran(&world.road(&[])), ["harvest", "ingest", "parse", "adopt", "embed", "index", "evaluate"]);
    // The same functions and the same encoder: the same scores as at home.
    assert_eq!(scores(&world), scores(&home));
    let (status, _) = world.run("trainer", &["status"]);
    assert!(status.contains("adopt -> encoder") && !status.contains("train ->"), "{status}");

    // Two queries with an answer in the bundle, one of these by url, and one answer of another build.
    let docs = fs::read_to_string(world.path("corpus/text/distance.py")).unwrap();
    assert!(docs.contains("def levenshtein"), "the fixture changed");
    let found: Value = serde_json::from_str(&world.run("indexer", &["search", "levenshtein", "--json", "--limit", "1"]).0).unwrap();
    let judged = [
        json!({"query": "levenshtein distance of two words", "relevant": [found[0]["url"]]}),
        json!({"query": "levenshtein", "relevant": [found[0]["id"], "0123456789abcdef0123456789abcdef"]}),
        json!({"query": "an answer that is nowhere", "relevant": ["https://example.org/other"]}),
    ];
    fs::write(world.path("judged.jsonl"), judged.map(|line| line.to_string()).join("\n")).unwrap();
    let judgments = format!("evaluate.judgments = [{{ kind = jsonl, name = mine, path = \"{}\" }}]", world.path("judged.jsonl").display());
    world.configure(&format!("{adopt}\n{judgments}\nembed.documentation = true"));
    let said = world.road(&[]);
    assert_eq!(ran(&said), ["embed", "index", "evaluate"], "{said}");
    let with = scores(&world);
    let mine = |system: &str| with[format!("test_mrr@corpus_mine_{system}")].as_f64().unwrap();
    assert!((mine("bm25") - 2.0 / 3.0).abs() < 1e-9, "{}", mine("bm25"));
    assert!(mine("hybrid") > 1.0 / 3.0 && mine("hybrid") < 0.67, "{}", mine("hybrid"));
    assert_eq!(with["test_mrr@corpus_all_vector"], scores(&home)["test_mrr@corpus_all_vector"]);
    let report = &world.manifest("scores")["report"];
    assert_eq!(report["unknown_answers"]["mine"], 2);
    assert!(
        report["comparisons"]
            .as_array()
            .unwrap()
            .iter()
            .any(|of| of["language"] == "mine" && of["difference"]["p"].as_f64().unwrap() > 0.2)
    );
    let page = fs::read_to_string(world.artifact("scores").join("report.html")).unwrap();
    assert!(page.contains("Hybrid against either side") && page.contains("documentation read, but not that of the split"));

    // The same queries before and after: BM25 has not changed, and p says that it has not.
    let [before, after] = [home.artifact("scores"), world.artifact("scores")].map(|folder| folder.display().to_string());
    let (lines, _) = world.run("indexer", &["compare", &after, &before, "--json"]);
    let lines: Value = serde_json::from_str(&lines).unwrap();
    assert!(lines.as_array().unwrap().iter().all(|line| line["set"] == "test"), "judged queries are in one of them only: {lines}");
    assert_eq!((&lines[0]["system"], lines[0]["mean"].as_f64(), lines[0]["p"].as_f64()), (&"bm25".into(), Some(0.0), Some(1.0)));
    assert!(world.run("indexer", &["compare", &after, &before]).0.contains("difference"));
    assert!(world.fail("indexer", &["compare", &after, "nowhere"]).contains("holds no ranks"));

    // Judgments that say nothing about this bundle, and an encoder that is none.
    fs::write(world.path("judged.jsonl"), r#"{"query": "a", "relevant": ["nowhere"]}"#).unwrap();
    assert!(world.fail("indexer", &["evaluate"]).contains("no answer of"));
    fs::write(world.path("judged.jsonl"), "{\"query\": \"a\"}").unwrap();
    assert!(world.fail("indexer", &["evaluate"]).contains("judged.jsonl:1: expected"));
    world.configure(&format!("adopt.from = \"{}\"", world.path("corpus").display()));
    assert!(world.fail("trainer", &["run"]).contains("is no encoder"));
}

/// `relevanceeval.py` gave the numbers that the unit tests hold; here, that the tool takes what `predictions` writes.
#[test]
fn the_tools_own_predictions_are_scored_by_annotations() {
    let world = World::new();
    world.road(&[]);
    let found: Value = serde_json::from_str(&world.run("indexer", &["search", "levenshtein", "--json", "--limit", "1"]).0).unwrap();
    fs::write(world.path("queries.csv"), "query\nlevenshtein\n").unwrap();
    fs::write(
        world.path("annotations.csv"),
        format!("Language,Query,GitHubUrl,Relevance,Notes\nPython,Levenshtein,\"{}\",3,\n", found[0]["url"].as_str().unwrap()),
    )
    .unwrap();
    let (queries, out, annotations) = (world.path("queries.csv"), world.path("predictions.csv"), world.path("annotations.csv"));
    let [queries, out, annotations] = [&queries, &out, &annotations].map(|path| path.to_str().unwrap());
    world.run("indexer", &["predictions", "--queries", queries, "--out", out, "--languages", "python"]);
    let (table, _) = world.run("indexer", &["evaluate", "--predictions", out, "--annotations", annotations]);
    assert!(table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>()[..4] == ["python", "1", "1.0000", "1.0000"]), "{table}");
    let report: Value = serde_json::from_slice(&fs::read(world.path("data/reports/challenge.json")).unwrap()).unwrap();
    assert_eq!(report["ndcg_all_mean"], 1.0);
    assert!(world.fail("indexer", &["evaluate", "--predictions", queries, "--annotations", annotations]).contains("no column `language`"));
}

/// A sentence encoder as others publish it, up to its token vectors: pooled by its reader it scores as the one it was made of.
#[test]
fn a_graph_that_leaves_pooling_to_its_reader_is_adopted() {
    let home = World::new();
    home.configure("train.pooler = mean");
    home.road(&[]);
    let foreign = home.path("foreign");
    let output =
        Command::new(python()).arg(folder().join("foreign_encoder.py")).arg(home.artifact("encoder")).arg(&foreign).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    let world = World::new();
    world.configure(&format!("adopt.from = \"{}\"", foreign.display()));
    world.road(&[]);
    let (ours, theirs) = (scores(&home), scores(&world));
    for (name, score) in ours.as_object().unwrap() {
        assert!((score.as_f64().unwrap() - theirs[name].as_f64().unwrap()).abs() < 1e-3, "{name}: {score} and {}", theirs[name]);
    }
    assert_eq!(hits(&world), hits(&home));
    // What encoder.json says must be so.
    let path = foreign.join("encoder.json");
    let spec = fs::read_to_string(&path).unwrap();
    for (from, to, reason) in [
        ("last_hidden_state", "pooler_output", "has no output `pooler_output`"),
        ("\"pooling\": \"mean\"}", "\"pooling\": null}", "encoder.json says 32 a row"),
        ("\"token_types\": true", "\"token_types\": false", "onnxruntime"),
    ] {
        let wrong = spec.replace(from, to);
        assert_ne!(wrong, spec);
        fs::write(&path, wrong).unwrap();
        let error = world.fail("trainer", &["run"]);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

fn hits(world: &World) -> Vec<Value> {
    let (text, _) = world.run("indexer", &["search", "parse a date", "--json", "--mode", "vector", "--limit", "5"]);
    let hits: Vec<Value> = serde_json::from_str(&text).unwrap();
    hits.into_iter().map(|hit| hit["id"].clone()).collect()
}
