//! A reader in Python, with nothing of ours but the bundle, finds what `indexer search` finds.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::world::{World, texts};

#[test]
fn an_outside_reader_gets_the_same_top_ten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside-reader");
    let pins = fs::read_to_string(folder.join("requirements.txt")).unwrap();
    let stamp = venv.join("pins.txt");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&pins) {
        let _ = fs::remove_dir_all(&venv);
        let step = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "making the reader's environment: {}", texts(&output).1);
        };
        step(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        step(
            Command::new(venv.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "-r"])
                .arg(folder.join("requirements.txt")),
        );
        fs::write(&stamp, &pins).unwrap();
    }
    let world = World::new();
    world.road(&[]);
    compare(&world, &folder, &venv);
    world.configure("index.fusion = null\nindex.fusion { kind = rrf, k = 60 }\nindex.boosts.name = 0.12");
    world.run("indexer", &["run"]);
    assert!(world.run("indexer", &["run"]).1.lines().any(|line| line.starts_with("index ") && line.contains("fresh")), "0.12 is 0.12");
    compare(&world, &folder, &venv);
}

fn compare(world: &World, folder: &Path, venv: &Path) {
    let queries = ["parse an ISO date", "readLines of a file", "shortest distance between nodes", "HTTPHeader value", "mean of numbers"];
    for query in queries {
        for mode in ["bm25", "vector", "hybrid"] {
            let (ours, _) = world.run("indexer", &["search", query, "--mode", mode, "--json", "--limit", "10"]);
            let ours: Value = serde_json::from_str(&ours).unwrap();
            let output = Command::new(venv.join("bin/python"))
                .arg(folder.join("read_bundle.py"))
                .arg(world.path("data/serve/current"))
                .args([mode, query])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", texts(&output).1);
            let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
            let names =
                |hits: &Value| hits.as_array().unwrap().iter().map(|hit| (hit["id"].clone(), hit["func_name"].clone())).collect::<Vec<_>>();
            assert_eq!(names(&theirs), names(&ours), "{mode}: {query}");
            for (a, b) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
                let (a, b) = (a["score"].as_f64().unwrap(), b["score"].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{mode}: {query}: {a} and {b}");
            }
        }
    }
}
