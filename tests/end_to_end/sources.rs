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

#[test]
fn a_repository_inside_a_checkout_is_left_out_by_name_and_counted() {
    let workspace = checkout();
    let inner = workspace.path("corpus/dates/clone");
    fs::create_dir_all(&inner).unwrap();
    git(&inner, &["init", "-q"]);
    let messages = workspace.run_only("harvest");
    assert!(messages.contains("leaves out in corpus/dates: git repositories clone; add their folders to harvest.sources"), "{messages}");
    assert_eq!(workspace.manifest("raw")["report"]["skipped"]["git repository inside a repository"], 1);
    let (status, _) = workspace.run(&["status"]);
    assert!(status.contains("harvest left out: ") && status.contains("git repository inside a repository 1"), "{status}");
}

#[test]
fn a_linked_repository_and_loose_files_beside_repositories_are_counted() {
    let workspace = Workspace::new();
    fs::create_dir_all(workspace.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(workspace.path("elsewhere"), workspace.path("corpus/linked")).unwrap();
    fs::write(workspace.path("corpus/loose.py"), "x = 1\n").unwrap();
    let messages = workspace.run_only("harvest");
    assert!(messages.contains("leaves out in corpus: linked folders linked"), "{messages}");
    let skipped = &workspace.manifest("raw")["report"]["skipped"];
    assert_eq!((&skipped["link not followed"], &skipped["in no repository"]), (&1.into(), &1.into()), "{skipped}");
}

#[test]
fn a_commit_without_source_code_and_a_new_licence_are_recorded() {
    let workspace = checkout();
    let repo = workspace.path("corpus/dates");
    workspace.configure(&source("dir", "path = corpus/dates, each-subfolder = false"));
    workspace.run_only("harvest");
    fs::write(repo.join("MIT-LICENSE"), "The MIT License\n").unwrap();
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "licence"]);
    workspace.run_only("harvest");
    let repos: Value = read_json(&workspace.artifact("raw").join("repos.json"));
    let commit = git(&repo, &["rev-parse", "HEAD"]);
    assert_eq!((&repos[0]["sha"], &repos[0]["licence"]), (&commit.into(), &"The MIT License".into()));
}

#[test]
fn folders_of_one_name_are_refused_and_a_name_stands_before_subfolders() {
    let workspace = Workspace::new();
    let sources = |name: &str| {
        format!(
            "harvest.sources = [{{ kind = dir, path = corpus, each-subfolder = true{name} }}]\nharvest.source.dir.path = corpus/dates\nharvest.source.dir.each-subfolder = false\n"
        )
    };
    workspace.configure(&sources(""));
    let error = workspace.fail_only("harvest");
    assert!(error.contains("corpus/dates are both named dates: give their sources different values of `name`"), "{error}");
    workspace.configure(&sources(", name = group"));
    workspace.run_only("harvest");
    let names: Vec<Value> =
        read_json(&workspace.artifact("raw").join("repos.json")).as_array().unwrap().iter().map(|repo| repo["name"].clone()).collect();
    assert!(names.contains(&"dates".into()) && names.contains(&"group/dates".into()), "{names:?}");
}

#[test]
fn a_virtual_environment_is_left_out() {
    let workspace = Workspace::new();
    let environment = workspace.path("corpus/dates/my-python");
    fs::create_dir_all(environment.join("lib")).unwrap();
    fs::write(environment.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    fs::write(environment.join("lib/installed.py"), "def f(a):\n    \"\"\"Adds one to a number.\"\"\"\n    return a + 1\n").unwrap();
    let (files, _) = workspace.run(&["files", "--excluded"]);
    assert!(files.contains("my-python/lib/installed.py") && files.contains("virtual environment"), "{files}");
    workspace.run_only("harvest");
    assert_eq!(workspace.manifest("raw")["report"]["skipped"]["virtual environment"], 1);
}

#[test]
fn repositories_in_a_plain_folder_are_read_with_a_message() {
    let workspace = Workspace::new();
    git(&workspace.path("corpus/dates"), &["init", "-q"]);
    workspace.configure(&source("dir", "path = corpus, each-subfolder = false"));
    let messages = workspace.run_only("harvest");
    assert!(
        messages.contains("reads 1 git repositories in corpus as one plain folder") && messages.contains("the first is dates"),
        "{messages}"
    );
}
