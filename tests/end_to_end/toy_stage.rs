//! A stage of a foreign crate: one more line in the registry is enough for `run`, `status`, `explain`, the configuration, `save`,
//! `restore`, `gc`, `lineage` and the shell completions.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ledger::{Artifact, Content, Files, Functions, Recordable, Recorded, Registry, Report, Rows, Run, Stage, table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workspace::{Workspace, is_up_to_date, ran, read_json, texts};

/// Counts functions by repository.
struct CountRepos;

/// Section `count-repos`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Config {
    /// Repositories with fewer functions are left out.
    least_functions: u64,
}

/// `repo-counts`: `counts.json`, from repository to number of functions.
struct RepoCounts {
    file: PathBuf,
}

impl Recordable for RepoCounts {
    const KIND: &'static str = "repo-counts";

    fn open(dir: &Path) -> ledger::Result<Self> {
        let file = dir.join("counts.json");
        ledger::ensure!(file.is_file(), "{} is missing", file.display());
        Ok(Self { file })
    }

    fn files(&self) -> ledger::Result<Files> {
        Ok(Files::one("counts.json", Content::File(self.file.clone(), None)))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    rows: Rows,
}

impl Report for Counted {
    fn rows(&self) -> Rows {
        self.rows
    }
}

impl Stage for CountRepos {
    const NAME: &'static str = "count-repos";
    const ABOUT: &'static str = "Count functions by repository";
    const REVISION: u32 = 1;

    type Config = Config;
    type Inputs = Artifact<Functions>;
    type Output = RepoCounts;
    type Report = Counted;
    type Error = ledger::Error;

    fn run(config: &Config, inputs: &Artifact<Functions>, run: &Run<'_>) -> ledger::Result<Counted> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for shard in inputs.open()?.shards.iter() {
            for batch in table::read(&shard.path, &["repo"])? {
                let batch = batch?;
                let repos = table::texts(&batch, "repo")?;
                (0..batch.num_rows()).for_each(|row| *counts.entry(repos.value(row).to_owned()).or_default() += 1);
            }
        }
        let read = counts.len() as u64;
        counts.retain(|_, count| *count >= config.least_functions);
        fs::write(run.out.join("counts.json"), serde_json::to_vec(&counts)?)?;
        let written = counts.len() as u64;
        Ok(Counted { rows: Rows { read, written, rejected: read - written } })
    }
}

fn registry() -> Registry {
    codenets::stages::registry().with(Recorded::<CountRepos>::boxed())
}

/// Printed before the output of the command.
const START: &str = "=== codenets with a toy stage ===";

/// Not a test: this process becomes `codenets` with the toy stage when the variable holds arguments.
#[test]
fn program() {
    let Ok(arguments) = std::env::var("TOY_STAGE_ARGUMENTS") else { return };
    let arguments: Vec<String> = serde_json::from_str(&arguments).unwrap();
    println!("{START}");
    let code = codenets::main(&registry(), arguments);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// Runs the command with the toy stage in a workspace; what it wrote to standard output, and the messages.
fn try_run(workspace: &Workspace, arguments: &[&str]) -> (Output, String, String) {
    let plain = workspace.command(arguments);
    let words: Vec<String> =
        std::iter::once(plain.get_program()).chain(plain.get_args()).map(|word| word.to_string_lossy().into()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "toy_stage::program", "--nocapture", "--test-threads=1"]).current_dir(workspace.root());
    crate::workspace::set_environment(&mut command);
    let output = command.env("TOY_STAGE_ARGUMENTS", serde_json::to_string(&words).unwrap()).output().unwrap();
    let (out, err) = texts(&output);
    let out = out.split_once(START).unwrap_or_else(|| panic!("{out}{err}")).1.trim_start().to_owned();
    (output, out, err)
}

fn run(workspace: &Workspace, arguments: &[&str]) -> (String, String) {
    let (output, out, err) = try_run(workspace, arguments);
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

/// A workspace with the section of the toy stage, in which the stages up to `tokenize` and the toy stage have run.
fn counted() -> Workspace {
    let workspace = Workspace::tokenized();
    workspace.configure("count-repos.least-functions = 3");
    let (_, messages) = run(&workspace, &["run", "--only", "count-repos"]);
    assert_eq!(ran(&messages), ["count-repos"]);
    workspace
}

#[test]
fn a_toy_stage_runs_once_and_writes_its_artifact() {
    let workspace = counted();
    let counts: BTreeMap<String, u64> = serde_json::from_value(read_json(&workspace.artifact("repo-counts").join("counts.json"))).unwrap();
    assert!(counts.len() > 2 && counts.values().all(|&count| count >= 3), "{counts:?}");
    let (_, messages) = run(&workspace, &["run", "--only", "count-repos"]);
    assert_eq!(ran(&messages), [""; 0]);
}

#[test]
fn status_and_plan_have_a_row_of_the_toy_stage() {
    let workspace = counted();
    let rows: Vec<Value> = serde_json::from_str(&run(&workspace, &["status", "--json"]).0).unwrap();
    let row = rows.iter().find(|row| row["stage"] == "count-repos").unwrap();
    assert!(is_up_to_date(row) && row["kind"] == "repo-counts" && row["rows"].as_u64().unwrap() > 2, "{row}");
    workspace.configure("count-repos.least-functions = 4");
    assert!(run(&workspace, &["plan"]).0.contains("count-repos -> repo-counts"));
}

#[test]
fn explain_names_the_changed_key_of_the_toy_stage() {
    let workspace = counted();
    workspace.configure("count-repos.least-functions = 4");
    let (text, _) = run(&workspace, &["explain", "count-repos"]);
    assert!(text.contains("count-repos.least-functions: 3 -> 4"), "{text}");
}

#[test]
fn mistakes_in_the_section_of_the_toy_stage_are_reported() {
    let workspace = Workspace::tokenized();
    for (setting, expected) in
        [("count-repos.least-function = 4", "`least-functions`"), ("count-repo.least-functions = 4", "`count-repos`"), ("", "count-repos")]
    {
        workspace.configure(setting);
        let (output, _, err) = try_run(&workspace, &["run"]);
        assert!(!output.status.success() && err.contains(expected), "{setting}: {err}");
    }
}

#[test]
fn the_plain_program_refuses_the_section_of_the_toy_stage() {
    let workspace = Workspace::tokenized();
    workspace.configure("count-repos.least-functions = 3");
    assert!(workspace.fail(&["status"]).contains("count-repos"));
}

#[test]
fn the_artifact_of_the_toy_stage_is_saved_and_restored() {
    let workspace = counted();
    run(&workspace, &["save", "--to", "saved", "--of", "repo-counts", "--with", "repo-counts"]);
    let other = Workspace::empty();
    run(&other, &["restore", "--from", &workspace.path("saved").display().to_string()]);
    other.use_restored_configuration();
    let counts = |workspace: &Workspace| read_json(&workspace.artifact("repo-counts").join("counts.json"));
    assert_eq!(counts(&other), counts(&workspace));
    let (_, messages) = run(&other, &["run", "--only", "count-repos"]);
    assert_eq!(ran(&messages), [""; 0]);
}

#[test]
fn gc_deletes_an_old_artifact_of_the_toy_stage() {
    let workspace = counted();
    let old = workspace.artifact("repo-counts");
    workspace.configure("count-repos.least-functions = 4");
    run(&workspace, &["run", "--only", "count-repos"]);
    let (text, _) = run(&workspace, &["gc", "--yes"]);
    assert!(!old.exists() && workspace.artifact("repo-counts").is_dir(), "{text}");
}

#[test]
fn lineage_traces_the_artifact_of_the_toy_stage() {
    let workspace = counted();
    let (text, _) = run(&workspace, &["lineage", "--of", "repo-counts"]);
    assert!(text.starts_with("repo-counts ") && text.contains("functions ") && text.contains("raw "), "{text}");
}

#[test]
fn help_completions_and_schema_know_the_toy_stage() {
    let workspace = Workspace::empty();
    let (help, _) = run(&workspace, &["run", "--help"]);
    assert!(help.contains("Count functions by repository"), "{help}");
    assert!(run(&workspace, &["completions", "bash"]).0.contains("count-repos"));
    let schema: Value = serde_json::from_str(&run(&workspace, &["config", "--schema"]).0).unwrap();
    assert!(schema.to_string().contains("Repositories with fewer functions are left out."));
}

#[test]
fn reproduce_runs_the_toy_stage_again() {
    let workspace = counted();
    let (text, _) = run(&workspace, &["reproduce", "--stage", "count-repos"]);
    assert!(text.contains("same bytes"), "{text}");
}
