//! What is printed and recorded: secrets, control characters, closed and full outputs.

use std::{fs, path::PathBuf, process::Stdio};

use super::{files_with, function, in_time, refuse, succeed};
use crate::workspace::{Workspace, source, texts};

const SECRET: &str = "hunter2";

/// Passwords and tokens in URLs of a configuration.
#[test]
fn secrets_of_urls_are_neither_printed_nor_recorded() {
    let workspace = Workspace::empty();
    let port = crate::workspace::free_port();
    let urls = format!(
        "files = [{{ name = a.jsonl, sha256 = \"{}\", mirrors = [\"http://me:{SECRET}@127.0.0.1:{port}/a?token=\"${{TOKEN}}] }}]",
        "0a".repeat(32)
    );
    workspace.configure(&source("urls", &urls));
    for arguments in [&["run", "--only", "harvest"][..], &["config"], &["config", "--json"], &["status"], &["explain"], &["plan"]] {
        let mut command = workspace.command(arguments);
        command.env("TOKEN", SECRET).env("NO_PROXY", "127.0.0.1");
        let output = in_time(command);
        let (out, err) = texts(&output);
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "{arguments:?}: {out}{err}");
        assert!(output.status.success() == (arguments[0] != "run"), "{arguments:?}: {err}");
    }
    assert_eq!(files_with(&workspace.path("data"), SECRET), Vec::<PathBuf>::new());
}

#[test]
fn a_password_in_the_prefix_of_urls_is_refused() {
    let workspace = Workspace::new();
    workspace.configure(&source("dir", &format!("path = corpus, url-prefix = \"https://me:{SECRET}@example.org/\"")));
    let error = refuse(&workspace, &["run", "--only", "harvest"]);
    assert!(error.contains("url-prefix") && !error.contains(SECRET), "{error}");
}

/// Names of files and repositories go to a terminal.
#[test]
fn control_characters_of_names_are_not_printed() {
    let workspace = Workspace::empty();
    let repo = workspace.path("corpus/\u{1b}]0;evil\u{7}");
    fs::create_dir_all(&repo).unwrap();
    fs::write(repo.join("a\u{1b}[2J.py"), function("add")).unwrap();
    fs::write(repo.join("\u{9b}31m.py"), function("subtract")).unwrap();
    for arguments in [&["files"][..], &["run", "--only", "harvest"], &["status"], &["lineage"], &["journal"]] {
        let (out, err) = succeed(&workspace, arguments);
        assert!(!format!("{out}{err}").contains(['\u{1b}', '\u{7}', '\u{9b}']), "{arguments:?}: {out:?} {err:?}");
    }
}

#[test]
fn closed_pipes_and_a_full_output_are_no_panic() {
    let workspace = Workspace::published();
    for arguments in [&["status"][..], &["search", "parse a date"], &["files"], &["--help"], &["journal"], &["config"], &["lineage"]] {
        let mut full = workspace.command(arguments);
        full.stdout(fs::File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped());
        let output = full.output().unwrap();
        let (_, err) = texts(&output);
        assert!(output.status.code() == Some(1) && !err.contains("panicked"), "{arguments:?}: {:?} {err}", output.status);
        let mut both = workspace.command(arguments);
        let full = || fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(both.stdout(full()).stderr(full()).status().unwrap().code(), Some(1), "{arguments:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut closed = workspace.command(arguments);
        let output = closed.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let (_, err) = texts(&output);
        assert!(output.status.code().is_some() && !err.contains("panicked"), "{arguments:?}: {:?} {err}", output.status);
    }
}
