//! Files that earlier versions wrote stay readable: data folders, published bundles, snapshots. Nothing in tests/fixtures/*.tar.gz is ever
//! written again.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;

use crate::{
    python_readers::read_bundle,
    workspace::{CONF, FIXTURES, Workspace, ran},
};

/// Unpacks an archive of tests/fixtures.
fn unpack(name: &str, folder: &Path) {
    let archive = fs::File::open(Path::new(FIXTURES).join(name)).unwrap();
    fs::create_dir_all(folder).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(folder).unwrap();
}

/// A workspace that publishes an unpacked bundle.
fn with_bundle(name: &str) -> Workspace {
    let workspace = Workspace::empty();
    unpack(name, &workspace.path("data/serve/bundles/before"));
    symlink("bundles/before", workspace.path("data/serve/current")).unwrap();
    workspace
}

/// The first functions of three queries, and their scores, as the version that wrote the fixture of format 3 found them.
const FORMAT_3: [(&str, [(&str, f64); 3]); 3] = [
    ("parse an iso date", [("parse_iso_date", 1.0), ("Clock.format_duration", 0.314_156), ("ParseHeader", 0.307_11)]),
    ("edit distance between two strings", [("levenshtein", 0.864_002), ("parseQueryString", 0.606_483), ("clamp", 0.568_583)]),
    ("HTTPHeader value", [("ParseHeader", 1.0), ("LruCache.get", 0.406_961), ("Template.render", 0.394_218)]),
];

/// The same for the fixture of format 4, which version 0.1.0 wrote.
const FORMAT_4: [(&str, [(&str, f64); 3]); 3] = [
    ("parse an iso date", [("parse_iso_date", 1.0), ("ParseHeader", 0.335_629), ("Clock.format_duration", 0.314_156)]),
    ("edit distance between two strings", [("levenshtein", 0.864_002), ("parseQueryString", 0.606_483), ("clamp", 0.568_583)]),
    ("HTTPHeader value", [("ParseHeader", 1.0), ("LruCache.get", 0.406_961), ("Template.render", 0.394_218)]),
];

/// The same for the fixture of format 5, which version 0.2.0 wrote before its bundles had format 6.
const FORMAT_5: [(&str, [(&str, f64); 3]); 3] = [
    ("parse an iso date", [("parse_iso_date", 12.998_226), ("ParseHeader", 4.865_887), ("Clock.format_duration", 5.122_531)]),
    ("edit distance between two strings", [("levenshtein", 8.877_292), ("parseQueryString", 5.787_766), ("camel_to_snake", 5.979)]),
    ("HTTPHeader value", [("ParseHeader", 10.142_883), ("merge_settings", 4.572_447), ("LruCache.get", 4.416_262)]),
];

fn require_hits(hits: &[Value], expected: &[(&str, f64)]) {
    assert_eq!(hits.len(), expected.len());
    for (hit, (name, score)) in hits.iter().zip(expected) {
        assert_eq!(hit["func_name"], *name, "{hits:?}");
        assert!((hit["score"].as_f64().unwrap() - score).abs() < 1e-4, "{hit}");
    }
}

#[test]
fn a_bundle_of_format_3_answers_as_before() {
    let workspace = with_bundle("bundle-format-3.tar.gz");
    workspace.run(&["verify"]);
    for (query, expected) in FORMAT_3 {
        require_hits(&workspace.search(&[query, "--limit", "3"]), &expected);
    }
}

#[test]
fn a_bundle_of_format_4_answers_as_before() {
    let workspace = with_bundle("bundle-format-4.tar.gz");
    workspace.run(&["verify"]);
    for (query, expected) in FORMAT_4 {
        require_hits(&workspace.search(&[query, "--limit", "3"]), &expected);
    }
}

#[test]
fn a_bundle_of_format_5_answers_as_before() {
    let workspace = with_bundle("bundle-format-5.tar.gz");
    workspace.run(&["verify"]);
    for (query, expected) in FORMAT_5 {
        require_hits(&workspace.search(&[query, "--limit", "3"]), &expected);
    }
}

#[test]
fn a_python_reader_reads_a_bundle_of_format_5() {
    let workspace = with_bundle("bundle-format-5.tar.gz");
    for (query, expected) in FORMAT_5 {
        require_hits(&read_bundle("read_bundle.py", &workspace.path("data/serve/current"), "hybrid", query)[..3], &expected);
    }
}

#[test]
fn a_python_reader_reads_a_bundle_of_format_4() {
    let workspace = with_bundle("bundle-format-4.tar.gz");
    for (query, expected) in FORMAT_4 {
        require_hits(&read_bundle("read_bundle_format_4.py", &workspace.path("data/serve/current"), "hybrid", query)[..3], &expected);
    }
}

/// A data folder that version 0.1.0 wrote, its sources, and its configuration as it was recorded.
fn data_folder() -> Workspace {
    let workspace = Workspace::empty();
    unpack("data.tar.gz", workspace.root());
    fs::copy(workspace.path("recorded.conf"), workspace.path(CONF)).unwrap();
    workspace
}

/// The form of the configuration has changed since, the recorded values have not. When REVISION of a stage is raised, this stage and the
/// stages after it are stale here: name them.
#[test]
fn a_data_folder_of_0_1_0_is_up_to_date_but_for_revised_stages() {
    let workspace = data_folder();
    workspace.configure("");
    let stale = workspace.stale();
    assert_eq!(stale[0], "\"harvest\": \"stage revised from 2 to 6\"", "{stale:?}");
    // Vocabulary, tokens and encoder do not read what was revised (columns, and duplicates as rows): their bytes are the same.
    let messages = workspace.run_all();
    let announced =
        "this version of codenets writes other artifacts: it builds harvest, ingest, parse, vocab, tokenize, embed, index, evaluate again";
    assert!(messages.contains(announced), "{messages}");
    assert_eq!(ran(&messages), ["harvest", "ingest", "parse", "vocab", "tokenize", "embed", "index", "evaluate"]);
    assert!(workspace.stale().is_empty(), "{:?}", workspace.stale());
}

#[test]
fn keys_of_0_1_0_that_mean_something_else_now_are_refused_with_the_new_lines() {
    let error = data_folder().fail(&["status"]);
    assert!(error.contains("index.bm25") && error.contains("bm25f { k1 = 1.5, fields {"), "{error}");
}

#[test]
fn a_data_folder_of_0_1_0_is_verified_searched_and_traced() {
    let workspace = data_folder();
    assert!(workspace.run(&["verify"]).0.contains("intact"));
    assert_eq!(workspace.search(&["parse an iso date", "--limit", "1"])[0]["func_name"], "parse_iso_date");
    assert!(workspace.run(&["lineage", "--of", "data/serve/current"]).0.starts_with("bundle "));
    workspace.run(&["journal"]);
    assert!(workspace.run(&["gc"]).0.contains("nothing to delete"));
}

#[test]
fn a_snapshot_of_0_1_0_is_restored_and_searched() {
    let workspace = Workspace::empty();
    unpack("snapshot.tar.gz", workspace.root());
    workspace.run(&["verify", "--from", "saved"]);
    workspace.run(&["restore", "--from", "saved"]);
    workspace.run_only("publish");
    assert_eq!(workspace.search(&["parse an iso date", "--limit", "1"])[0]["func_name"], "parse_iso_date");
}
