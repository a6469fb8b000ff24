//! What must hold when things break: a killed run, a damaged artifact.

use std::{fs, thread, time::Duration};

use crate::world::{World, ran};

#[test]
fn a_run_killed_anywhere_is_taken_up_again_with_the_same_bytes() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let whole: Vec<_> = ["raw", "functions", "syntax", "vocabulary", "tokens"].map(|kind| world.manifest(kind)["outputs"].clone()).into();
    fs::remove_dir_all(world.path("data")).unwrap();
    for delay in [5, 20, 40, 60, 80, 120, 200, 300] {
        let mut child = world.spawn("pipeline", &["run"]);
        thread::sleep(Duration::from_millis(delay));
        // SIGKILL: nothing is tidied up.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    world.run("pipeline", &["run"]);
    let after: Vec<_> = ["raw", "functions", "syntax", "vocabulary", "tokens"].map(|kind| world.manifest(kind)["outputs"].clone()).into();
    assert_eq!(after, whole);
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
}
