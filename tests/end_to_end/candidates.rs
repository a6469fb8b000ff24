//! Candidates with their features, from which weights are learned: `codenets-bench` and stage `index` read them.

use std::{collections::BTreeSet, fs};

use bundle::{Bundle, Query};
use ledger::{Progress, Split, Store, Syntax};
use serde_json::Value;

use crate::{
    retracting::QUERY,
    workspace::{Workspace, read_json},
};

fn open(workspace: &Workspace) -> Bundle {
    inference::load_installed().unwrap();
    Bundle::options().open(workspace.path("data/serve/current").canonicalize().unwrap()).unwrap()
}

/// The training split has ten files in four repositories, at most four files in each.
#[test]
fn every_second_example_searches_one_repository_only() {
    let workspace = Workspace::published();
    let bundle = open(&workspace);
    let store = Store::at(workspace.path("data"), Progress::new(true), 1);
    let syntax = store.current::<Syntax>().unwrap().open().unwrap();
    let out = workspace.path("examples.jsonl");
    let count = indexer::index::write_examples(bundle.dir(), &syntax, Split::Train, false, 100, &out).unwrap();
    let text = fs::read_to_string(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((count, lines.len()), (21, 21), "one of each documented function");
    for (index, line) in lines.iter().enumerate() {
        let rows = line[2].as_array().unwrap();
        let files: BTreeSet<u64> = rows.iter().map(|row| row[0].as_u64().unwrap()).collect();
        assert_eq!(rows.iter().filter(|row| row[1] == true).count(), 1, "{line}");
        assert!(if index % 2 == 0 { files.len() <= 4 } else { files.len() == 10 }, "{index}: {files:?}");
    }
}

#[test]
fn features_of_reranking_are_those_of_allowed_rows() {
    let workspace = Workspace::published();
    let rows = |query: Query| -> Vec<u32> {
        let bundle = open(&workspace);
        bundle.reranking_features(&query).unwrap().into_iter().map(|(row, _)| row).collect()
    };
    let all = rows(Query::new(QUERY));
    let in_text = rows(Query::new(QUERY).repo("text"));
    assert_eq!((all.len(), in_text.len()), (35, 6));
    let hit = &workspace.search(&[QUERY, "--limit", "1"])[0];
    fs::write(workspace.path("ids.txt"), hit["id"].as_str().unwrap()).unwrap();
    workspace.run(&["retract", "ids.txt", "--by", "id"]);
    let deleted = hit["row"].as_u64().map(|row| row as u32);
    let left = rows(Query::new(QUERY));
    assert_eq!(left.len(), 34);
    assert!(all.iter().all(|row| left.contains(row) != (Some(*row) == deleted)), "{deleted:?} of {left:?}");
    assert_eq!(rows(Query::new(QUERY).repo("text")).len(), 5);
    assert_eq!(read_json(&workspace.path("data/serve/current/manifest.json"))["rows"], 35, "the row stays in the bundle");
}

#[test]
fn a_relevant_function_is_named_by_its_id_or_its_url() {
    let workspace = Workspace::published();
    let bundle = open(&workspace);
    let hit = &workspace.search(&[QUERY, "--limit", "1"])[0];
    let grades = |relevant: &Value| -> Vec<f64> {
        let (judged, out) = (workspace.path("judged.jsonl"), workspace.path("candidates.jsonl"));
        fs::write(&judged, serde_json::json!({"query": QUERY, "relevant": [relevant]}).to_string()).unwrap();
        assert_eq!(indexer::evaluate::judge::candidates::write(&bundle, "jsonl".parse().unwrap(), &judged, &out).unwrap(), 1);
        let rows = read_json(&out)["rows"].clone();
        rows.as_array().unwrap().iter().map(|row| row["grade"].as_f64().unwrap()).collect()
    };
    let by_id = grades(&hit["id"]);
    assert_eq!((by_id.len(), by_id.iter().sum::<f64>()), (35, 1.0));
    assert_eq!(grades(&hit["url"]), by_id);
    assert!(grades(&Value::from("another")).iter().all(|grade| *grade == 0.0));
}
