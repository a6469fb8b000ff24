//! Sources: a git checkout with its commit, what is left out, hidden and linked files.

use std::{fs, process::Command};

use serde_json::Value;

use crate::world::World;

fn git(dir: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_checkout_is_read_with_its_commit_and_without_ignored_tested_or_linked_files() {
    let world = World::new();
    let repo = world.path("corpus/dates");
    fs::write(repo.join(".gitignore"), "secret.py\n").unwrap();
    let function = |name: &str| format!("def {name}(a, b):\n    \"\"\"Adds two numbers for {name}.\"\"\"\n    return a + b\n");
    fs::write(repo.join("secret.py"), function("ignored_by_git")).unwrap();
    fs::create_dir_all(repo.join("tests")).unwrap();
    fs::write(repo.join("tests/x.py"), function("of_a_folder_of_tests")).unwrap();
    fs::write(world.path("outside.py"), function("linked_from_outside")).unwrap();
    std::os::unix::fs::symlink(world.path("outside.py"), repo.join("linked.py")).unwrap();
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "all"]);
    let commit = git(&repo, &["rev-parse", "HEAD"]);
    // A repository's own configuration may name a program: it must not run.
    let marker = world.path("ran");
    let hook = world.path("hook.sh");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&repo, &["config", "core.fsmonitor", hook.to_str().unwrap()]);
    world.configure(&format!(
        "harvest.source = null\nharvest.source {{ kind = dir, path = \"{}\", name = \"me/dates\", licence = MIT, url-prefix = \"https://example.org/\" }}",
        repo.display()
    ));
    world.run("pipeline", &["harvest"]);
    assert!(!marker.exists(), "code of a repository ran");
    let raw = world.artifact("raw");
    let repos: Value = serde_json::from_slice(&fs::read(raw.join("repos.json")).unwrap()).unwrap();
    assert_eq!(repos[0]["name"], "me/dates");
    assert_eq!(repos[0]["sha"], commit.as_str());
    assert_eq!(repos[0]["licence"], "MIT");
    assert_eq!(world.manifest("raw")["report"]["by_language"]["python"], 3, "parse_iso_date, is_leap_year, format_duration");
    world.run("pipeline", &["ingest"]);
    let report = world.manifest("functions")["report"].clone();
    assert_eq!(report["written"], 5);
}

#[test]
fn a_checkout_that_git_refuses_is_an_error_and_no_plain_folder() {
    let world = World::new();
    fs::write(world.path("corpus/dates/.git"), "gitdir: /nowhere\n").unwrap();
    let error = world.fail("pipeline", &["harvest"]);
    assert!(error.contains("git does not read the checkout"), "{error}");
}
