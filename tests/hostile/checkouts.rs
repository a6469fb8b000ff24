//! Hostile repositories.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::{files_with, function, refuse, succeed};
use crate::workspace::{Workspace, git, read_json, source};

const SECRET: &str = "https://me:hunter2@example.org";

/// A workspace whose only source is a checkout with one committed function, and the folder of the checkout.
fn checkout() -> (Workspace, PathBuf) {
    let workspace = Workspace::empty();
    let repo = workspace.path("repo");
    fs::create_dir(&repo).unwrap();
    fs::write(repo.join("add.py"), function("add")).unwrap();
    git(&repo, &["init", "-q", "-b", "main"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "all"]);
    fs::write(workspace.path("secret"), SECRET).unwrap();
    workspace.configure(&source("dir", "path = repo, each-subfolder = false"));
    (workspace, repo)
}

/// The paths that harvest reads.
fn harvested(workspace: &Workspace) -> Vec<String> {
    let (out, _) = succeed(workspace, &["files", "--included", "--json"]);
    out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().unwrap().to_owned()).collect()
}

fn pipe(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Settings that make git start a program, each of them in the configuration of the repository.
#[test]
fn a_checkout_runs_no_command_of_its_own() {
    let (workspace, repo) = checkout();
    let canary = workspace.path("canary");
    let program = format!("touch {}", canary.display());
    // Git fetches the missing `.gitignore` from the promisor remote, with the program of core.sshCommand.
    fs::write(repo.join(".gitignore"), "*.log\n").unwrap();
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "ignore"]);
    let blob = git(&repo, &["rev-parse", "HEAD:.gitignore"]);
    git(&repo, &["update-index", "--skip-worktree", ".gitignore"]);
    fs::remove_file(repo.join(".gitignore")).unwrap();
    fs::remove_file(repo.join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", "ssh://example.org/x"),
        ("remote.origin.promisor", "true"),
        ("core.sshCommand", &program),
        ("core.fsmonitor", &program),
        ("core.alternateRefsCommand", &program),
        ("filter.x.clean", &program),
        ("filter.x.process", &program),
        ("diff.external", &program),
        ("core.sparseCheckout", "true"),
        ("index.sparse", "true"),
    ] {
        git(&repo, &["config", key, value]);
    }
    fs::write(repo.join(".git/info/attributes"), "* filter=x\n").unwrap();
    fs::create_dir_all(repo.join(".git/hooks")).unwrap();
    for hook in ["post-index-change", "reference-transaction", "post-checkout"] {
        let path = repo.join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{program}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let _ = fs::remove_file(&canary);
    succeed(&workspace, &["run", "--only", "harvest"]);
    succeed(&workspace, &["status"]);
    assert_eq!(harvested(&workspace), ["add.py"]);
    assert!(!canary.exists(), "a program of the repository ran");
}

/// A folder of a clone that looks like a bare repository, with its own configuration.
#[test]
fn a_bare_repository_in_a_folder_is_not_opened() {
    let (workspace, repo) = checkout();
    let (bare, canary) = (repo.join("bare"), workspace.path("canary"));
    fs::create_dir_all(bare.join("refs")).unwrap();
    fs::create_dir_all(bare.join("objects")).unwrap();
    fs::write(bare.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(bare.join("config"), format!("[core]\n\tbare = false\n\tworktree = ..\n\tfsmonitor = touch {}\n", canary.display())).unwrap();
    fs::write(bare.join("sub.py"), function("subtract")).unwrap();
    workspace.configure(&source("dir", "path = repo/bare, each-subfolder = false"));
    succeed(&workspace, &["run", "--only", "harvest"]);
    assert_eq!(harvested(&workspace), ["sub.py"]);
    assert!(!canary.exists());
}

#[test]
fn files_outside_of_a_repository_do_not_come_in() {
    let (workspace, repo) = checkout();
    let outside = workspace.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("stolen.py"), function("stolen")).unwrap();
    fs::create_dir(repo.join("folder")).unwrap();
    fs::write(repo.join("folder/stolen.py"), function("stolen")).unwrap();
    fs::create_dir(repo.join("ab")).unwrap();
    fs::write(repo.join("ab/stolen.py"), function("stolen")).unwrap();
    git(&repo, &["add", "."]);
    // A tracked folder becomes a link; an entry of the index leads out of the repository.
    fs::remove_dir_all(repo.join("folder")).unwrap();
    fs::remove_dir_all(repo.join("ab")).unwrap();
    symlink(&outside, repo.join("folder")).unwrap();
    let index = fs::read(repo.join(".git/index")).unwrap();
    let mut changed = String::from_utf8_lossy(&index).contains("ab/stolen.py").then_some(index).unwrap();
    let at = changed.windows(12).position(|window| window == b"ab/stolen.py").unwrap();
    changed[at..at + 2].copy_from_slice(b"..");
    // An index without a checksum ends with zeros.
    let end = changed.len() - 20;
    changed[end..].fill(0);
    fs::write(repo.join(".git/index"), changed).unwrap();
    fs::write(workspace.path("stolen.py"), function("stolen")).unwrap();
    symlink(workspace.path("secret"), repo.join("LICENSE")).unwrap();
    symlink(workspace.path("stolen.py"), repo.join("link.py")).unwrap();
    succeed(&workspace, &["run", "--only", "harvest"]);
    assert_eq!(harvested(&workspace), ["add.py"]);
    assert_eq!(files_with(&workspace.path("data"), "hunter2"), Vec::<PathBuf>::new());
    let repos = read_json(&workspace.artifact("raw").join("repos.json"));
    assert_eq!(repos[0]["licence"], "unknown");
    let skipped = &workspace.manifest("raw")["report"]["skipped"];
    assert_eq!((&skipped["link not followed"], &skipped["path leads out of the source"]), (&4.into(), &1.into()), "{skipped}");
}

#[test]
fn pipes_and_devices_do_not_block_a_run() {
    let (workspace, repo) = checkout();
    fs::write(repo.join("tracked.py"), function("tracked")).unwrap();
    git(&repo, &["add", "tracked.py"]);
    fs::remove_file(repo.join("tracked.py")).unwrap();
    for name in ["pipe.py", ".gitignore", "LICENSE", "tracked.py"] {
        pipe(&repo.join(name));
    }
    symlink("/dev/zero", repo.join("zero.py")).unwrap();
    succeed(&workspace, &["run", "--only", "harvest"]);
    assert_eq!(harvested(&workspace), ["add.py"]);
    let skipped = &workspace.manifest("raw")["report"]["skipped"];
    assert_eq!((&skipped["no regular file"], &skipped["ignore file not read"]), (&4.into(), &1.into()), "{skipped}");
}

#[test]
fn pipes_and_devices_in_a_git_folder_are_named() {
    for name in ["index", "HEAD", "config", "packed-refs", "refs/heads/main", "commondir", "info/exclude"] {
        let (workspace, repo) = checkout();
        let path = repo.join(".git").join(name);
        let _ = fs::remove_file(&path);
        pipe(&path);
        let error = refuse(&workspace, &["run", "--only", "harvest"]);
        assert!(error.contains(name) && error.contains("repair it"), "{name}: {error}");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(refuse(&workspace, &["run", "--only", "harvest"]).contains(name));
    }
}

#[test]
fn a_foreign_working_tree_is_refused() {
    let (workspace, repo) = checkout();
    git(&repo, &["config", "core.worktree", workspace.root().to_str().unwrap()]);
    let error = refuse(&workspace, &["run", "--only", "harvest"]);
    assert!(error.contains("core.worktree"), "{error}");
}

/// A file system monitor of git has a socket in `.git`: a checkout may hold files that are not read.
#[test]
fn other_files_of_a_git_folder_do_not_matter() {
    let (workspace, repo) = checkout();
    let _socket = std::os::unix::net::UnixListener::bind(repo.join(".git/fsmonitor--daemon.ipc")).unwrap();
    assert_eq!(harvested(&workspace), ["add.py"]);
}

/// A linked working tree has a file `.git`.
#[test]
fn a_linked_working_tree_is_a_checkout() {
    let (workspace, repo) = checkout();
    git(&repo, &["worktree", "add", "-q", workspace.path("linked").to_str().unwrap()]);
    fs::write(workspace.path("linked/.gitignore"), "ignored.py\n").unwrap();
    fs::write(workspace.path("linked/ignored.py"), function("ignored")).unwrap();
    workspace.configure(&source("dir", "path = linked, each-subfolder = false"));
    succeed(&workspace, &["run", "--only", "harvest"]);
    assert_eq!(harvested(&workspace), ["add.py"]);
    assert_eq!(read_json(&workspace.artifact("raw").join("repos.json"))[0]["sha"], git(&repo, &["rev-parse", "HEAD"]));
}

/// What is committed is not what is read: the working tree is.
#[test]
fn uncommitted_edits_and_tracked_files_in_ignored_folders_are_read() {
    let (workspace, repo) = checkout();
    fs::create_dir_all(repo.join("out/deep")).unwrap();
    fs::write(repo.join("out/deep/tracked.py"), function("tracked")).unwrap();
    git(&repo, &["add", "."]);
    fs::write(repo.join("out/deep/untracked.py"), function("untracked")).unwrap();
    fs::write(repo.join(".gitignore"), "out/\n").unwrap();
    fs::write(repo.join("new.py"), function("new")).unwrap();
    fs::write(repo.join("add.py"), function("edited")).unwrap();
    assert_eq!(harvested(&workspace), ["add.py", "new.py", "out/deep/tracked.py"]);
    succeed(&workspace, &["run", "--only", "harvest"]);
    assert_eq!(workspace.manifest("raw")["report"]["functions"], 3);
}

/// A source file of 40 GB costs nothing: neither harvest nor the check for changes reads it.
#[test]
fn an_oversized_file_is_left_out_and_not_hashed() {
    let (workspace, repo) = checkout();
    fs::File::create(repo.join("large.py")).unwrap().set_len(40 << 30).unwrap();
    succeed(&workspace, &["run", "--only", "harvest"]);
    succeed(&workspace, &["status"]);
    assert_eq!(workspace.manifest("raw")["report"]["skipped"]["file too large"], 1);
    assert_eq!(workspace.stale().iter().filter(|row| row.starts_with("\"harvest\"")).count(), 0, "{:?}", workspace.stale());
}

/// As root every file is readable: the test then shows only that the run goes on.
#[test]
fn an_unreadable_file_does_not_stop_a_run() {
    let (workspace, repo) = checkout();
    fs::write(repo.join("locked.py"), function("locked")).unwrap();
    fs::create_dir(repo.join("closed")).unwrap();
    fs::write(repo.join("closed/x.py"), function("closed")).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for path in ["locked.py", "closed"] {
        fs::set_permissions(repo.join(path), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    }
    succeed(&workspace, &["run", "--only", "harvest"]);
    let functions = &workspace.manifest("raw")["report"]["functions"];
    fs::set_permissions(repo.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(functions, if is_root { 3 } else { 1 });
}
