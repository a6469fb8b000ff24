//! Every kind of bad input: the run ends, each is counted with its reason, nothing else is lost.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use ledger::table;
use serde_json::{Value, json};

use crate::world::World;

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn record(number: usize, partition: &str) -> Value {
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

/// A CodeSearchNet folder with 60 good rows, 4 of them undocumented, and one of each evil.
fn corpus(dir: &Path) -> BTreeMap<&'static str, u64> {
    let folder = |split: &str| {
        let folder = dir.join("python/final/jsonl").join(split);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let train = folder("train");
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
    // Code that is broken or nested 10,000 deep is code all the same.
    let mut broken = record(200, "train");
    broken["code"] = json!("def broken(:\n  return ((");
    text += &(broken.to_string() + "\n");
    let mut deep = record(201, "train");
    deep["code"] = json!(format!("def deep():\n    return {}1{}", "(".repeat(10_000), ")".repeat(10_000)));
    text += &(deep.to_string() + "\n");
    fs::write(train.join("python_train_0.jsonl.gz"), gz(&text)).unwrap();
    fs::write(folder("valid").join("python_valid_0.jsonl.gz"), gz(&lines(40..50, "valid"))).unwrap();
    fs::write(folder("test").join("python_test_0.jsonl"), lines(50..56, "test")).unwrap();
    // A gzip that breaks off: some of its rows are read.
    let mut noisy = lines(56..60, "train");
    noisy += &(0..4000u32).map(|n| format!("{:x}\n", n.wrapping_mul(2_654_435_761))).collect::<String>();
    let packed = gz(&noisy);
    fs::write(train.join("python_train_1.jsonl.gz"), &packed[..packed.len() - 2000]).unwrap();
    fs::write(train.join("python_train_2.jsonl.gz"), b"{\"plain\": true}\n").unwrap();
    fs::write(train.join("python_train_3.jsonl"), gz("{}\n")).unwrap();
    fs::write(train.join("python_train_4.jsonl"), "").unwrap();
    fs::write(train.join("python_train_5.csv"), "a,b\n").unwrap();
    BTreeMap::from([
        ("missing field code", 1),
        ("wrong type of docstring_tokens", 1),
        ("lone surrogate", 1),
        ("nul in code", 1),
        ("line too long", 1),
        ("unknown language", 1),
        ("empty code", 1),
        ("truncated or corrupt gzip", 1),
        ("not gzip", 1),
        ("gzip under a plain name", 1),
        ("empty file", 1),
        ("unknown file type", 1),
    ])
}

const SOURCE: &str = "harvest.source = null\nharvest.source { kind = csn, path = ${?CSN_DIR} }\n";

#[test]
fn bad_rows_are_counted_and_the_good_ones_go_all_the_way() {
    let world = World::empty();
    let expected = corpus(&world.path("csn"));
    world.configure(&format!("{SOURCE}\ningest {{ max-line-bytes = 200000, max-reject-fraction = 1.0 }}"));
    for tool in ["pipeline", "trainer", "indexer"] {
        let output = world.command(tool, &["run"]).env("CSN_DIR", world.path("csn")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let report = &world.manifest("functions")["report"];
    for (reason, count) in &expected {
        assert_eq!(report["reasons"][reason], *count, "{reason}: {report}");
    }
    // Broken JSON, the deep array, and the noise of the torn gzip.
    assert!(report["reasons"]["not json"].as_u64().unwrap() > 100, "{report}");
    let count = |field: &str| report[field].as_u64().unwrap();
    assert_eq!(count("lines"), count("written") + count("rejected") + count("duplicates"), "nothing is lost: {report}");
    assert_eq!(count("written") + count("duplicates"), 40 + 4 + 2 + 10 + 6 + 4);

    // Each reject has its row, with place and reason.
    let mut rows = 0;
    for batch in table::read(&world.artifact("functions").join("rejects.parquet"), &[]).unwrap() {
        let batch = batch.unwrap();
        let (files, reasons) = (table::texts(&batch, "file").unwrap(), table::texts(&batch, "reason").unwrap());
        for row in 0..batch.num_rows() {
            if reasons.value(row) == "missing field code" {
                assert!(files.value(row).ends_with("python_train_0.jsonl.gz"));
            }
            rows += 1;
        }
    }
    assert_eq!(rows, count("rejected") + count("duplicates"));

    // Syntax errors and depth are facts of a row, not reasons to drop it.
    let syntax = &world.manifest("syntax")["report"];
    assert!(syntax["with_errors"].as_u64().unwrap() >= 1 && syntax["max_depth"].as_u64().unwrap() > 100, "{syntax}");

    // Rows without documentation are indexed, and not learnt from.
    let (indexed, learnt) =
        (world.manifest("bundle")["report"]["rows"].as_u64().unwrap(), world.manifest("checkpoint")["report"]["pairs"].as_u64().unwrap());
    assert_eq!(indexed, count("written"));
    assert_eq!(learnt, report["documented"]["python_train"].as_u64().unwrap());
    assert_eq!(report["rows"]["python_train"].as_u64().unwrap(), learnt + 4);
    let (found, _) = world.run("indexer", &["search", "parse graph 101", "--json", "--mode", "bm25", "--limit", "3"]);
    let wanted = record(101, "train")["func_name"].clone();
    assert!(found.contains(wanted.as_str().unwrap()), "{wanted}: {found}");
}

#[test]
fn too_many_rejects_fail_with_their_reasons() {
    let world = World::empty();
    fs::create_dir_all(world.path("csn")).unwrap();
    fs::write(world.path("csn/a.jsonl"), lines(0..3, "train") + "not json\n").unwrap();
    world.configure(SOURCE);
    let output = world.command("pipeline", &["run"]).env("CSN_DIR", world.path("csn")).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("25.0 % of 4 lines rejected") && error.contains("not json: 1"), "{error}");
    assert!(!world.path("data/functions/CURRENT").exists(), "a failed stage leaves nothing");
}

#[test]
fn mistakes_of_a_user_get_a_remedy() {
    let world = World::new();
    for (more, tool, expected) in [
        ("vocab.sise = 3", "pipeline", "did you mean `size`"),
        ("vocba.size = 3", "pipeline", "did you mean `vocab`"),
        ("train.encoder.kind = gpt", "trainer", "unknown value `gpt`"),
        ("harvest.source = null", "pipeline", "set harvest.source"),
        ("harvest.source.path = \"/nowhere\"", "pipeline", "does not exist"),
        ("run.threads = many", "pipeline", "run.threads"),
        ("parse.skip-node-types.php = [\"<?php\"]", "pipeline", "no node type `<?php`"),
        ("harvest.split.test = 0.9", "pipeline", "must leave something to train on"),
    ] {
        world.configure(more);
        let error = world.fail(tool, &["run"]);
        assert!(error.contains(expected), "{more}: {error}");
    }
    // A mistake in a late section is told by `status`, which `make run` asks first.
    for (more, tool) in [("publish.min-mmr = 0.1", "indexer"), ("evaluate.max-querys = 3", "indexer"), ("train.epoch = 3", "trainer")] {
        world.configure(more);
        assert!(world.fail(tool, &["status"]).contains("did you mean"), "{more}");
    }
    world.configure("train.options.token-dropout = 1.5");
    world.run("pipeline", &["run"]);
    assert!(world.fail("trainer", &["train"]).contains("train.options.token-dropout is a probability"));
    fs::remove_dir_all(world.path("data")).unwrap();
    world.configure("");
    assert!(world.fail("trainer", &["run"]).contains("no tokens recorded"));
    assert!(world.fail("indexer", &["search", "x"]).contains("nothing is published"));
}
