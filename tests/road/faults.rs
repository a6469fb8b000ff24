//! What must hold when things break: a killed run, a damaged artifact.

use std::{fs, os::unix::process::ExitStatusExt, thread, time::Duration};

use crate::world::{World, ran};

#[test]
fn a_road_killed_anywhere_is_taken_up_again_with_the_same_bytes() {
    let world = World::new();
    world.road(&[]);
    let whole = world.digests();
    fs::remove_dir_all(world.path("data")).unwrap();
    let mut killed = 0;
    for tool in ["pipeline", "trainer", "indexer"] {
        for delay in [3, 10, 20, 40, 60, 90, 130, 180, 250] {
            let mut child = world.spawn(tool, &["run"]);
            thread::sleep(Duration::from_millis(delay));
            // SIGKILL: nothing is tidied up.
            child.kill().unwrap();
            killed += u32::from(child.wait().unwrap().signal() == Some(9));
        }
        world.run(tool, &["run"]);
    }
    assert!(killed >= 9, "{killed} of 27 runs were killed before their end");
    assert_eq!(world.digests(), whole);
    let debris = fs::read_dir(world.path("data/tokens"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(debris.count(), 0);
}

#[test]
fn two_runs_at_once_end_well() {
    let world = World::new();
    let other = world.spawn("pipeline", &["run"]);
    world.run("pipeline", &["run"]);
    assert!(other.wait_with_output().unwrap().status.success());
    assert!(world.run("pipeline", &["verify"]).0.contains("intact"));
}

#[test]
fn a_damaged_artifact_is_named_and_made_again() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let file = world.artifact("vocabulary").join("tokenizer.json");
    let bytes = fs::read(&file).unwrap();

    // Cut short: seen at once, made again.
    fs::write(&file, &bytes[..100]).unwrap();
    let (status, _) = world.run("pipeline", &["status"]);
    assert!(status.contains("damaged: tokenizer.json"), "{status}");
    let (_, said) = world.run("pipeline", &["run"]);
    assert_eq!(ran(&said), ["vocab"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);

    // A flipped bit of the same size: `verify` hashes.
    let mut flipped = bytes.clone();
    flipped[50] ^= 1;
    fs::write(&file, &flipped).unwrap();
    let output = world.try_run("pipeline", &["verify"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("tokenizer.json"));
    fs::write(&file, &bytes).unwrap();
    world.run("pipeline", &["verify"]);
    fs::write(world.artifact("vocabulary").join("manifest.json"), b"{").unwrap();
    assert!(!world.try_run("pipeline", &["verify"]).status.success());
}
