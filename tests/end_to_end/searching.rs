//! Searches of the published bundle: filters, phrases, explanations, unusual queries.

use std::{fs, io::Write, process::Stdio};

use serde_json::Value;

use crate::workspace::{Workspace, texts};

const MODES: [&str; 3] = ["bm25", "vector", "hybrid"];

#[test]
fn a_search_finds_the_function_that_its_words_describe() {
    let workspace = Workspace::published();
    for (query, expected) in [
        ("edit distance between two strings", "levenshtein"),
        ("throw away least recently used entries", "LruCache.evict"),
        ("greatest common divisor", "greatest_common_divisor"),
        ("parse an iso date", "parse_iso_date"),
    ] {
        let (text, _) = workspace.run(&["search", query, "-k", "3"]);
        assert!(text.contains(expected), "{query}: {text}");
        assert!(text.lines().next().unwrap().contains(':'), "file:line: {text}");
    }
}

#[test]
fn a_search_is_limited_to_a_language() {
    let workspace = Workspace::published();
    let hits = workspace.search(&["shortest distance", "--language", "java", "--limit", "5"]);
    assert!(hits.iter().all(|hit| hit["language"] == "java"), "{hits:?}");
    assert_eq!(hits[0]["func_name"], "Dijkstra.shortestDistances");
}

#[test]
fn a_search_is_limited_to_a_repository() {
    let workspace = Workspace::published();
    let all = workspace.search(&["distance between words", "--limit", "30"]);
    assert!(all.iter().any(|hit| hit["repo"] != "text"), "{all:?}");
    let hits = workspace.search(&["distance between words", "--limit", "30", "--repo", "text"]);
    assert!(!hits.is_empty() && hits.iter().all(|hit| hit["repo"] == "text"));
    assert!(workspace.search(&["distance", "--repo", "nowhere"]).is_empty());
}

#[test]
fn a_search_is_limited_to_paths_that_match_a_glob() {
    let workspace = Workspace::published();
    for glob in ["dis*.py", "**/dis*.py", "**"] {
        let hits = workspace.search(&["distance between words", "--limit", "30", "--path", glob]);
        assert!(!hits.is_empty() && (glob == "**" || hits.iter().all(|hit| hit["path"] == "distance.py")), "{glob}: {hits:?}");
    }
    assert!(workspace.search(&["distance between words", "--path", "graph*.rb"]).is_empty());
}

#[test]
fn a_phrase_matches_its_words_in_order() {
    let workspace = Workspace::published();
    for mode in MODES {
        let hits = workspace.search(&["\"edit distance\"", "--mode", mode, "--limit", "30"]);
        assert!(!hits.is_empty(), "{mode}");
        for hit in &hits {
            let text = format!("{} {}", hit["summary"], hit["code"]).to_lowercase();
            assert!(text.contains("edit distance"), "{mode}: {hit}");
        }
        assert!(workspace.search(&["\"distance edit\"", "--mode", mode]).is_empty(), "{mode}");
    }
}

#[test]
fn an_explanation_has_the_parts_of_a_score_and_marked_lines() {
    let workspace = Workspace::published();
    let hit = &workspace.search(&["levenshtein edit distance", "--explain", "--limit", "1"])[0];
    let fields = hit["explanation"]["fields"].as_object().unwrap();
    let sum: f64 = fields.values().map(|score| score.as_f64().unwrap()).sum();
    assert!((sum - hit["explanation"]["bm25"]["score"].as_f64().unwrap()).abs() < 1e-3, "{hit}");
    assert_eq!(hit["explanation"]["bm25"]["rank"], 1);
    let marks: usize = hit["snippet"].as_array().unwrap().iter().map(|line| line["marks"].as_array().unwrap().len()).sum();
    assert!(marks > 0, "{hit}");
}

#[test]
fn text_that_is_not_for_a_terminal_has_no_colours() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["search", "levenshtein", "--explain"]);
    assert!(text.contains("bm25 ") && text.contains("; vector ") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn unusual_queries_are_answered() {
    let workspace = Workspace::published();
    for query in
        ["", " ", "*", "\"", "\"\"", "\u{1}\u{7}\u{1b}[31m", "日本語 عربى עברית ไทย 🦀", "a\"b\"c*", "((((", "AND OR NOT +-^~:[]{}"]
    {
        for mode in MODES {
            let output = workspace.try_run(&["search", query, "--mode", mode]);
            let (_, err) = texts(&output);
            assert!(output.status.success() && !err.contains("panicked"), "{mode} {query:?}: {err}");
        }
    }
    assert!(workspace.search(&[""]).is_empty());
}

#[test]
fn the_limit_may_be_zero_or_larger_than_the_bundle() {
    let workspace = Workspace::published();
    let all = workspace.search(&["sort the words", "--limit", "1000000000000", "--mode", "vector"]);
    assert_eq!(all.len() as u64, workspace.manifest("bundle")["report"]["rows"].as_u64().unwrap());
    assert!(workspace.search(&["sort the words", "--limit", "0"]).is_empty());
}

#[test]
fn a_long_query_is_read_from_standard_input_only() {
    let workspace = Workspace::published();
    let long = "sort the words ".repeat(8_000);
    // ONNX Runtime would overflow its stack.
    assert!(workspace.fail(&["search", &long]).contains("standard input"));
    for (query, found) in [(long.clone(), 3), ("x ".repeat(500_000), 0)] {
        let mut child = workspace
            .command(&["search", "-", "--json", "--limit", "3", "--mode", "bm25"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(query.as_bytes()).unwrap();
        let hits: Vec<Value> = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
        assert!(hits.len() >= found, "{} hits", hits.len());
    }
}

#[test]
fn a_search_without_a_bundle_names_the_command_that_makes_one() {
    let error = Workspace::empty().fail(&["search", "x"]);
    assert!(error.contains("nothing is published") && error.contains("codenets run"), "{error}");
}

#[test]
fn predictions_are_rows_of_query_language_identifier_and_url() {
    let workspace = Workspace::published();
    fs::write(workspace.path("queries.csv"), "query\n\"sort, then merge\"\nparse a date\n").unwrap();
    workspace.run(&["predictions", "--queries", "queries.csv", "--out", "predictions.csv", "--languages", "python,go"]);
    let text = fs::read_to_string(workspace.path("predictions.csv")).unwrap();
    assert!(text.starts_with("query,language,identifier,url\n\"sort, then merge\",python,"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains(",python,") || line.contains(",go,")));
    assert!(text.contains("parse a date,python,parse_iso_date,parse.py#L4-L9"), "{text}");
}

#[test]
fn the_tour_shows_stages_scores_and_three_searches() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["tour"]);
    assert!(
        text.contains("harvest") && text.contains("hybrid") && text.lines().filter(|line| line.starts_with("search: ")).count() == 3,
        "{text}"
    );
}

#[test]
fn an_exact_name_comes_first_in_snake_camel_and_dotted_form() {
    let workspace = Workspace::published();
    for (query, expected) in [
        ("parse_iso_date", "parse_iso_date"),
        ("parseIsoDate", "parse_iso_date"),
        ("ParseISODate", "parse_iso_date"),
        ("LruCache.get", "LruCache.get"),
        ("lru_cache_get", "LruCache.get"),
        ("shortestDistances", "Dijkstra.shortestDistances"),
    ] {
        for mode in ["bm25", "hybrid"] {
            let hits = workspace.search(&[query, "--mode", mode, "--limit", "2"]);
            assert_eq!(hits[0]["func_name"], expected, "{mode} {query}: {hits:?}");
        }
    }
}

#[test]
fn an_exact_file_name_or_path_comes_first() {
    let workspace = Workspace::published();
    for query in ["distance.py", "Dijkstra.java", "stats.php"] {
        let hits = workspace.search(&[query, "--limit", "1"]);
        assert_eq!(hits[0]["path"], query, "{hits:?}");
    }
}

#[test]
fn an_exact_name_obeys_the_filters() {
    let workspace = Workspace::published();
    let hits = workspace.search(&["parse_iso_date", "--language", "go", "--limit", "5"]);
    assert!(!hits.is_empty() && hits.iter().all(|hit| hit["language"] == "go"), "{hits:?}");
}

#[test]
fn a_name_is_found_by_two_of_its_words_without_the_space() {
    let workspace = Workspace::published();
    for (query, expected) in [("isodate", "parse_iso_date"), ("querystring", "parseQueryString"), ("camelto", "camel_to_snake")] {
        let hits = workspace.search(&[query, "--mode", "bm25", "--limit", "1"]);
        assert_eq!(hits[0]["func_name"], expected, "{query}: {hits:?}");
    }
}

/// The encoder is opened by the first query that needs a vector.
#[test]
fn a_bundle_that_was_opened_by_its_link_stays_the_same_when_the_link_changes() {
    let workspace = Workspace::published();
    inference::load_installed().unwrap();
    let current = workspace.path("data/serve/current");
    let bundle = bundle::Bundle::options().open(&current).unwrap();
    fs::remove_file(&current).unwrap();
    let hits = bundle.search(&bundle::Query::new("greatest common divisor").limit(1)).unwrap();
    assert_eq!(hits[0].func_name, "greatest_common_divisor");
}
