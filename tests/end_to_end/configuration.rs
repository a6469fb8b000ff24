//! `config`: the resolved configuration with the origin of each value, and its JSON Schema.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    python_readers::script,
    workspace::{CONF, ROOT, Workspace, source, texts},
};

/// The line of `config` about a key.
fn line_of(text: &str, key: &str) -> String {
    text.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key} in {text}")).to_owned()
}

#[test]
fn config_shows_the_file_and_line_of_each_value() {
    let workspace = Workspace::empty();
    workspace.configure("tokenize.query-tokens = 12");
    let (text, _) = workspace.run(&["config"]);
    let lines = fs::read_to_string(workspace.path(CONF)).unwrap();
    let number = lines.lines().position(|line| line.starts_with("tokenize.query-tokens")).unwrap() + 1;
    let own = line_of(&text, "query-tokens");
    assert!(own.contains("12") && own.contains(&format!("{CONF}:{number}")), "{own}");
    let inherited = line_of(&text, "code-tokens");
    assert!(inherited.contains("base.conf:"), "{inherited}");
}

#[test]
fn config_as_json_is_a_configuration() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["config", "--json"]);
    let resolved: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(resolved["index"]["segment-rows"], 20);
    fs::write(workspace.path(CONF), resolved.to_string()).unwrap();
    assert!(workspace.stale().is_empty(), "{:?}", workspace.stale());
}

#[test]
fn config_reports_an_unknown_key() {
    let workspace = Workspace::empty();
    workspace.configure("vocab.sise = 3");
    assert!(workspace.fail(&["config"]).contains("`size`"));
}

fn schema(workspace: &Workspace) -> Value {
    serde_json::from_str(&workspace.run(&["config", "--schema"]).0).unwrap()
}

/// Errors that the Python package `jsonschema` finds.
fn violations(workspace: &Workspace, configuration: &Value) -> Vec<Value> {
    let path = workspace.path("schema.json");
    fs::write(&path, schema(workspace).to_string()).unwrap();
    let found = script("check_schema.py", &path, &configuration.to_string());
    found.as_array().unwrap().clone()
}

/// A configuration of the repository, resolved.
fn resolved(conf: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
    let output = command.args(["config", "--json", "--conf"]).arg(conf).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_schema_is_valid_and_accepts_the_demo() {
    let workspace = Workspace::empty();
    let demo = resolved(&Path::new(ROOT).join("conf/demo.conf"));
    assert_eq!(violations(&workspace, &demo), Vec::<Value>::new());
}

#[test]
fn the_schema_refuses_unknown_keys_and_wrong_types() {
    let workspace = Workspace::empty();
    let mut wrong = resolved(&Path::new(ROOT).join("conf/demo.conf"));
    wrong["vocab"]["sise"] = json!(3);
    wrong["index"]["segment-rows"] = json!("many");
    let found = violations(&workspace, &wrong);
    let text = Value::from(found).to_string();
    assert!(text.contains("sise") && text.contains("many"), "{text}");
}

#[test]
fn the_schema_describes_its_keys() {
    let text = schema(&Workspace::empty()).to_string();
    assert!(text.matches("\"description\"").count() > 50, "{}", text.matches("\"description\"").count());
}

/// Changing the kind needs no other line, and keeps the defaults of the kind.
#[test]
fn another_kind_is_selected_by_one_line() {
    let workspace = Workspace::empty();
    for (setting, section, key, kind) in [
        ("train.encoder.kind = bert", "train", "encoder", "bert"),
        ("train.loss.kind = triplet", "train", "loss", "triplet"),
        ("index.fusion.kind = rrf", "index", "fusion", "rrf"),
    ] {
        workspace.configure(setting);
        let (text, _) = workspace.run(&["config", "--json"]);
        let resolved: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(resolved[section][key]["kind"], kind, "{setting}: {resolved}");
    }
    workspace.configure(&source("csn", "path = csn"));
    let (text, _) = workspace.run(&["config", "--json"]);
    assert!(text.contains("\"csn\""), "{text}");
}

/// Sources are kinds too: the files of this project can be included and read another source.
#[test]
fn another_source_is_selected_by_one_line() {
    let workspace = Workspace::empty();
    for (file, line) in [
        ("codesearchnet.conf", "harvest.source { kind = dir, dir.path = code }"),
        ("codesearchnet.conf", "harvest.source { kind = dir, path = code }"),
        ("scale.conf", "harvest.source { kind = dir, dir.path = code }"),
    ] {
        fs::write(workspace.path(CONF), format!("include \"{ROOT}/conf/{file}\"\n{line}\n")).unwrap();
        let resolved: Value = serde_json::from_str(&workspace.run(&["config", "--json"]).0).unwrap();
        assert_eq!(
            resolved["harvest"]["source"],
            json!({ "kind": "dir", "path": "code", "name": null, "licence": null, "url-prefix": "", "each-subfolder": false })
        );
    }
}

/// Files from before this form set the old value to null, and write every setting of the new kind.
#[test]
fn a_configuration_of_the_old_form_is_read_or_refused_with_the_new_lines() {
    let workspace = Workspace::empty();
    workspace.configure("train.encoder = null\ntrain.encoder { kind = nbow, dimension = 16 }");
    let output = workspace.try_run(&["config", "--json"]);
    let (out, err) = texts(&output);
    if output.status.success() {
        let resolved: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(resolved["train"]["encoder"], json!({ "kind": "nbow", "dimension": 16 }));
    } else {
        assert!(err.contains("encoder.kind") || err.contains("nbow {"), "{err}");
    }
}
