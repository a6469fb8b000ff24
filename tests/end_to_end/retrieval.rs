//! What search results are computed from: approximate vector search, learned fusion, embeddings that are taken over.

use std::{fs, sync::LazyLock};

use serde_json::Value;

use crate::workspace::{Workspace, encoder, ran, read_json};

const LEARNED: &str = "index.fusion { kind = learned, learned { least = 2, penalty = 0.01 } }\nindex.reranking.kind = none";
/// A fusion that is taken from the file `fusion.json`.
const TAKEN: &str = "index.fusion { kind = learned, learned.from = fusion.json }\nindex.reranking.kind = none";
/// A reranking model that is learned from the validation split.
const RERANKED: &str = "index.reranking { kind = learned, learned.least = 2 }";

fn names(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["func_name"].as_str().unwrap()).collect()
}

/// A workspace with a vector index of two HNSW graphs.
static WITH_GRAPHS: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("graphs");
    workspace.replace_with(&Workspace::published());
    workspace.configure("index.hnsw { from-rows = 1, graph-rows = 25 }");
    assert_eq!(ran(&workspace.run_all()), ["index", "evaluate"]);
    workspace
});

/// A workspace with a fusion that is learned from the validation split.
static WITH_LEARNED_FUSION: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("learned-fusion");
    workspace.replace_with(&Workspace::published());
    workspace.configure(LEARNED);
    assert_eq!(ran(&workspace.run_all()), ["index", "evaluate"]);
    workspace
});

#[test]
fn approximate_vector_search_finds_what_exact_search_finds() {
    let query = ["shortest distance between two nodes", "--mode", "vector", "--limit", "3"];
    let exact = Workspace::published().search(&query);
    let workspace = &*WITH_GRAPHS;
    assert_eq!(names(&workspace.search(&query)), names(&exact));
    let java = workspace.search(&["shortest distance", "--mode", "vector", "--language", "java", "--limit", "3"]);
    assert!(java.len() == 3 && java.iter().all(|hit| hit["language"] == "java"), "{java:?}");
    let manifest = workspace.bundle_manifest();
    let graphs = &manifest["vectors"]["graphs"];
    assert_eq!((&manifest["vectors"]["index"], graphs["files"].as_array().unwrap().len()), (&"hnsw".into(), 2), "{manifest}");
    assert!(graphs["recall_at_10"].as_f64().unwrap() > 0.95, "{graphs}");
}

#[test]
fn the_evaluation_page_shows_recall_and_latency_but_the_artifact_has_no_times() {
    let workspace = &*WITH_GRAPHS;
    let page = fs::read_to_string(workspace.path("data/reports/evaluate.html")).unwrap().to_lowercase();
    for part in ["recall", "latency", "256", "where hybrid gains most", "where hybrid loses most"] {
        assert!(page.contains(part), "{part}");
    }
    let artifact = fs::read_to_string(workspace.artifact("scores").join("report.html")).unwrap();
    assert!(!artifact.to_lowercase().contains("latency"), "times are not reproducible");
}

#[test]
fn nothing_is_learned_from_few_queries() {
    let workspace = Workspace::trained();
    workspace.configure("index.fusion.kind = learned\nindex.reranking.kind = learned");
    let messages = workspace.run_all();
    assert!(messages.contains("index.fusion.least") && messages.contains("weight 0.3"), "{messages}");
    assert!(messages.contains("index.reranking.least"), "{messages}");
    assert_eq!(workspace.bundle_manifest()["fusion"]["kind"], "min-max");
}

#[test]
fn a_learned_fusion_lowers_its_loss_and_is_documented_in_the_bundle() {
    let workspace = &*WITH_LEARNED_FUSION;
    let manifest = workspace.bundle_manifest();
    assert_eq!((&manifest["fusion"]["kind"], &manifest["fusion"]["split"]), (&"learned".into(), &"valid".into()), "{manifest}");
    let report = &workspace.manifest("bundle")["report"]["fusion"];
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap(), "{report}");
    let page = fs::read_to_string(workspace.path("data/serve/current/schema.md")).unwrap();
    assert!(page.contains("## Features") && page.contains("`cosine-standard`"), "{page}");
}

#[test]
fn a_learned_fusion_explains_a_score_by_its_features() {
    let workspace = &*WITH_LEARNED_FUSION;
    let hit = &workspace.search(&["greatest common divisor", "--explain"])[0];
    assert_eq!(hit["func_name"], "greatest_common_divisor");
    let parts = hit["explanation"]["features"].as_object().unwrap();
    let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
    assert!(parts.len() > 5 && (sum - hit["score"].as_f64().unwrap()).abs() < 1e-9, "{hit}");
    let (text, _) = workspace.run(&["search", "greatest common divisor", "--explain"]);
    assert!(text.contains("valid split") && text.contains("16 weights") && text.contains("bm25-of-largest "), "{text}");
}

#[test]
fn a_fusion_is_not_evaluated_on_the_queries_that_it_was_learned_from() {
    let workspace = Workspace::copy_of(&WITH_LEARNED_FUSION);
    workspace.configure(&format!("{LEARNED}\nevaluate.split = valid"));
    assert!(workspace.fail(&["evaluate"]).contains("valid split"));
}

#[test]
fn a_fusion_is_taken_from_a_file() {
    let workspace = Workspace::copy_of(&WITH_LEARNED_FUSION);
    let weights = workspace.bundle_manifest()["fusion"]["weights"].clone();
    fs::copy(workspace.path("data/serve/current/fusion.json"), workspace.path("fusion.json")).unwrap();
    workspace.configure(&format!("{TAKEN}\nevaluate.split = valid\npublish.min-share-of-current = 0"));
    workspace.run_all();
    let fusion = workspace.bundle_manifest()["fusion"].clone();
    assert_eq!((&fusion["weights"], fusion.get("split")), (&weights, None));
}

#[test]
fn a_fusion_file_that_is_not_one_is_refused() {
    let workspace = Workspace::published();
    workspace.configure(TAKEN);
    for (text, reason) in [("{}", "fusion.json"), ("{\"kind\": \"learned\", \"weights\": {\"moon-phase\": 1.0}}", "`moon-phase`")] {
        fs::write(workspace.path("fusion.json"), text).unwrap();
        let error = workspace.fail_only("index");
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn settings_of_the_index_out_of_range_are_refused() {
    let workspace = Workspace::published();
    for (setting, reason) in [
        ("index.bm25f.fields.code.b = 2.0", "index.bm25f.fields.code.b"),
        ("index.fusion { kind = learned, learned.least = 0 }", "index.fusion: queries, candidates and least"),
        ("index.fusion { kind = learned, learned.penalty = -1 }", "index.fusion.penalty"),
        ("index.reranking { kind = learned, learned.penalty = -1 }", "index.reranking.penalty"),
        ("index.reranking.weights.all.moon-phase = 1", "`moon-phase`"),
        ("index.diversity.similar = -1", "diversity.similar"),
        ("index.hnsw.connectivity = 1", "connectivity"),
    ] {
        workspace.configure(setting);
        let error = workspace.fail_only("index");
        assert!(error.contains(reason), "{setting}: {error}");
    }
}

/// A workspace with a reranking model that is learned from the validation split.
static WITH_LEARNED_RERANKING: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("learned-reranking");
    workspace.replace_with(&Workspace::published());
    workspace.configure(RERANKED);
    assert_eq!(ran(&workspace.run_all()), ["index", "evaluate"]);
    workspace
});

#[test]
fn a_learned_reranking_model_lowers_its_loss_and_names_its_encoder() {
    let workspace = &*WITH_LEARNED_RERANKING;
    let manifest = workspace.bundle_manifest();
    let model = &manifest["reranker"];
    assert_eq!((&model["split"], &model["encoder"]), (&"valid".into(), &manifest["inputs"]["encoder"]), "{manifest}");
    let report = &workspace.manifest("bundle")["report"]["reranking"];
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap(), "{report}");
    let current = workspace.path("data/serve/current");
    assert_eq!(&read_json(&current.join("reranker.json")), model);
    let page = fs::read_to_string(current.join("schema.md")).unwrap();
    assert!(page.contains("## Features of reranking") && page.contains("`file-covered`"), "{page}");
}

#[test]
fn a_reranking_model_explains_a_score_by_its_features() {
    let workspace = Workspace::published();
    let hit = &workspace.search(&["greatest common divisor", "--explain"])[0];
    let parts = hit["explanation"]["reranking"].as_object().unwrap();
    let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
    assert!(parts.len() > 5 && (sum - hit["score"].as_f64().unwrap()).abs() < 1e-9, "{hit}");
    let (text, _) = workspace.run(&["search", "greatest common divisor", "--explain"]);
    assert!(text.contains("reranking: ") && text.contains("name-words "), "{text}");
}

#[test]
fn the_functions_of_a_class_are_found_by_its_name() {
    let hits = Workspace::published().search(&["LruCache", "--limit", "2"]);
    assert!(hits.iter().all(|hit| hit["func_name"].as_str().unwrap().starts_with("LruCache.")), "{hits:?}");
}

#[test]
fn a_model_is_not_evaluated_on_the_queries_that_it_was_learned_from() {
    let workspace = Workspace::copy_of(&WITH_LEARNED_RERANKING);
    workspace.configure(&format!("{RERANKED}\nevaluate.split = valid"));
    assert!(workspace.fail(&["evaluate"]).contains("index.reranking.split"));
}

#[test]
fn a_model_of_another_encoder_is_refused_unless_it_is_allowed() {
    let workspace = Workspace::copy_of(&WITH_LEARNED_RERANKING);
    let mut model = workspace.bundle_manifest()["reranker"].clone();
    model["encoder"] = "0".repeat(64).into();
    fs::write(workspace.path("model.json"), model.to_string()).unwrap();
    let taken = "index.reranking { kind = learned, learned { from = model.json";
    workspace.configure(&format!("{taken} }} }}"));
    let error = workspace.fail_only("index");
    assert!(error.contains("another encoder") && error.contains("any-encoder"), "{error}");
    workspace.configure(&format!("{taken}, any-encoder = true }} }}"));
    workspace.run_only("index");
    assert_eq!(workspace.bundle_manifest()["reranker"]["weights"], model["weights"]);
}

#[test]
fn without_reranking_the_score_is_the_fused_one() {
    let workspace = Workspace::published();
    workspace.configure("index.reranking.kind = none\npublish.min-share-of-current = 0");
    workspace.run_all();
    assert!(workspace.bundle_manifest().get("reranker").is_none() && !workspace.path("data/serve/current/reranker.json").exists());
    let hits = workspace.search(&["parse an iso date", "--explain"]);
    assert!(hits[0]["explanation"].get("reranking").is_none() && hits[0]["score"].as_f64().unwrap() <= 1.0, "{hits:?}");
}

/// Settings of an encoder with attention, in which padding could change the last bits of a vector.
fn attention() -> String {
    encoder("bert", "dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.0")
        + "train { pooler = mean, epochs = 1 }\npublish.min-share-of-current = 0\n"
}

/// Exchanges the operands of one sum in the test split, forwards or backwards.
fn edit_a_source_file(workspace: &Workspace, from: &str, to: &str) {
    let file = workspace.path("corpus/text/distance.py");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "the fixture changed");
    fs::write(&file, text.replace(from, to)).unwrap();
}

const BEFORE: &str = "counts[word] = counts.get(word, 0) + 1";
const AFTER: &str = "counts[word] = 1 + counts.get(word, 0)";

/// The message of `embed` about the texts that it encoded.
fn encoded(messages: &str) -> &str {
    messages.lines().find(|line| line.contains(" texts of ")).unwrap()
}

#[test]
fn an_embedding_that_is_taken_over_has_the_bits_of_a_new_one() {
    let workspace = Workspace::tokenized();
    workspace.configure(&attention());
    workspace.run_until("embed");
    edit_a_source_file(&workspace, BEFORE, AFTER);
    let messages = workspace.run_until("embed");
    assert!(encoded(&messages).starts_with("embed     1 texts of "), "{messages}");
    let incremental = workspace.manifest("embeddings")["outputs"].clone();
    fs::remove_dir_all(workspace.path("data/embeddings")).unwrap();
    let (_, messages) = workspace.run(&["run", "--only", "embed", "--threads", "1"]);
    assert!(!messages.contains("embed     1 texts of "), "{messages}");
    assert_eq!(workspace.manifest("embeddings")["outputs"], incremental);
    // One session with two threads gives the same bits.
    workspace.configure(&format!("{}embed.sessions = 1", attention()));
    workspace.run(&["run", "--only", "embed", "--threads", "2"]);
    assert_eq!(workspace.manifest("embeddings")["outputs"], incremental);
}

/// A graph that quantises by the range of its whole input gives a row other bits in another batch.
#[test]
fn embeddings_of_a_dynamically_quantised_encoder_are_not_taken_over() {
    let workspace = Workspace::tokenized();
    workspace.configure(&format!("{}export {{ precision = int8, max-mrr-loss = 0.9 }}", attention()));
    workspace.run_until("embed");
    edit_a_source_file(&workspace, BEFORE, AFTER);
    let messages = workspace.run_until("embed");
    assert!(!encoded(&messages).starts_with("embed     1 texts of "), "{messages}");
}
