//! Publishing: gates, an atomic flip, rollback, refusal of damage, predictions, providers.

use std::fs;

use crate::world::World;

#[test]
fn a_worse_or_damaged_build_is_never_published_and_rollback_goes_back() {
    let world = World::new();
    world.road(&[]);
    let served = || fs::read_link(world.path("data/serve/current")).unwrap();
    let first = served();
    for file in [
        "manifest.json",
        "CHECKSUMS",
        "docs.parquet",
        "tombstones.parquet",
        "scores.json",
        "schema.md",
        "tantivy/meta.json",
        "vectors/embeddings.npy",
        "encoder/encoder.onnx",
        "encoder/tokenizer.json",
        "encoder/encoder.json",
    ] {
        assert!(world.path("data/serve/current").join(file).is_file(), "{file}");
    }

    // Another bundle that fails the gate is built, and not served.
    world.configure("index.boosts.name = 4.0\npublish.min-mrr = 0.999");
    let error = world.fail("indexer", &["run"]);
    assert!(error.contains("not published") && error.contains("publish.min-mrr"), "{error}");
    assert_eq!(served(), first);

    // With the gate open it is served, and the one before can be had back.
    world.configure("index.boosts.name = 4.0");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.run("indexer", &["run"]);
    assert_ne!(served(), first);
    world.run("indexer", &["rollback"]);
    assert_eq!(served(), first);
    assert!(world.fail("indexer", &["rollback"]).contains("no bundle was published before"));

    // What was rolled back is not served again by the next nightly run.
    assert!(world.run("indexer", &["run"]).1.contains("was rolled back and stays so"));
    assert_eq!(served(), first);

    // A build that is worse than the served one is refused, and so is one that cannot be compared with it.
    world.configure("index.boosts.name = 4.5\npublish.min-share-of-current = 1.5");
    let error = world.fail("indexer", &["run"]);
    assert!(error.contains("not published") && error.contains("fell from"), "{error}");
    world.configure("index.boosts.name = 4.5\nevaluate.split = valid");
    let error = world.fail("indexer", &["run"]);
    assert!(error.contains("the served bundle has no valid_mrr@corpus_all_hybrid"), "{error}");
    assert_eq!(served(), first);

    // A flipped bit in the sealed bundle is seen before anything is served.
    world.configure("index.boosts.name = 5.0");
    world.run("indexer", &["index"]);
    world.run("indexer", &["evaluate"]);
    let docs = world.artifact("bundle").join("bundle/docs.parquet");
    let mut bytes = fs::read(&docs).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&docs, bytes).unwrap();
    assert!(world.fail("indexer", &["publish"]).contains("damaged"));
    assert_eq!(served(), first);
}

#[test]
fn searches_and_predictions_answer_from_the_published_bundle() {
    let world = World::new();
    world.road(&[]);
    for (query, wanted) in [
        ("edit distance between two strings", "levenshtein"),
        ("throw away least recently used entries", "LruCache.evict"),
        ("greatest common divisor", "greatest_common_divisor"),
        ("parse an iso date", "parse_iso_date"),
    ] {
        let (text, _) = world.run("indexer", &["search", query, "-k", "3"]);
        assert!(text.contains(wanted), "{query}: {text}");
        assert!(text.lines().next().unwrap().contains(':'), "file:line: {text}");
    }
    let (text, _) = world.run("indexer", &["search", "shortest distance", "--language", "java", "--json", "--limit", "5"]);
    let hits: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(hits.as_array().unwrap().iter().all(|hit| hit["language"] == "java"), "{text}");
    assert_eq!(hits[0]["func_name"], "Dijkstra.shortestDistances");

    fs::write(world.path("queries.csv"), "query\n\"sort, then merge\"\nparse a date\n").unwrap();
    let (queries, out) = (world.path("queries.csv"), world.path("predictions.csv"));
    world.run(
        "indexer",
        &["predictions", "--queries", queries.to_str().unwrap(), "--out", out.to_str().unwrap(), "--languages", "python,go"],
    );
    let text = fs::read_to_string(out).unwrap();
    assert!(text.starts_with("query,language,identifier,url\n\"sort, then merge\",python,"), "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains(",python,") || line.contains(",go,")));
    assert!(text.contains("parse a date,python,parse_iso_date,parse.py#L4-L9"), "{text}");

    // A provider that is not there is an error, never a silent fallback.
    world.configure("embed.provider = cuda");
    if std::env::var_os("CODENETS_TEST_CUDA").is_none() {
        assert!(world.fail("indexer", &["embed"]).contains("cuda was asked for"));
    }
}
