//! What the bundle searches by: graphs, learnt fusions, texts that are read once, functions taken out.

use std::fs;

use serde_json::Value;

use crate::world::{World, ran};

fn hits(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (text, _) = world.run("indexer", &[&["search", "--json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

fn names(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["func_name"].as_str().unwrap()).collect()
}

fn bundle_manifest(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.path("data/serve/current/manifest.json")).unwrap()).unwrap()
}

#[test]
fn graphs_answer_as_the_scan_does_and_the_page_shows_what_they_cost() {
    let world = World::new();
    world.road(&[]);
    let query = ["shortest distance between two nodes", "--mode", "vector", "--limit", "3"];
    let scanned = hits(&world, &query);
    world.configure("index.hnsw { from-rows = 1, graph-rows = 25 }");
    assert_eq!(ran(&world.road(&[])), ["index", "evaluate"]);
    let manifest = bundle_manifest(&world);
    let graphs = &manifest["vectors"]["graphs"];
    assert_eq!((&manifest["vectors"]["index"], graphs["files"].as_array().unwrap().len()), (&"hnsw".into(), 2), "{manifest}");
    assert!(graphs["recall_at_10"].as_f64().unwrap() > 0.95, "{graphs}");
    assert_eq!(names(&hits(&world, &query)), names(&scanned));
    let java = hits(&world, &["shortest distance", "--mode", "vector", "--language", "java", "--limit", "3"]);
    assert!(java.len() == 3 && java.iter().all(|hit| hit["language"] == "java"), "{java:?}");
    let page = fs::read_to_string(world.path("data/reports/evaluate.html")).unwrap();
    for part in ["recall and latency", "<td>graphs<td class=n>256", "Where hybrid gains most against BM25", "Where hybrid loses most"] {
        assert!(page.contains(part), "{part}");
    }
    let sealed = fs::read_to_string(world.artifact("scores").join("report.html")).unwrap();
    assert!(!sealed.contains("recall and latency"), "times are no part of a record");
    // One that is not whole is refused before it is mapped.
    let graph = world.path("data/serve/current/vectors/hnsw-1.usearch");
    let bytes = fs::read(&graph).unwrap();
    fs::remove_file(&graph).unwrap();
    fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    assert!(world.fail("indexer", &["search", "date"]).contains("is damaged"));
}

#[test]
fn a_fusion_is_learnt_explained_taken_elsewhere_and_not_judged_by_its_own_queries() {
    let world = World::new();
    let said = world.road(&[]);
    assert!(said.contains("less than index.fusion.least: min-max, weight 0.5"), "{said}");
    assert_eq!(bundle_manifest(&world)["fusion"]["kind"], "min-max");

    world.configure("index.fusion { least = 2, penalty = 0.01 }");
    assert_eq!(ran(&world.road(&[])), ["index", "evaluate"]);
    let manifest = bundle_manifest(&world);
    assert_eq!((&manifest["fusion"]["kind"], &manifest["fusion"]["split"]), (&"learned".into(), &"valid".into()), "{manifest}");
    let report = &world.manifest("bundle")["report"]["fusion"];
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap(), "{report}");
    let hit = &hits(&world, &["greatest common divisor", "--explain"])[0];
    assert_eq!(hit["func_name"], "greatest_common_divisor");
    let parts = hit["explanation"]["features"].as_object().unwrap();
    let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
    assert!(parts.len() > 5 && (sum - hit["score"].as_f64().unwrap()).abs() < 1e-9, "{hit}");
    let (text, _) = world.run("indexer", &["search", "greatest common divisor", "--explain"]);
    assert!(text.contains("learned from the valid split, 13 weights: bm25-of-largest "), "{text}");
    let page = fs::read_to_string(world.path("data/serve/current/schema.md")).unwrap();
    assert!(page.contains("## Features") && page.contains("`cosine-standard`"), "{page}");

    world.configure("index.fusion { least = 2, penalty = 0.01 }\nevaluate.split = valid");
    assert!(world.fail("indexer", &["evaluate"]).contains("learnt from the valid split"));

    // The same weights in another bundle, where nothing of it taught them.
    let weights = manifest["fusion"]["weights"].clone();
    let file = world.path("fusion.json");
    fs::copy(world.path("data/serve/current/fusion.json"), &file).unwrap();
    let from = format!("index.fusion.from = \"{}\"\nevaluate.split = valid\npublish.min-share-of-current = 0", file.display());
    world.configure(&from);
    world.run("indexer", &["run"]);
    let fusion = bundle_manifest(&world)["fusion"].clone();
    assert_eq!((&fusion["weights"], fusion.get("split")), (&weights, None));
    // A file that is none, and a weight that nobody knows.
    for (text, reason) in [("{}", "is no fusion"), ("{\"kind\": \"learned\", \"weights\": {\"moon-phase\": 1.0}}", "`moon-phase`")] {
        fs::write(&file, text).unwrap();
        assert!(world.fail("indexer", &["index"]).contains(reason), "{reason}");
    }
    for (setting, reason) in [
        ("index.bm25.b = 2.0", "expected 0 to 1"),
        ("index.fusion.least = 0", "must be positive"),
        ("index.fusion.penalty = -1", "expected 0 or more"),
        ("index.hnsw.connectivity = 1", "connectivity above 1"),
    ] {
        world.configure(setting);
        let error = world.fail("indexer", &["index"]);
        assert!(error.contains(reason), "{setting}: {error}");
    }
}

/// An encoder with attention, where padding and company could show in the last bits: what is taken over is what would be made.
#[test]
fn a_text_that_was_read_before_is_not_read_again() {
    let bert = "train.encoder = null\ntrain { encoder { kind = bert, dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.0 }, \
                pooler = mean, epochs = 1 }";
    let world = World::new();
    world.configure(bert);
    world.road(&[]);
    let file = world.path("corpus/text/distance.py");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("counts[word] = counts.get(word, 0) + 1"));
    fs::write(&file, text.replace("counts[word] = counts.get(word, 0) + 1", "counts[word] = 1 + counts.get(word, 0)")).unwrap();
    let said = world.road(&[]);
    let embedded = said.lines().find(|line| line.contains(" texts of ")).unwrap();
    assert!(embedded.starts_with("embed     1 texts of "), "{embedded}");
    let incremental = world.manifest("embeddings")["outputs"].clone();
    fs::remove_dir_all(world.path("data/embeddings")).unwrap();
    let (_, said) = world.run("indexer", &["embed", "--threads", "1"]);
    assert!(!said.contains("embed     1 texts of "), "{said}");
    assert_eq!(world.manifest("embeddings")["outputs"], incremental);
    // So does a call through a binding, which is how a GPU is asked.
    let (encoder, syntax) = (world.artifact("encoder"), world.artifact("syntax"));
    let measured = |more: &[&str]| -> Value {
        let paths = ["--encoder", encoder.to_str().unwrap(), "--syntax", syntax.to_str().unwrap()];
        serde_json::from_str(&world.run("indexer", &[&["measure", "embed"], &paths[..], more].concat()).0).unwrap()
    };
    assert_eq!(measured(&["--bind"])["vectors"], measured(&[])["vectors"]);
    // Fewer sessions of more threads, too.
    world.configure(&format!("{bert}\nembed.sessions = 1"));
    world.run("indexer", &["embed", "--threads", "2"]);
    assert_eq!(world.manifest("embeddings")["outputs"], incremental);

    // A graph that quantises by the range of its whole call gives a row other bits in other company: nothing is taken over.
    world.configure(&format!("{bert}\nexport {{ precision = int8, max-mrr-loss = 0.9 }}\npublish.min-share-of-current = 0"));
    world.road(&[]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("counts[word] = 1 + counts.get(word, 0)", "counts[word] = counts.get(word, 0) + 1")).unwrap();
    let said = world.road(&[]);
    let embedded = said.lines().find(|line| line.contains(" texts of ")).unwrap();
    assert!(!embedded.starts_with("embed     1 texts of "), "{embedded}");
}

#[test]
fn what_is_retracted_is_found_no_more_not_even_after_a_rollback_or_a_new_build() {
    let world = World::new();
    world.road(&[]);
    let query = "levenshtein edit distance, return a value of path and text";
    let found = hits(&world, &[query, "--limit", "50"]);
    let id = found[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(found[0]["func_name"], "levenshtein");
    let list = world.path("ids.txt");
    fs::write(&list, format!("{id}\n\n")).unwrap();
    let (text, _) = world.run("indexer", &["retract", list.to_str().unwrap()]);
    assert_eq!(text.trim(), "1 ids are retracted, 1 of them from the served bundle");
    let gone = |world: &World| {
        for mode in ["bm25", "vector", "hybrid"] {
            for more in [&[][..], &["--language", "python"], &["--path", "**"]] {
                let found = hits(world, &[&[query, "--mode", mode], more].concat());
                assert!(!found.is_empty() && found.iter().all(|hit| hit["id"] != id.as_str()), "{mode} {more:?}");
            }
        }
        world.run("indexer", &["verify"]);
    };
    gone(&world);
    // Everything else is as it was: the scores of a side do not know who else is there.
    let rest: Vec<&str> = names(&found).into_iter().filter(|name| *name != "levenshtein").collect();
    let mut now = hits(&world, &[query, "--limit", "50"]);
    now.retain(|hit| rest.contains(&hit["func_name"].as_str().unwrap()));
    assert_eq!(now.len(), rest.len());

    // A new build is held to the list, and a rollback to the one before brings nothing back. The sealed artifact is untouched.
    world.configure("index.boosts.name = 3.0\npublish.min-share-of-current = 0");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.run("indexer", &["run"]);
    gone(&world);
    world.run("indexer", &["rollback"]);
    gone(&world);
    assert_eq!(ran(&world.run("indexer", &["run"]).1), [""; 0]);

    // A run that was killed between the two files it changes, and what it left beside them, are mended by the next publish.
    let folder = world.path("data/serve/current").canonicalize().unwrap();
    let sums = fs::read_to_string(folder.join("CHECKSUMS")).unwrap();
    fs::write(folder.join("CHECKSUMS"), sums.replace("  tombstones.parquet", "0  tombstones.parquet")).unwrap();
    fs::write(folder.join(".tombstones-left"), "half").unwrap();
    assert!(world.fail("indexer", &["verify"]).contains("tombstones.parquet"));
    world.run("indexer", &["run"]);
    assert_eq!(fs::read_to_string(folder.join("CHECKSUMS")).unwrap(), sums);
    assert!(!folder.join(".tombstones-left").exists());
    gone(&world);

    // An id that is nowhere changes nothing; an empty list brings all back.
    fs::write(&list, "0123456789abcdef0123456789abcdef\n").unwrap();
    assert!(world.fail("indexer", &["retract", list.to_str().unwrap()]).contains("no published bundle holds"));
    gone(&world);
    fs::write(&list, "").unwrap();
    world.run("indexer", &["retract", list.to_str().unwrap(), "--only"]);
    assert_eq!(hits(&world, &[query])[0]["id"], id.as_str());
}
