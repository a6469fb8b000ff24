//! Help texts, versions, completions, the man page, and what a command without arguments prints.

use std::process::Command;

use crate::workspace::{Workspace, set_environment, texts};

/// Prints a help text 120 columns wide, whatever the terminal of the tests.
fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
    command.args(arguments).env("COLUMNS", "120").env_remove("CODENETS_CONF").env_remove("CODENETS_DATA").env_remove("OPENLINEAGE_URL");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    texts(&output).0
}

fn commands() -> Vec<String> {
    let registry = codenets::stages::registry();
    let command = codenets::cli::complete_command(&registry);
    command.get_subcommands().map(|command| command.get_name().to_owned()).filter(|name| name != "help").collect()
}

#[test]
fn the_help_lists_every_command_in_groups() {
    let text = help(&["--help"]);
    for command in commands() {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {text}");
    }
    for group in ["Build:", "Search:", "Records:", "Inspect:"] {
        assert!(text.contains(group), "{group}: {text}");
    }
}

#[test]
fn the_help_of_every_command_has_an_example() {
    for command in commands() {
        let text = help(&[&command, "--help"]);
        assert!(text.contains("Example: ") && text.contains("codenets "), "{command}: {text}");
    }
}

#[test]
fn the_help_is_short_enough_to_read() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn the_help_of_run_lists_the_stages() {
    insta::assert_snapshot!(help(&["run", "--help"]));
}

#[test]
fn the_plan_of_an_empty_data_folder_names_every_stage() {
    insta::assert_snapshot!(Workspace::new().run(&["plan"]).0);
}

#[test]
fn the_version_names_commit_onnx_runtime_and_bundle_format() {
    let text = help(&["--version"]);
    for part in [env!("CARGO_PKG_VERSION"), "commit", "ONNX Runtime", "bundle format 6"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn completions_of_every_shell_know_commands_and_stages() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = help(&["completions", shell]);
        assert!(text.contains("reproduce"), "{shell}");
    }
    assert!(help(&["completions", "bash"]).contains("tokenize"));
}

#[test]
fn the_man_page_is_roff() {
    let text = help(&["completions", "man"]);
    assert!(text.contains(".TH codenets") && text.contains("reproduce"), "{text}");
}

#[test]
fn an_unknown_command_names_the_nearest_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
    set_environment(&mut command);
    let output = command.arg("serach").output().unwrap();
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("search"), "{err}");
}

/// `codenets … | head` closes the pipe early.
#[test]
fn a_closed_pipe_is_no_error() {
    let workspace = Workspace::published();
    for arguments in [&["lineage"][..], &["journal"], &["completions", "bash"], &["completions", "man"], &["search", "a"]] {
        let mut command = workspace.command(arguments);
        let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let (_, err) = texts(&output);
        assert!(!err.contains("panicked"), "{arguments:?}: {err}");
    }
}

#[test]
fn commands_print_json_where_it_is_asked_for() {
    let workspace = Workspace::published();
    for arguments in [
        &["status"][..],
        &["plan"],
        &["explain"],
        &["journal"],
        &["tour"],
        &["lineage"],
        &["verify"],
        &["inspect"],
        &["gc"],
        &["config"],
        &["explore"],
        &["pin"],
        &["pin", "good"],
        &["unpin", "good"],
        &["prune", "--keep", "9"],
        &["search", "a date"],
    ] {
        let (text, _) = workspace.run(&[arguments, &["--json"]].concat());
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{arguments:?}: {text}");
    }
}

/// A bundle from elsewhere may hold escape sequences in its manifest.
#[test]
fn escape_sequences_do_not_reach_a_terminal() {
    let workspace = Workspace::published();
    let bundle = workspace.path("data/serve/current");
    let text = std::fs::read_to_string(bundle.join("manifest.json")).unwrap();
    let changed = text.replace("\"tool\": \"codenets", "\"tool\": \"\\u001b[31mcodenets");
    assert_ne!(text, changed);
    std::fs::create_dir_all(workspace.path("elsewhere")).unwrap();
    std::fs::write(workspace.path("elsewhere/manifest.json"), changed).unwrap();
    let (out, _) = workspace.run(&["inspect", workspace.path("elsewhere").to_str().unwrap()]);
    assert!(out.contains("[31mcodenets") && !out.contains('\u{1b}'), "{out}");
    let err = workspace.fail(&["inspect", "no\u{1b}[31msuch folder"]);
    assert!(!err.contains('\u{1b}'), "{err}");
}
