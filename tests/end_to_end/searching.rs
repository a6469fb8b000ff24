//! Searching the published bundle: filters, phrases, explanations, odd queries, damaged and foreign bundles.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::world::{World, copy_tree, texts};

fn hits(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (text, _) = world.run("indexer", &[&["search", "--json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_search_is_narrowed_explained_and_shows_the_lines_it_is_about() {
    let world = World::new();
    world.road(&[]);
    let all = hits(&world, &["distance between words", "--limit", "30"]);
    assert!(all.iter().any(|hit| hit["repo"] != "text"), "{all:?}");
    let own = hits(&world, &["distance between words", "--limit", "30", "--repo", "text"]);
    assert!(!own.is_empty() && own.iter().all(|hit| hit["repo"] == "text"));
    let python = hits(&world, &["distance between words", "--limit", "30", "--path", "dis*.py"]);
    assert!(!python.is_empty() && python.iter().all(|hit| hit["path"] == "distance.py"), "{python:?}");
    assert!(hits(&world, &["distance", "--repo", "nowhere"]).is_empty());
    // The same words, together or not.
    for mode in ["bm25", "vector", "hybrid"] {
        let phrase = hits(&world, &["\"edit distance\"", "--mode", mode, "--limit", "30"]);
        assert!(!phrase.is_empty(), "{mode}");
        for hit in &phrase {
            let text = format!("{} {}", hit["summary"], hit["code"]).to_lowercase();
            assert!(text.contains("edit distance"), "{mode}: {hit}");
        }
        assert!(hits(&world, &["\"distance edit\"", "--mode", mode]).is_empty(), "{mode}");
    }
    let explained = &hits(&world, &["levenshtein edit distance", "--explain", "--limit", "1"])[0];
    let fields = explained["explanation"]["fields"].as_object().unwrap();
    let sum: f64 = fields.values().map(|score| score.as_f64().unwrap()).sum();
    assert!((sum - explained["explanation"]["bm25"]["score"].as_f64().unwrap()).abs() < 1e-3, "{explained}");
    assert_eq!(explained["explanation"]["bm25"]["rank"], 1);
    let marks: usize = explained["snippet"].as_array().unwrap().iter().map(|line| line["marks"].as_array().unwrap().len()).sum();
    assert!(marks > 0, "{explained}");
    let (text, _) = world.run("indexer", &["search", "levenshtein", "--explain"]);
    assert!(text.contains("bm25 ") && text.contains("; vector ") && !text.contains('\u{1b}'), "a file gets no colours: {text}");
}

#[test]
fn any_query_is_answered() {
    let world = World::new();
    world.road(&[]);
    let long = "sort the words ".repeat(8_000);
    for query in
        ["", " ", "*", "\"", "\"\"", "\u{1}\u{7}\u{1b}[31m", "日本語 عربى עברית ไทย 🦀", "a\"b\"c*", "((((", "AND OR NOT +-^~:[]{}"]
    {
        for mode in ["bm25", "vector", "hybrid"] {
            let output = world.try_run("indexer", &["search", query, "--mode", mode]);
            let (_, err) = texts(&output);
            assert!(output.status.success() && !err.contains("panicked"), "{mode} {:?}: {err}", query.chars().take(40).collect::<String>());
        }
    }
    assert!(hits(&world, &[""]).is_empty());
    let all = hits(&world, &["sort the words", "--limit", "1000000000000", "--mode", "vector"]);
    assert_eq!(all.len() as u64, world.manifest("bundle")["report"]["rows"].as_u64().unwrap());
    assert!(hits(&world, &["sort the words", "--limit", "0"]).is_empty());
    // A long one comes by standard input; on the command line it would end onnxruntime.
    assert!(world.fail("indexer", &["search", &long]).contains("pass the query by standard input"));
    for (query, found) in [(long.clone(), 3), ("x ".repeat(500_000), 0)] {
        let mut child = world
            .command("indexer", &["search", "-", "--json", "--limit", "3", "--mode", "bm25"])
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
fn a_damaged_or_foreign_bundle_is_refused_in_words() {
    let world = World::new();
    world.road(&[]);
    let served = fs::canonicalize(world.path("data/serve/current")).unwrap();
    let serve = |change: &dyn Fn(&Path)| {
        let copy = world.path("data/serve/bundles/changed");
        let _ = fs::remove_dir_all(&copy);
        copy_tree(&served, &copy);
        change(&copy);
        fs::remove_file(world.path("data/serve/current")).unwrap();
        symlink("bundles/changed", world.path("data/serve/current")).unwrap();
        world.try_run("indexer", &["search", "parse a date"])
    };
    let edit = |key: &'static str, value: Value| {
        move |copy: &Path| {
            let path = copy.join("manifest.json");
            let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            manifest[key] = value.clone();
            fs::write(path, manifest.to_string()).unwrap();
        }
    };
    for (format, is_read) in [(2, false), (3, true), (4, true), (5, false)] {
        let output = serve(&edit("bundle_format", format.into()));
        assert_eq!(output.status.success(), is_read, "format {format}: {}", texts(&output).1);
        assert!(is_read || texts(&output).1.contains(&format!("has bundle format {format}, this tool reads 3 to 4")));
    }
    let output = serve(&|copy| {
        let path = copy.join("encoder/encoder.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"dimension\": 32", "\"dimension\": 64");
        fs::write(path, text).unwrap();
    });
    assert!(texts(&output).1.contains("the encoder gives 64 numbers, the vectors have 32"), "{}", texts(&output).1);
    // Each file, cut in the middle: an answer or an error, never a panic.
    for file in files_below(&served).into_iter().filter(|file| fs::metadata(served.join(file)).unwrap().len() > 1) {
        let output = serve(&|copy| {
            let bytes = fs::read(copy.join(&file)).unwrap();
            fs::write(copy.join(&file), &bytes[..bytes.len() / 2]).unwrap();
        });
        let (_, err) = texts(&output);
        assert!(!err.contains("panicked") && output.status.code().is_some_and(|code| code < 2), "{}: {err}", file.display());
        assert!(output.status.success() || err.contains("error: "), "{}: {err}", file.display());
        if !output.status.success() {
            continue;
        }
        // What a search does not read is seen by `verify`.
        let said = world.fail("indexer", &["verify"]);
        assert!(said.contains("damaged") || said.contains("CHECKSUMS"), "{}: {said}", file.display());
    }
}

/// `bundle-format-3.tar.gz` is what the tool before format 4 published of the fixture corpus; these are its answers.
#[test]
fn a_bundle_of_the_format_before_answers_as_it_did() {
    let world = World::empty();
    let packed = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundle-format-3.tar.gz")).unwrap();
    let folder = world.path("data/serve/bundles/before");
    fs::create_dir_all(&folder).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(packed)).unpack(&folder).unwrap();
    symlink("bundles/before", world.path("data/serve/current")).unwrap();
    world.run("indexer", &["verify"]);
    for (query, expected) in [
        ("parse an iso date", [("parse_iso_date", 1.0), ("Clock.format_duration", 0.314_156), ("ParseHeader", 0.307_11)]),
        ("edit distance between two strings", [("levenshtein", 0.864_002), ("parseQueryString", 0.606_483), ("clamp", 0.568_583)]),
        ("HTTPHeader value", [("ParseHeader", 1.0), ("LruCache.get", 0.406_961), ("Template.render", 0.394_218)]),
    ] {
        let found = hits(&world, &[query, "--limit", "3"]);
        for (hit, (name, score)) in found.iter().zip(expected) {
            assert_eq!(hit["func_name"], name, "{query}");
            assert!((hit["score"].as_f64().unwrap() - score).abs() < 1e-4, "{query}: {hit}");
        }
    }
}

/// Relative paths of all files, sorted.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path.strip_prefix(root).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}
