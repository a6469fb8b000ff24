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
    let command = codenets::cli::command(&registry);
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
    for part in [env!("CARGO_PKG_VERSION"), "commit", "ONNX Runtime", "bundle format 4"] {
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
    let mut command = workspace.command(&["lineage"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let (_, err) = texts(&output);
    assert!(!err.contains("panicked"), "{err}");
}
