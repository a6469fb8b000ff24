//! Attacks and faults: what other people's repositories, bundles, models and configurations may try, and what a machine may do to a run.
//! Each test makes one happen. docs/security.md states what is promised.

mod bombs;
mod checkouts;
mod machine;
mod output;
mod searching;
mod serving;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::workspace::Workspace;

/// Longest time of a command on the small corpus of the tests.
const LIMIT: Duration = Duration::from_secs(60);

/// Text of a Python file with one documented function.
fn function(name: &str) -> String {
    format!("def {name}(a, b):\n    \"\"\"Adds two numbers for {name}.\"\"\"\n    return a + b\n")
}

/// Runs a command that must end in time.
fn in_time(mut command: Command) -> Output {
    let started = Instant::now();
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{command:?} did not end within {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// Runs a command that must succeed in time; its standard output and standard error.
fn succeed(workspace: &Workspace, arguments: &[&str]) -> (String, String) {
    let output = in_time(workspace.command(arguments));
    let (out, err) = crate::workspace::texts(&output);
    assert!(output.status.success() && !err.contains("panicked"), "codenets {arguments:?}: {err}");
    (out, err)
}

/// Runs a command that must fail in time with an error and without a panic; its standard error.
fn refuse(workspace: &Workspace, arguments: &[&str]) -> String {
    let output = in_time(workspace.command(arguments));
    let (_, err) = crate::workspace::texts(&output);
    assert!(!output.status.success() && err.contains("error: ") && !err.contains("panicked"), "codenets {arguments:?}: {err}");
    err
}

/// Every file below a folder whose bytes contain a text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&path, text));
        } else if entry.file_type().unwrap().is_file() && contains(&fs::read(&path).unwrap(), text) {
            found.push(path);
        }
    }
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
