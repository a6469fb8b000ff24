//! The configurations of the predecessor's experiments (conf/predecessor).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::workspace::{ROOT, Workspace, read_json, set_environment, texts};

/// Runs one configuration up to the export, with few steps, on the fixture corpus; its data folder.
fn run(workspace: &Workspace, name: &str) -> PathBuf {
    let conf = workspace.path(&format!("{name}.conf"));
    let original = Path::new(ROOT).join("conf/predecessor").join(format!("{name}.conf")).canonicalize().unwrap();
    let few = "train { epochs = 1, batch.size = 8 }\nexport { rows = 8, max-mrr-loss = 0.01 }";
    fs::write(&conf, format!("include \"{}\"\n{few}\n", original.display())).unwrap();
    let data = workspace.path(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
    command.args(["run", "--until", "export", "--conf"]).arg(&conf).arg("--data").arg(&data).env("CSN_DIR", workspace.path("csn"));
    set_environment(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", texts(&output).1);
    data
}

fn artifact(data: &Path, kind: &str) -> PathBuf {
    data.join(kind).join(fs::read_to_string(data.join(kind).join("CURRENT")).unwrap().trim())
}

fn names() -> Vec<String> {
    let files = fs::read_dir(Path::new(ROOT).join("conf/predecessor")).unwrap();
    let mut names: Vec<String> = files.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Each has its vocabulary, trains a few steps, and exports a graph that agrees with the training.
#[test]
fn the_predecessors_experiments_train() {
    let workspace = Workspace::tokenized();
    fs::rename(workspace.artifact("raw"), workspace.path("csn")).unwrap();
    ["manifest.json", "repos.json"].iter().for_each(|file| fs::remove_file(workspace.path("csn").join(file)).unwrap());
    let names = names();
    assert_eq!(names.len(), 12);
    for name in names {
        let data = run(&workspace, &name);
        let tokenizer = fs::read_to_string(artifact(&data, "vocabulary").join("tokenizer.json")).unwrap();
        assert!(tokenizer.contains("</w>"), "{name}: character-level");
        let special = if name.contains("ast") { Some("<function_definition>") } else { name.ends_with("subtokens").then_some("</id>") };
        if let Some(special) = special {
            assert!(tokenizer.contains(&format!("\"content\":\"{special}\"")), "{name}: {special}");
        }
        let manifest = |kind: &str| -> Value { read_json(&artifact(&data, kind).join("manifest.json")) };
        assert!(manifest("checkpoint")["report"]["steps"].as_u64().unwrap() >= 2, "{name}");
        assert!(manifest("encoder")["report"]["max_difference"].as_f64().unwrap() <= 1e-5, "{name}");
    }
}
