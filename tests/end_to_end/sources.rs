//! Sources of code: folders, git checkouts, and the files that harvest leaves out.

use std::fs;

use serde_json::Value;

use crate::workspace::{Workspace, git, read_json, source};

/// A checkout with an ignored file, a test file and a linked file; its configuration harvests the checkout alone.
fn checkout() -> Workspace {
    let workspace = Workspace::new();
    let repo = workspace.path("corpus/dates");
    fs::write(repo.join(".gitignore"), "secret.py\n").unwrap();
    let function = |name: &str| format!("def {name}(a, b):\n    \"\"\"Adds two numbers for {name}.\"\"\"\n    return a + b\n");
    fs::write(repo.join("secret.py"), function("ignored_by_git")).unwrap();
    fs::create_dir_all(repo.join("tests")).unwrap();
    fs::write(repo.join("tests/x.py"), function("in_a_test_folder")).unwrap();
    fs::write(workspace.path("linked.py"), function("outside_of_the_checkout")).unwrap();
    std::os::unix::fs::symlink(workspace.path("linked.py"), repo.join("linked.py")).unwrap();
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "all"]);
    let settings = "path = corpus/dates, each-subfolder = false, name = \"me/dates\", licence = MIT, url-prefix = \"https://example.org/\"";
    workspace.configure(&source("dir", settings));
    workspace
}

#[test]
fn a_checkout_is_recorded_with_its_commit_and_licence() {
    let workspace = checkout();
    workspace.run_only("harvest");
    let repos: Value = read_json(&workspace.artifact("raw").join("repos.json"));
    let commit = git(&workspace.path("corpus/dates"), &["rev-parse", "HEAD"]);
    assert_eq!((&repos[0]["name"], &repos[0]["sha"], &repos[0]["licence"]), (&"me/dates".into(), &commit.into(), &"MIT".into()));
}

#[test]
fn ignored_tested_and_linked_files_are_left_out() {
    let workspace = checkout();
    workspace.run_only("harvest");
    assert_eq!(workspace.manifest("raw")["report"]["by_language"]["python"], 3, "parse_iso_date, is_leap_year, format_duration");
    workspace.run_only("ingest");
    assert_eq!(workspace.manifest("functions")["report"]["written"], 5);
}

#[test]
fn files_lists_what_is_read_and_what_is_left_out_with_the_reason() {
    let workspace = checkout();
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let (text, _) = workspace.run(&[&["files", "--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (included, excluded) = (rows(&["--included"]), rows(&["--excluded"]));
    assert!(included.iter().any(|row| row["path"] == "parse.py") && included.iter().all(|row| row["left_out"].is_null()), "{included:?}");
    let is_left_out = |path: &str| excluded.iter().any(|row| row["path"] == path && row["left_out"].is_string());
    assert!(is_left_out("tests/x.py"), "{excluded:?}");
    assert_eq!(rows(&[]).len(), included.len() + excluded.len());
}

/// The configuration of a repository may name a program.
#[test]
fn no_program_of_a_checkout_is_run() {
    let workspace = checkout();
    let (marker, hook) = (workspace.path("ran"), workspace.path("hook.sh"));
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&workspace.path("corpus/dates"), &["config", "core.fsmonitor", hook.to_str().unwrap()]);
    workspace.run_only("harvest");
    assert!(!marker.exists(), "a program of the repository ran");
}

#[test]
fn a_checkout_that_git_cannot_read_is_an_error() {
    let workspace = Workspace::new();
    fs::write(workspace.path("corpus/dates/.git"), "gitdir: /nowhere\n").unwrap();
    let error = workspace.fail_only("harvest");
    assert!(error.contains("git") && error.contains("corpus/dates"), "{error}");
}
