//! One road through all stages: recorded, fresh the second time, incremental, the same bytes on any
//! number of threads.

use std::fs;

use serde_json::Value;

use crate::world::{STAGES, World, ran};

fn counts(manifest: &Value) -> (u64, u64) {
    let host = &manifest["host"];
    (host["shards_run"].as_u64().unwrap(), host["shards_reused"].as_u64().unwrap())
}

#[test]
fn the_road_is_recorded_fresh_and_incremental() {
    let world = World::new();
    assert_eq!(ran(&world.road(&[])), STAGES);

    // Every stage left a manifest that says what it read, did and wrote.
    for kind in ledger::ARTIFACT_KINDS {
        let manifest = world.manifest(kind);
        assert_eq!(manifest["kind"], kind);
        assert!(manifest["rows"]["written"].as_u64().unwrap() > 0, "{kind}");
        assert!(!manifest["outputs"].as_object().unwrap().is_empty(), "{kind}");
        assert!(manifest["host"]["commit"].is_object() && manifest["config"].is_object(), "{kind}");
    }
    let harvested = world.manifest("raw");
    assert_eq!(harvested["report"]["by_language"].as_object().unwrap().len(), 6, "six languages: {harvested}");
    let documented = harvested["report"]["documented"].as_u64().unwrap();
    assert_eq!(documented, 35);
    assert!(world.manifest("syntax")["report"]["specials"].as_array().unwrap().iter().any(|token| token == "<lvl>"));
    assert_eq!(world.manifest("bundle")["report"]["segments"].as_u64().unwrap(), 2);

    // A second run does nothing, and says why.
    let said = world.road(&[]);
    assert_eq!(ran(&said), [""; 0]);
    for stage in STAGES.into_iter().chain(["publish"]) {
        assert!(said.lines().any(|line| line.starts_with(stage) && line.contains("fresh")), "{stage}: {said}");
    }

    // One key of the configuration re-runs exactly the stages downstream of it.
    world.configure("tokenize.query-tokens = 12");
    let said = world.road(&[]);
    assert_eq!(ran(&said), ["tokenize", "train", "export", "embed", "index", "evaluate"]);
    assert!(said.contains("tokenize  runs: config changed: query-tokens"), "{said}");

    // Going back finds what was recorded before.
    world.configure("");
    let said = world.road(&[]);
    assert_eq!(ran(&said), [""; 0]);
    assert!(said.contains("recorded before"), "{said}");

    // One changed source file (of the test split, so that nothing else is learnt) is one shard.
    let file = world.path("corpus/text/distance.py");
    let changed =
        fs::read_to_string(&file).unwrap().replace("counts[word] = counts.get(word, 0) + 1", "counts[word] = 1 + counts.get(word, 0)");
    fs::write(&file, changed).unwrap();
    let (plan, _) = world.run("pipeline", &["status"]);
    assert!(plan.contains("inputs changed: dir:"), "{plan}");
    let said = world.road(&[]);
    assert!(said.contains("harvest   runs: inputs changed: dir:"), "{said}");
    for kind in ["syntax", "tokens", "embeddings"] {
        let (run, reused) = counts(&world.manifest(kind));
        assert_eq!(run, 1, "{kind}");
        assert!(reused >= 4, "{kind} reused {reused}");
    }
    // In that shard, the encoder read the changed function alone.
    assert!(said.lines().any(|line| line.starts_with("embed     1 texts of ")), "{said}");
    // What is reused is what a run from nothing gives.
    let incremental = world.digests();
    fs::remove_dir_all(world.path("data")).unwrap();
    world.road(&[]);
    assert_eq!(world.digests(), incremental);
}

#[test]
fn the_same_inputs_give_the_same_bytes_with_one_and_two_threads() {
    let world = World::new();
    world.road(&["--threads", "1"]);
    let one = world.digests();
    fs::remove_dir_all(world.path("data")).unwrap();
    world.road(&["--threads", "2"]);
    for (kind, digests) in world.digests() {
        assert_eq!(digests, one[kind], "{kind}");
    }
}

#[test]
fn status_is_a_tree_over_the_three_tools_and_a_report_for_machines() {
    let world = World::new();
    let chained = |world: &World| -> (String, Value) {
        let mut rows = String::from("[]");
        for tool in ["pipeline", "trainer"] {
            let earlier = world.path("earlier.json");
            fs::write(&earlier, &rows).unwrap();
            rows = world.run(tool, &["status", "--json", "--after", earlier.to_str().unwrap()]).0;
        }
        let earlier = world.path("earlier.json");
        fs::write(&earlier, &rows).unwrap();
        let text = world.run("indexer", &["status", "--after", earlier.to_str().unwrap()]).0;
        (text, serde_json::from_slice(&fs::read(world.path("data/reports/status.json")).unwrap()).unwrap())
    };
    let (text, flat) = chained(&world);
    assert!(text.contains("harvest -> raw") && text.contains("nothing recorded yet"), "{text}");
    assert!(text.contains("harvest will run first"), "{text}");
    assert_eq!(flat["harvest_will_run"], true);
    world.road(&[]);
    let (text, flat) = chained(&world);
    assert!(STAGES.iter().all(|stage| text.contains(&format!("{stage} ->"))), "{text}");
    assert_eq!(flat["evaluate_state"], "fresh");
    assert_eq!(flat["publish_state"], "fresh");
    assert!(flat["tokenize_rows"].as_u64().unwrap() > 30);
}

/// The bytes of the stages that do no floating-point arithmetic, as they are today. (Not `raw`: what a
/// deflate library makes of equal records may differ between processors.)
#[test]
fn golden_outputs_are_unchanged() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden.json");
    let mut now = serde_json::Map::new();
    for kind in ["functions", "syntax", "vocabulary", "tokens"] {
        let manifest = world.manifest(kind);
        now.insert(kind.to_owned(), serde_json::json!({ "revision": manifest["revision"], "outputs": manifest["outputs"] }));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, serde_json::to_vec_pretty(&now).unwrap()).unwrap();
    }
    let before: serde_json::Map<String, Value> = serde_json::from_slice(&fs::read(&golden).unwrap()).unwrap();
    for (kind, now) in now {
        let same = before[&kind] == now;
        assert!(same, "{kind} has other bytes than before: raise REVISION of its stage and run with UPDATE_GOLDEN=1, or fix the code");
    }
}
