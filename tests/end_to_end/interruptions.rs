//! What must hold when things break: a killed run, a damaged artifact.

use std::{fs, os::unix::process::ExitStatusExt, process::Command, thread, time::Duration};

use crate::world::{STAGES, World, ran};

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

/// Twenty SIGKILLs at moments that differ from run to run of the test, in the stages of the corpus alone.
#[test]
fn the_corpus_stages_killed_twenty_times_end_with_the_same_bytes() {
    let world = World::new();
    let started = std::time::Instant::now();
    world.run("pipeline", &["run"]);
    let whole = started.elapsed();
    let kinds = ["raw", "functions", "syntax", "vocabulary", "tokens"];
    let digests = || kinds.map(|kind| world.manifest(kind)["outputs"].clone());
    let undisturbed = digests();
    let mut state = u64::from(std::process::id());
    let (mut killed, mut round) = (0, 0);
    // A machine that got faster since the undisturbed run is given more rounds.
    while round < 20 || (killed < 5 && round < 100) {
        // What is sealed stays, so a new start now and then lets every stage be met.
        if round % 4 == 0 {
            fs::remove_dir_all(world.path("data")).unwrap();
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = whole.mul_f64((state >> 33) as f64 / f64::from(u32::MAX >> 1));
        let mut child = world.spawn("pipeline", &["run"]);
        thread::sleep(delay);
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
        round += 1;
    }
    assert!(killed >= 5, "{killed} of {round} runs were killed before their end");
    world.run("pipeline", &["run"]);
    assert_eq!(digests(), undisturbed);
}

/// The data folder is a file system of 300 KiB: in a mount namespace of its own, so that nobody else sees it.
#[test]
fn a_full_disk_is_said_and_nothing_is_half_sealed() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let kinds = ["raw", "functions", "syntax", "vocabulary", "tokens"];
    let undisturbed = kinds.map(|kind| world.manifest(kind)["outputs"].clone());
    fs::remove_dir_all(world.path("data")).unwrap();
    fs::create_dir(world.path("data")).unwrap();
    let run = world.command("pipeline", &["run"]);
    let words: Vec<String> =
        std::iter::once(run.get_program()).chain(run.get_args()).map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let (run, data) = (words.join(" "), world.path("data").display().to_string());
    // Each size is enough for some stages, and no more.
    let script = format!(
        "mount -t tmpfs -o size=40k tmpfs '{data}' || exit 42\n\
         for size in 40k 80k 160k 240k 300k; do\n\
           mount -o remount,size=$size '{data}' || exit 42\n\
           {run} 2>>'{data}.log' && {{ echo it fitted; break; }}\n\
           find '{data}' -name manifest.json | while read -r m; do test -s \"$m\" || echo \"half: $m\"; done\n\
         done\n\
         mount -o remount,size=64m '{data}' && {run} 2>/dev/null && cp -r '{data}' '{data}.copy' || exit 43"
    );
    // Root may mount; others may in a user namespace, where the system allows it.
    let in_namespace = |flags: &str, script: &str| Command::new("unshare").args([flags, "sh", "-c", script]).output().ok();
    let can_mount = format!("mount -t tmpfs tmpfs '{data}'");
    let flags = ["-m", "-rm"].into_iter().find(|flags| in_namespace(flags, &can_mount).is_some_and(|output| output.status.success()));
    let Some(flags) = flags else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let output = in_namespace(flags, &script).unwrap();
    let log = fs::read_to_string(world.path("data.log")).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("half: "));
    assert!(log.contains("No space left on device"), "the disk was full: {log}");
    assert!(!log.contains("panicked") && log.contains("error: stage "), "{log}");
    fs::remove_dir_all(world.path("data")).unwrap();
    fs::rename(world.path("data.copy"), world.path("data")).unwrap();
    assert_eq!(kinds.map(|kind| world.manifest(kind)["outputs"].clone()), undisturbed);
    world.run("archive", &["verify"]);
}

#[test]
fn two_runs_at_once_end_well() {
    let alone = World::new();
    alone.road(&[]);
    let world = World::new();
    // Two whole roads in one folder, and one that cleans all the while.
    let ended = std::sync::atomic::AtomicBool::new(false);
    let said = thread::scope(|scope| {
        let roads = [scope.spawn(|| world.road(&[])), scope.spawn(|| world.road(&[]))];
        let cleaner = scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                if world.path("data").exists() {
                    world.run("archive", &["gc", "--yes"]);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let said = roads.map(|road| road.join());
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        cleaner.join().unwrap();
        said.map(|said| said.unwrap())
    });
    // Each stage was run once, by one of the two.
    let mut stages: Vec<&str> = said.iter().flat_map(|said| ran(said)).collect();
    stages.sort_unstable();
    let mut all = STAGES;
    all.sort_unstable();
    assert_eq!(stages, all);
    assert!(said.concat().contains("waits for `road-"), "{}", said.concat());
    assert_eq!(world.digests().keys().collect::<Vec<_>>(), alone.digests().keys().collect::<Vec<_>>());
    assert!(world.run("archive", &["verify"]).0.contains("intact"));
    world.run("indexer", &["verify"]);
}

/// No file may be longer than 4 KiB: what a full disk is to a program that writes.
#[test]
fn a_full_disk_stops_a_save_and_a_restore_which_go_on_when_there_is_room() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let to = world.path("saved").display().to_string();
    let tight = |world: &World, arguments: &[&str]| {
        let asked = world.command("archive", arguments);
        let words = std::iter::once(asked.get_program()).chain(asked.get_args()).map(|word| format!("'{}'", word.to_string_lossy()));
        let script = format!("trap '' XFSZ; ulimit -f 8; exec {}", words.collect::<Vec<_>>().join(" "));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("error: ") && said.contains("File too large") && !said.contains("panicked"),
            "{said}"
        );
    };
    tight(&world, &["save", "--to", &to, "--with", "all"]);
    assert!(!world.path("saved/refs/latest").exists());
    world.run("archive", &["save", "--to", &to, "--with", "all"]);
    let other = World::empty();
    tight(&other, &["restore", "--from", &to, "--with", "all"]);
    assert!(!other.path("data/raw").exists());
    other.run("archive", &["restore", "--from", &to, "--with", "all"]);
    assert_eq!(other.manifest("tokens"), world.manifest("tokens"));
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
    let output = world.try_run("archive", &["verify"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("tokenizer.json"));
    fs::write(&file, &bytes).unwrap();
    world.run("archive", &["verify"]);
    fs::write(world.artifact("vocabulary").join("manifest.json"), b"{").unwrap();
    assert!(!world.try_run("archive", &["verify"]).status.success());
}
