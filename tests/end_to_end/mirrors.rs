//! Mirrors of remote repositories that a night fetches.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Instant};

use serde_json::Value;

use crate::{
    nightly::{night, repositories},
    workspace::{Workspace, git, source, texts},
};

/// A workspace whose sources are mirrors of repositories, and the folder of these.
fn with_mirrors(more: &str) -> (Workspace, PathBuf) {
    let workspace = Workspace::tokenized();
    let remotes = repositories(&workspace);
    let mirrors = workspace.path("mirrors");
    let list: String =
        ["dates", "graphs", "math", "net", "store", "text"].iter().map(|name| format!("file://{}/{name}\n", remotes.display())).collect();
    fs::write(workspace.path("repositories.txt"), list).unwrap();
    let settings = format!("path = {}, each-subfolder = true, revision = HEAD", mirrors.display());
    let fetch = format!("nightly.fetch {{ folder = {}, list = repositories.txt{more} }}\n", mirrors.display());
    workspace.configure(&(source("dir", &settings) + &fetch));
    (workspace, remotes)
}

fn warnings(night: &Value) -> String {
    night["warnings"].to_string()
}

#[test]
fn a_night_makes_mirrors_and_the_next_one_fetches_what_is_new() {
    let (workspace, remotes) = with_mirrors("");
    let first = night(&workspace, &[], 0);
    assert_eq!((&first["ending"], warnings(&first)), (&"published".into(), "[]".to_owned()));
    assert_eq!(git(&workspace.path("mirrors/math.git"), &["rev-list", "--count", "HEAD"]), "1");
    // A new branch is the HEAD of the remote, and another repository cannot be reached.
    let own = remotes.join("math");
    git(&own, &["checkout", "-q", "-b", "release"]);
    fs::write(
        own.join("triple.py"),
        "def triple(number):\n    \"\"\"Multiply a number by three.\"\"\"\n    result = 3 * number\n    return result\n",
    )
    .unwrap();
    git(&own, &["add", "-A"]);
    git(&own, &["commit", "-qm", "triple"]);
    fs::rename(remotes.join("dates"), remotes.join("elsewhere")).unwrap();
    let second = night(&workspace, &[], 0);
    assert_eq!(workspace.search(&["triple"])[0]["func_name"], "triple");
    let warnings = warnings(&second);
    assert!(warnings.contains("/dates is not fetched: git ls-remote:") && warnings.contains("its functions are those of 20"), "{warnings}");
    assert_eq!(workspace.search(&["parse_iso_date"])[0]["func_name"], "parse_iso_date");
}

#[test]
fn nothing_in_the_configuration_of_a_mirror_has_an_effect() {
    let (workspace, _) = with_mirrors("");
    workspace.run(&["fetch"]);
    let (mirror, trace) = (workspace.path("mirrors/math.git"), workspace.path("trace"));
    let run = format!("touch {}", trace.display());
    let planted = format!(
        "[core]\n\tbare = true\n\tsshCommand = {run}\n\tgitProxy = {run}\n\tfsmonitor = {run}\n\thooksPath = {0}/own\n\
         [url \"ext::sh -c {1}% \"]\n\tinsteadOf = file://\n[protocol \"ext\"]\n\tallow = always\n[include]\n\tpath = {0}/more\n",
        mirror.display(),
        run.replace(' ', "% ")
    );
    fs::write(mirror.join("config"), planted).unwrap();
    for folder in ["hooks", "own"] {
        fs::create_dir_all(mirror.join(folder)).unwrap();
        for hook in ["reference-transaction", "post-update", "pre-auto-gc"] {
            let path = mirror.join(folder).join(hook);
            fs::write(&path, format!("#!/bin/sh\n{run}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let mut command = workspace.command(&["fetch", "--json"]);
    // A hook of another repository starts the night.
    let output = command
        .env("GIT_DIR", "/nowhere")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.sshCommand")
        .env("GIT_CONFIG_VALUE_0", &run);
    let (out, err) = texts(&output.output().unwrap());
    assert!(out.contains("\"fetched\":6") || out.contains("\"fetched\": 6"), "{out}{err}");
    assert!(!trace.exists());
    assert!(!fs::read_to_string(mirror.join("config")).unwrap().contains("ext"));
}

#[test]
fn only_mirrors_that_this_program_made_are_fetched() {
    let (workspace, remotes) = with_mirrors("");
    let mirrors = workspace.path("mirrors");
    fs::create_dir_all(&mirrors).unwrap();
    git(&mirrors, &["clone", "-q", "--bare", remotes.join("net").to_str().unwrap(), "net.git"]);
    fs::create_dir(mirrors.join(".unfinished-mirror-killed")).unwrap();
    let before = fs::read_to_string(mirrors.join("net.git/config")).unwrap();
    let (out, _) = workspace.run(&["fetch", "--json"]);
    assert!(out.contains("net.git is no mirror that codenets made"), "{out}");
    assert_eq!(fs::read_to_string(mirrors.join("net.git/config")).unwrap(), before);
    assert!(!mirrors.join(".unfinished-mirror-killed").exists());
    fs::write(workspace.path("repositories.txt"), format!("file://{}/dates\nfile://{0}/net math\n", remotes.display())).unwrap();
    let (out, _) = workspace.run(&["fetch", "--json"]);
    assert!(
        out.contains("math.git is the mirror of file://") && out.contains("the mirror text.git is not in repositories.txt any more"),
        "{out}"
    );
}

#[test]
fn what_a_killed_git_left_is_removed_and_a_damaged_mirror_is_not_the_repository_above_it() {
    let (workspace, _) = with_mirrors(", all-branches-and-tags = true, depth = null");
    git(workspace.root(), &["init", "-q", "-b", "own"]);
    git(workspace.root(), &["commit", "-q", "--allow-empty", "-m", "own"]);
    workspace.run(&["fetch"]);
    for lock in ["shallow.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/x.lock"] {
        fs::write(workspace.path("mirrors/math.git").join(lock), "").unwrap();
    }
    fs::remove_file(workspace.path("mirrors/text.git/HEAD")).unwrap();
    let (out, _) = workspace.run(&["fetch", "--json"]);
    assert!(out.contains("/text is not fetched") && !out.contains("/math is not fetched"), "{out}");
    assert_eq!(git(workspace.root(), &["branch", "--format=%(refname)"]), "refs/heads/own");
}

#[test]
fn the_whole_history_is_fetched_where_only_the_last_commit_was() {
    let (workspace, remotes) = with_mirrors("");
    git(&remotes.join("math"), &["commit", "-q", "--allow-empty", "-m", "second"]);
    workspace.run(&["fetch"]);
    let mirror = workspace.path("mirrors/math.git");
    let commits = || git(&mirror, &["rev-list", "--count", "HEAD"]);
    assert_eq!(commits(), "1");
    let conf = fs::read_to_string(workspace.path(crate::workspace::CONF)).unwrap();
    fs::write(workspace.path(crate::workspace::CONF), conf + "\nnightly.fetch.depth = null\n").unwrap();
    workspace.run(&["fetch"]);
    assert_eq!(commits(), "2");
}

#[test]
fn a_remote_that_does_not_answer_is_given_up() {
    let (workspace, _) = with_mirrors(", timeout = 1s");
    // A server that accepts connections and says nothing.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}/silent\n", server.local_addr().unwrap());
    fs::write(workspace.path("repositories.txt"), address).unwrap();
    let clock = Instant::now();
    let (out, _) = workspace.run(&["fetch", "--json"]);
    assert!(out.contains("git does not end within 1s: raise nightly.fetch.timeout") && clock.elapsed().as_secs() < 30, "{out}");
}

#[test]
fn a_section_that_no_source_reads_and_a_list_with_an_error_are_refused() {
    let (workspace, _) = with_mirrors("");
    fs::write(workspace.path("repositories.txt"), "https://user:secret@example.org/one\n").unwrap();
    let error = workspace.fail(&["fetch"]);
    assert!(error.contains("repositories.txt: line 1: the address contains a user or a password") && !error.contains("secret"), "{error}");
    workspace.configure("nightly.fetch { folder = elsewhere, list = repositories.txt }");
    assert!(workspace.fail(&["fetch"]).contains("no source of harvest reads it"));
    workspace.configure("");
    assert!(workspace.fail(&["fetch"]).contains("names no repositories: write nightly.fetch"));
}
