//! Variables of `make`: text from a user reaches the program unchanged and is never run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use crate::workspace::{ROOT, texts};

/// Stands for the binary: writes the arguments of the last call, each ended by NUL, and a line for every call.
const FAKE: &str = r#"#!/usr/bin/env bash
printf '%s\0' "$@" > arguments.bin
echo "$*" >> calls.txt
"#;

/// A folder in which make runs the fake program.
struct Make {
    folder: tempfile::TempDir,
}

impl Make {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("codenets");
        fs::write(&program, FAKE).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a target in the folder, with a program that needs no build.
    fn run(&self, target: &str, variables: &[&str]) -> Output {
        let mut command = Command::new("make");
        command.arg("--no-print-directory").arg("-f").arg(PathBuf::from(ROOT).join("Makefile")).arg(target);
        command.arg(format!("CODENETS={}", self.path("codenets").display())).args(variables);
        // Not the variables of a `make test` that runs this test.
        command.current_dir(self.folder.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.output().unwrap()
    }

    fn succeed(&self, target: &str, variables: &[&str]) {
        let output = self.run(target, variables);
        assert!(output.status.success(), "make {target} {variables:?}: {}", texts(&output).1);
    }

    fn arguments(&self) -> Vec<String> {
        let bytes = fs::read(self.path("arguments.bin")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// The query as the program receives it: the last argument.
    fn query(&self) -> String {
        self.arguments().last().unwrap().clone()
    }
}

/// Texts that make or a shell could expand or run.
const TEXTS: [&str; 12] = [
    "parse an iso date",
    "$(shell touch PWNED)",
    "$(touch PWNED)",
    "`touch PWNED`",
    "'; touch PWNED; '",
    "\"; touch PWNED; \"",
    "a 'single' and \"double\" quoted word",
    "$$HOME ${HOME} $HOME $(HOME)",
    "two\nlines",
    "a \\ backslash and a # hash",
    "50 % of * ? [a-z] ~ !",
    "-k 3 --json",
];

#[test]
fn the_demo_has_its_own_configuration_unless_the_command_line_names_one() {
    for (variables, conf) in [(&[][..], "conf/demo.conf"), (&["CONF=mine.conf"], "mine.conf")] {
        let make = Make::new();
        make.succeed("demo", variables);
        let calls = fs::read_to_string(make.path("calls.txt")).unwrap();
        assert!(calls.contains(&format!("run --conf {conf} ")) && calls.contains("\ntour "), "{calls}");
    }
}

#[test]
fn the_release_build_is_used_once_there_is_one() {
    let make = Make::new();
    let profile = || texts(&make.run("print", &["--eval=print: ; @echo $$PROFILE", "CARGO_TARGET_DIR=target"])).0;
    assert_eq!(profile().trim(), "dev");
    fs::create_dir_all(make.path("target/release")).unwrap();
    fs::write(make.path("target/release/codenets"), "").unwrap();
    assert_eq!(profile().trim(), "release");
}

#[test]
fn a_query_reaches_the_program_unchanged() {
    for text in TEXTS {
        let make = Make::new();
        make.succeed("search", &[&format!("Q={text}")]);
        assert_eq!(make.query(), text);
        assert!(!make.path("PWNED").exists(), "{text:?} was run");
    }
}

#[test]
fn a_query_in_the_environment_reaches_the_program_unchanged() {
    for text in TEXTS {
        let make = Make::new();
        let mut command = Command::new("make");
        command.arg("-f").arg(PathBuf::from(ROOT).join("Makefile")).arg("search").env("Q", text);
        command.arg(format!("CODENETS={}", make.path("codenets").display())).current_dir(make.folder.path());
        let output = command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().unwrap();
        assert!(output.status.success(), "{text:?}: {}", texts(&output).1);
        assert_eq!(make.query(), text);
        assert!(!make.path("PWNED").exists(), "{text:?} was run");
    }
}

/// Each target with its variables, and the arguments that carry them.
const TARGETS: [(&str, &[&str], &[&str]); 8] = [
    ("search", &["Q=x", "REPO="], &["--repo"]),
    ("search", &["Q=x", "GLOB="], &["--path"]),
    ("lineage", &["OF="], &["--of"]),
    ("save", &["TO="], &["--to"]),
    ("save", &["TO=x", "NAME="], &["--name"]),
    ("restore", &["FROM="], &["--from"]),
    ("restore", &["FROM=x", "WITH="], &["--with"]),
    ("events", &["TO="], &["--to"]),
];

#[test]
fn variables_reach_the_program_unchanged() {
    for (target, variables, options) in TARGETS {
        for text in TEXTS {
            let make = Make::new();
            let (last, before) = variables.split_last().unwrap();
            let last = format!("{last}{text}");
            make.succeed(target, &[before, &[last.as_str()]].concat());
            let arguments = make.arguments();
            let follows = |option: &str| arguments.windows(2).any(|pair| pair[0] == option && pair[1] == text);
            let is_joined = |option: &str| arguments.iter().any(|argument| *argument == format!("{option}={text}"));
            assert!(options.iter().all(|option| follows(option) || is_joined(option)), "{target} {last:?}: {arguments:?}");
            assert!(!make.path("PWNED").exists(), "{target} {last:?} was run");
        }
    }
}

#[test]
fn no_variable_is_expanded_by_make() {
    for name in ["LANG", "JSON", "EXPLAIN", "YES", "RESUME", "CSN_DIR", "TEACHER", "PROFILE", "CARGO_TARGET_DIR", "THREADS"] {
        let make = Make::new();
        make.run("search", &["Q=x", &format!("{name}=$(shell touch PWNED)")]);
        assert!(!make.path("PWNED").exists(), "{name} was run");
    }
}

#[test]
fn a_snapshot_is_reproduced_with_its_own_configuration_unless_another_is_named() {
    let make = Make::new();
    make.succeed("reproduce", &["FROM=url"]);
    assert!(!make.arguments().iter().any(|argument| argument == "--conf"), "{:?}", make.arguments());
    make.succeed("reproduce", &["FROM=url", "CONF=mine.conf"]);
    assert!(make.arguments().windows(2).any(|pair| pair == ["--conf", "mine.conf"]), "{:?}", make.arguments());
}

#[test]
fn names_of_pins_reach_the_program_unchanged() {
    for target in ["pin", "unpin"] {
        for text in TEXTS {
            let make = Make::new();
            make.succeed(target, &[&format!("NAME={text}")]);
            assert!(make.arguments().iter().any(|argument| argument == text), "{target} {text:?}: {:?}", make.arguments());
            assert!(!make.path("PWNED").exists(), "{target} {text:?} was run");
        }
    }
}

#[test]
fn both_artifacts_of_a_diff_reach_the_program_unchanged() {
    for text in TEXTS {
        let make = Make::new();
        make.succeed("diff", &[&format!("A={text}"), "B=scores"]);
        let arguments = make.arguments();
        assert!(arguments.iter().any(|argument| argument == text) && arguments.contains(&"scores".to_owned()), "{arguments:?}");
        assert!(!make.path("PWNED").exists(), "{text:?} was run");
    }
}

#[test]
fn options_of_every_call_are_passed_on() {
    let make = Make::new();
    make.succeed("search", &["Q=x", "CONF=my.conf", "DATA=my data", "THREADS=2", "JSON=1", "K=3", "MODE=bm25", "LANG=go", "EXPLAIN=1"]);
    let arguments = make.arguments().join(" ");
    for part in ["--data my data", "--json", "3", "bm25", "go", "--explain"] {
        assert!(arguments.contains(part), "{part}: {arguments}");
    }
}

#[test]
fn the_locale_is_not_a_language_of_a_search() {
    let make = Make::new();
    make.succeed("search", &["Q=x"]);
    assert!(!make.arguments().iter().any(|argument| argument.starts_with("--language")), "{:?}", make.arguments());
}

#[test]
fn a_target_without_its_variable_says_which() {
    for (target, variable) in [("search", "Q="), ("save", "TO="), ("restore", "FROM="), ("diff", "A="), ("retract", "IDS=")] {
        let make = Make::new();
        let output = make.run(target, &[]);
        let (out, err) = texts(&output);
        assert!(!output.status.success() && format!("{out}{err}").contains(variable), "{target}: {out}{err}");
        // `setup` may have called the program before.
        assert!(!make.path("arguments.bin").exists() || make.arguments() == ["setup"], "{target}: {:?}", make.arguments());
    }
}
