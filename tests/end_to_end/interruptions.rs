//! Runs that are interrupted: killed processes, full disks, two runs at the same time, damaged artifacts.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::workspace::{STAGES, Workspace, ran, skip, texts};

/// Starts a run and kills it after a time; was it killed before its end?
fn kill_after(workspace: &Workspace, arguments: &[&str], delay: Duration) -> bool {
    let mut child = workspace.spawn(arguments);
    thread::sleep(delay);
    // SIGKILL: the process cannot tidy up.
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

#[test]
fn a_run_that_is_killed_many_times_ends_with_the_same_bytes() {
    let workspace = Workspace::new();
    let mut killed = 0;
    for stage in ["tokenize", "export", "publish"] {
        for delay in [3, 10, 20, 40, 60, 90, 130, 180, 250] {
            killed += u32::from(kill_after(&workspace, &["run", "--until", stage], Duration::from_millis(delay)));
        }
        workspace.run_until(stage);
    }
    assert!(killed >= 9, "{killed} of 27 runs were killed before their end");
    assert_eq!(workspace.digests(), Workspace::expected_digests());
    let names = fs::read_dir(workspace.path("data/tokens")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with('.')).count(), 0);
}

/// Kills at moments that differ from one execution of the test to the next.
#[test]
fn the_corpus_stages_killed_at_random_moments_end_with_the_same_bytes() {
    let expected = Workspace::tokenized().corpus_digests();
    let workspace = Workspace::new();
    let run = ["run", "--until", "tokenize"];
    let started = Instant::now();
    workspace.run(&run);
    let duration = started.elapsed();
    let mut state = u64::from(std::process::id());
    let (mut killed, mut round) = (0, 0);
    // More rounds where the machine has become faster since the first run.
    while round < 20 || (killed < 5 && round < 100) {
        // Recorded artifacts stay: a new start now and then, so that every stage is met.
        if round % 4 == 0 {
            fs::remove_dir_all(workspace.path("data")).unwrap();
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = duration.mul_f64((state >> 33) as f64 / f64::from(u32::MAX >> 1));
        killed += u32::from(kill_after(&workspace, &run, delay));
        round += 1;
    }
    assert!(killed >= 5, "{killed} of {round} runs were killed before their end");
    workspace.run(&run);
    assert_eq!(workspace.corpus_digests(), expected);
}

/// Runs a script of the shell in a mount namespace, as root or as root of a user namespace; none where neither is allowed.
fn in_mount_namespace(workspace: &Workspace, script: &str) -> Option<std::process::Output> {
    let run =
        |flags: &str, script: &str| Command::new("unshare").args([flags, "sh", "-c", script]).current_dir(workspace.root()).output().ok();
    let can_mount = "mount -t tmpfs tmpfs data";
    let flags = ["-m", "-rm"].into_iter().find(|flags| run(flags, can_mount).is_some_and(|output| output.status.success()))?;
    run(flags, script)
}

/// The words of a command, quoted for the shell.
fn shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// The data folder is a file system of 40 KiB to 300 KiB: each size is enough for some stages only.
#[test]
fn a_full_disk_is_an_error_and_leaves_no_incomplete_artifact() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("data")).unwrap();
    let run = shell_words(&workspace.command(&["run", "--until", "tokenize"]));
    let script = format!(
        "mount -t tmpfs -o size=40k tmpfs data || exit 42\n\
         for size in 40k 80k 160k 240k 300k; do\n\
           mount -o remount,size=$size tmpfs data || exit 42\n\
           {run} 2>>data.log && {{ echo it fitted; break; }}\n\
           find data -name manifest.json | while read -r m; do test -s \"$m\" || echo \"half: $m\"; done\n\
         done\n\
         mount -o remount,size=64m tmpfs data && {run} 2>/dev/null && cp -r data data.copy || exit 43"
    );
    let Some(output) = in_mount_namespace(&workspace, &script) else {
        return skip("no file system can be mounted here");
    };
    let log = fs::read_to_string(workspace.path("data.log")).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(!texts(&output).0.contains("half: "));
    assert!(log.contains("No space left on device"), "the disk was not full: {log}");
    assert!(!log.contains("panicked") && log.contains("error: "), "{log}");
    fs::remove_dir_all(workspace.path("data")).unwrap();
    fs::rename(workspace.path("data.copy"), workspace.path("data")).unwrap();
    assert_eq!(workspace.corpus_digests(), Workspace::tokenized().corpus_digests());
    workspace.run(&["verify"]);
}

/// Two runs in one folder, and a process that collects garbage all the while.
#[test]
fn two_runs_at_the_same_time_run_each_stage_once() {
    let workspace = Workspace::new();
    let ended = AtomicBool::new(false);
    let messages = thread::scope(|scope| {
        let runs = [scope.spawn(|| workspace.run_all()), scope.spawn(|| workspace.run_all())];
        let cleaner = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if workspace.path("data").exists() {
                    workspace.run(&["gc", "--yes"]);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let messages = runs.map(|run| run.join());
        ended.store(true, Ordering::Relaxed);
        cleaner.join().unwrap();
        messages.map(|messages| messages.unwrap())
    });
    let mut stages: Vec<&str> = messages.iter().flat_map(|messages| ran(messages)).collect();
    stages.sort_unstable();
    let mut all = STAGES;
    all.sort_unstable();
    assert_eq!(stages, all);
    assert!(messages.concat().contains("waits for `codenets"), "{}", messages.concat());
    assert_eq!(workspace.digests(), Workspace::expected_digests());
    assert!(workspace.run(&["verify"]).0.contains("intact"));
}

/// Runs a command that must fail because no file may be longer than 4 KiB.
pub fn fail_with_a_full_disk(workspace: &Workspace, arguments: &[&str]) {
    let mut command = workspace.command(arguments);
    let script = format!("trap '' XFSZ; ulimit -f 8; exec {}", shell_words(&command));
    command = Command::new("sh");
    let output = command.args(["-c", &script]).current_dir(workspace.root()).output().unwrap();
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("error: ") && err.contains("File too large"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn a_full_disk_stops_a_night_and_the_published_bundle_stays() {
    let workspace = Workspace::published();
    let published = fs::read_link(workspace.path("data/serve/current")).unwrap();
    fs::remove_file(workspace.path("corpus/text/distance.py")).unwrap();
    fail_with_a_full_disk(&workspace, &["nightly"]);
    assert_eq!(fs::read_link(workspace.path("data/serve/current")).unwrap(), published);
    let (out, _) = workspace.run(&["nightly"]);
    assert!(out.starts_with("published "), "{out}");
}

#[test]
fn a_full_disk_stops_a_save_and_a_restore_until_there_is_room() {
    let workspace = Workspace::tokenized();
    let url = workspace.path("saved").display().to_string();
    let (save, restore) = (["save", "--to", &url, "--with", "all"], ["restore", "--from", &url, "--with", "all"]);
    fail_with_a_full_disk(&workspace, &save);
    assert!(!workspace.path("saved/refs/latest").exists());
    workspace.run(&save);
    let other = Workspace::empty();
    fail_with_a_full_disk(&other, &restore);
    assert!(!other.path("data/raw").exists());
    other.run(&restore);
    assert_eq!(other.manifest("tokens"), workspace.manifest("tokens"));
}

/// The size of the file shows the damage.
#[test]
fn a_truncated_artifact_is_named_by_status_and_made_again() {
    let workspace = Workspace::tokenized();
    let file = workspace.artifact("vocabulary").join("tokenizer.json");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..100]).unwrap();
    let (status, _) = workspace.run(&["status"]);
    assert!(status.contains("damaged: tokenizer.json"), "{status}");
    assert_eq!(ran(&workspace.run_until("tokenize")), ["vocab"]);
    assert!(fs::read(&file).unwrap() == bytes);
}

#[test]
fn a_manifest_that_is_no_json_is_reported_by_verify() {
    let workspace = Workspace::tokenized();
    fs::write(workspace.artifact("vocabulary").join("manifest.json"), b"{").unwrap();
    assert!(!workspace.try_run(&["verify"]).status.success());
}
