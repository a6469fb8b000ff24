//! `codenets run` starts a process for each stage: how failures and kills of either process are reported.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::workspace::{STAGES, Workspace, ran, texts};

/// Asks until the answer is there, for at most a minute.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not in a minute");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The first child of a process, by the kernel's list.
fn child_of(process: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?.split_whitespace().next()?.parse().ok()
}

fn command_line(process: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{process}/cmdline")).ok()?;
    Some(line.replace('\0', " "))
}

fn kill(process: u32) {
    let process = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// The process of a stage of a run: its id.
fn stage_process(run: u32) -> u32 {
    wait_for("the process of a stage", || {
        child_of(run).filter(|&stage| command_line(stage).is_some_and(|line| line.contains(" run --part-of-run --only ")))
    })
}

#[test]
fn a_stage_that_fails_prints_one_error() {
    let workspace = Workspace::new();
    fs::remove_dir_all(workspace.path("corpus")).unwrap();
    let error = workspace.fail(&["run"]);
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
}

#[test]
fn a_run_that_is_killed_ends_the_process_of_its_stage() {
    let workspace = Workspace::new();
    let mut run = workspace.spawn(&["run"]);
    let stage = stage_process(run.id());
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for("the end of the stage", || (!is_running(stage)).then_some(()));
}

/// A process that has ended and that nobody has waited for counts as ended.
fn is_running(process: u32) -> bool {
    let path = format!("/proc/{process}/stat");
    Path::new(&path).exists()
        && !fs::read_to_string(path).is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn a_stage_that_is_killed_fails_the_run_and_the_next_run_goes_on() {
    let workspace = Workspace::new();
    let run = workspace.command(&["run"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    kill(stage_process(run.id()));
    let output = run.wait_with_output().unwrap();
    let (_, error) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("was killed by signal 9") && error.contains("run the command again"), "{error}");
    workspace.run_all();
    assert_eq!(workspace.digests(), Workspace::expected_digests());
}

#[test]
fn options_reach_the_process_of_a_stage() {
    let workspace = Workspace::new();
    let (out, err) = workspace.run(&["run", "--until", "ingest", "--threads", "1", "--quiet"]);
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
    assert_eq!(workspace.manifest("functions")["host"]["threads"], 1);
}

#[test]
fn the_peak_memory_of_a_stage_is_the_same_alone_and_in_a_run() {
    let workspace = Workspace::published();
    let peak = || workspace.manifest("checkpoint")["host"]["peak_rss_mib"].as_u64().unwrap();
    fs::remove_dir_all(workspace.path("data")).unwrap();
    assert_eq!(ran(&workspace.run_all()), STAGES);
    let in_a_run = peak();
    fs::remove_dir_all(workspace.path("data/checkpoint")).unwrap();
    assert_eq!(ran(&workspace.run_only("train")), ["train"]);
    assert!(4 * in_a_run <= 5 * peak(), "{in_a_run} MiB in a run of all stages, {} MiB alone", peak());
}
