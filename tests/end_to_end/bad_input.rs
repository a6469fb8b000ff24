//! Bad input of every kind: the run ends, each bad row is counted with its reason, and good rows are not lost.

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use ledger::table;
use serde_json::{Value, json};

use crate::workspace::{Workspace, source};

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

pub fn record(number: usize, partition: &str) -> Value {
    let verbs = ["read", "write", "sort", "merge", "count", "parse", "close", "split"];
    let nouns = ["file", "list", "tree", "graph", "table", "stream", "cache", "queue", "token"];
    let (verb, noun) = (verbs[number % 8], nouns[(number / 8) % 9]);
    let name = format!("{verb}_{noun}_{number}");
    let body = format!("def {name}({noun}):\n    {verb}er = {noun}.{verb}_{number}()\n    return {verb}er[{number}:{noun}.size_{number}]");
    let tokens: Vec<String> = body.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|t| !t.is_empty()).map(str::to_owned).collect();
    json!({
        "repo": format!("owner/repo-{partition}"), "path": format!("src/{noun}.py"), "func_name": name, "original_string": body,
        "language": "python", "code": body, "code_tokens": tokens, "docstring": format!("Please {verb} the {noun} number {number}."),
        "docstring_tokens": ["Please", verb, "the", noun, "number", number.to_string()], "sha": "0",
        "url": format!("https://example.org/{name}#L{}-L{}", number + 1, number + 3), "partition": partition
    })
}

fn lines(range: std::ops::Range<usize>, partition: &str) -> String {
    range.map(|number| record(number, partition).to_string() + "\n").collect()
}

/// Writes a CodeSearchNet folder with 66 good rows, 4 of them undocumented, and one bad row or file of each kind; the expected counts.
fn corpus(dir: &Path) -> BTreeMap<&'static str, u64> {
    let folder = |split: &str| {
        let folder = dir.join("python/final/jsonl").join(split);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let train = folder("train");
    fs::write(train.join("python_train_0.jsonl.gz"), gz(&train_lines())).unwrap();
    fs::write(folder("valid").join("python_valid_0.jsonl.gz"), gz(&lines(40..50, "valid"))).unwrap();
    fs::write(folder("test").join("python_test_0.jsonl"), lines(50..56, "test")).unwrap();
    // A truncated gzip: some of its rows are read.
    let mut noisy = lines(56..60, "train");
    noisy += &(0..4000u32).map(|n| format!("{:x}\n", n.wrapping_mul(2_654_435_761))).collect::<String>();
    let packed = gz(&noisy);
    fs::write(train.join("python_train_1.jsonl.gz"), &packed[..packed.len() - 2000]).unwrap();
    fs::write(train.join("python_train_2.jsonl.gz"), b"{\"plain\": true}\n").unwrap();
    fs::write(train.join("python_train_3.jsonl"), gz("{}\n")).unwrap();
    fs::write(train.join("python_train_4.jsonl"), "").unwrap();
    fs::write(train.join("python_train_5.csv"), "a,b\n").unwrap();
    let reasons = [
        "missing field code",
        "wrong type of docstring_tokens",
        "lone surrogate",
        "nul in code",
        "line too long",
        "unknown language",
        "empty code",
        "truncated or corrupt gzip",
        "not gzip",
        "gzip under a plain name",
        "empty file",
        "unknown file type",
    ];
    reasons.map(|reason| (reason, 1)).into()
}

/// 46 good rows of the training split, 4 of them undocumented, and 9 bad rows.
fn train_lines() -> String {
    let mut text = lines(0..40, "train");
    for number in 100..104 {
        let mut row = record(number, "train");
        row["docstring"] = json!("");
        row["docstring_tokens"] = json!([]);
        text += &(row.to_string() + "\n");
    }
    let with = |field: &str, value: Value| {
        let mut row = record(77, "train");
        row[field] = value;
        row.to_string() + "\n"
    };
    text += "{\"repo\": \"cut\n";
    let mut missing = record(77, "train");
    missing.as_object_mut().unwrap().remove("code");
    text += &(missing.to_string() + "\n");
    text += &with("docstring_tokens", json!("not a list"));
    text += &with("docstring", json!("x")).replace("\"docstring\":\"x\"", "\"docstring\":\"\\ud83d\"");
    text += &with("code", json!("a\u{0}b"));
    text += &with("code", json!("x".repeat(300_000)));
    text += &with("language", json!("cobol"));
    text += &with("code", json!(""));
    text += &format!("{}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    // Code with syntax errors, or nested 10,000 deep, is still code.
    let mut broken = record(200, "train");
    broken["code"] = json!("def broken(:\n  return ((");
    text += &(broken.to_string() + "\n");
    let mut deep = record(201, "train");
    deep["code"] = json!(format!("def deep():\n    return {}1{}", "(".repeat(10_000), ")".repeat(10_000)));
    text + &(deep.to_string() + "\n")
}

/// Settings that read the folder `csn` of a workspace.
fn csn() -> String {
    source("csn", "path = csn")
}

/// A workspace in which every stage has run on the bad corpus, and the expected counts.
static RUN: LazyLock<(Workspace, BTreeMap<&'static str, u64>)> = LazyLock::new(|| {
    let workspace = Workspace::shared("bad-input");
    workspace.replace_with(&Workspace::empty());
    let expected = corpus(&workspace.path("csn"));
    workspace.configure(&format!("{}ingest {{ max-line-bytes = 200000, max-reject-fraction = 1.0 }}", csn()));
    workspace.run_all();
    (workspace, expected)
});

/// The report of `ingest`.
fn report() -> Value {
    RUN.0.manifest("functions")["report"].clone()
}

fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap()
}

#[test]
fn every_bad_row_is_counted_with_its_reason() {
    let report = report();
    for (reason, count) in &RUN.1 {
        assert_eq!(report["reasons"][reason], *count, "{reason}: {report}");
    }
    // Broken JSON, the deep array, and the rest of the truncated gzip.
    assert!(report["reasons"]["not json"].as_u64().unwrap() > 100, "{report}");
}

#[test]
fn every_line_is_written_rejected_or_a_duplicate() {
    let report = report();
    let sum = count(&report, "written") + count(&report, "rejected") + count(&report, "repeated");
    assert_eq!(count(&report, "lines"), sum, "{report}");
    assert_eq!(count(&report, "written") + count(&report, "repeated"), 40 + 4 + 2 + 10 + 6 + 4);
}

#[test]
fn every_reject_has_a_row_with_file_and_reason() {
    let report = report();
    let mut rows = 0;
    for batch in table::read(&RUN.0.artifact("functions").join("rejects.parquet"), &[]).unwrap() {
        let batch = batch.unwrap();
        let (files, reasons) = (table::texts(&batch, "file").unwrap(), table::texts(&batch, "reason").unwrap());
        for row in 0..batch.num_rows() {
            if reasons.value(row) == "missing field code" {
                assert!(files.value(row).ends_with("python_train_0.jsonl.gz"));
            }
            rows += 1;
        }
    }
    assert_eq!(rows, count(&report, "rejected") + count(&report, "duplicates"));
}

#[test]
fn syntax_errors_and_deep_nesting_are_recorded_not_rejected() {
    let syntax = &RUN.0.manifest("syntax")["report"];
    assert!(syntax["with_errors"].as_u64().unwrap() >= 1 && syntax["max_depth"].as_u64().unwrap() > 100, "{syntax}");
}

#[test]
fn rows_without_documentation_are_indexed_and_not_learned_from() {
    let report = report();
    let indexed = RUN.0.manifest("bundle")["report"]["rows"].as_u64().unwrap();
    let learned = RUN.0.manifest("checkpoint")["report"]["pairs"].as_u64().unwrap();
    assert_eq!(indexed, count(&report, "written"));
    assert_eq!(learned, report["documented"]["python_train"].as_u64().unwrap());
    assert_eq!(report["rows"]["python_train"].as_u64().unwrap(), learned + 4);
    let hits = RUN.0.search(&["parse graph 101", "--mode", "bm25", "--limit", "3"]);
    assert!(hits.iter().any(|hit| hit["func_name"] == record(101, "train")["func_name"]), "{hits:?}");
}

#[test]
fn too_many_rejects_fail_with_their_reasons() {
    let workspace = Workspace::empty();
    fs::create_dir_all(workspace.path("csn")).unwrap();
    fs::write(workspace.path("csn/a.jsonl"), lines(0..3, "train") + "not json\n").unwrap();
    workspace.configure(&csn());
    let error = workspace.fail(&["run"]);
    assert!(error.contains("25.0 %") && error.contains("not json: 1") && error.contains("ingest.max-reject-fraction"), "{error}");
    assert!(!workspace.path("data/functions/CURRENT").exists(), "a failed stage records nothing");
}

#[test]
fn a_mistake_in_the_configuration_is_reported_with_its_fix() {
    let workspace = Workspace::new();
    for (setting, expected) in [
        ("vocab.sise = 3", "did you mean `size`"),
        ("vocba.size = 3", "did you mean `vocab`"),
        ("train.encoder.kind = gpt", "`gpt`"),
        ("harvest.source = null", "harvest.source"),
        ("harvest.source.path = \"/nowhere\"", "does not exist"),
        ("run.threads = many", "run.threads"),
        ("parse.skip-node-types.php = [\"<?php\"]", "no node type `<?php`"),
        ("harvest.split.test = 0.9", "harvest.split"),
    ] {
        workspace.configure(setting);
        let error = workspace.fail(&["run"]);
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

/// `run` reads every section before the first stage runs, and so does `status`.
#[test]
fn a_mistake_in_the_section_of_a_late_stage_is_reported_first() {
    let workspace = Workspace::new();
    for setting in ["publish.min-mmr = 0.1", "evaluate.max-querys = 3", "train.epoch = 3"] {
        workspace.configure(setting);
        for command in ["status", "plan", "run"] {
            assert!(workspace.fail(&[command]).contains("did you mean"), "{setting}");
        }
        assert!(!workspace.path("data/raw").exists(), "no stage runs");
    }
}

#[test]
fn a_stage_without_its_input_names_what_is_missing() {
    let workspace = Workspace::new();
    assert!(workspace.fail_only("train").contains("tokens"));
    let error = workspace.fail_only("export");
    assert!(error.contains("checkpoint") || error.contains("tokens"), "{error}");
}
