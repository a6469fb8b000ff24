//! An index of a single repository: there is no held-out split.

use std::fs;

use crate::workspace::{CONF, Workspace, source};

/// The workspace of an encoder, and one that adopts the encoder for a single repository.
fn workspaces(settings: &str) -> (Workspace, Workspace) {
    let (home, workspace) = (Workspace::published(), Workspace::new());
    let adopted = format!("adopt.from = \"{}\"\n", home.artifact("encoder").display());
    let one = source("dir", "path = corpus/dates, name = dates, each-subfolder = false");
    workspace.configure(&format!("{adopted}{one}harvest.split {{ valid = 0, test = 0 }}\n{settings}"));
    (home, workspace)
}

#[test]
fn a_single_repository_is_published_with_scores_of_an_adopted_encoder() {
    let (_home, workspace) = workspaces("");
    let messages = workspace.run_all();
    assert_eq!(messages.matches("the test split has no documented functions").count(), 1, "{messages}");
    assert!(messages.contains("the queries are of the train split"), "{messages}");
    let scores = fs::read_to_string(workspace.path("data/serve/current/scores.json")).unwrap();
    assert!(scores.contains("train_mrr@corpus_all_hybrid"), "{scores}");
    assert_eq!(workspace.search(&["parse an iso date", "--limit", "1"])[0]["func_name"], "parse_iso_date");
}

#[test]
fn a_repository_without_documentation_is_published_only_without_the_gates() {
    let (_home, workspace) = workspaces("harvest.keep-undocumented = true\nharvest.source.dir.path = bare\n");
    fs::create_dir(workspace.path("bare")).unwrap();
    fs::write(workspace.path("bare/parse.py"), "def parse_iso_date(text):\n    parts = text.split('-')\n    return parts\n").unwrap();
    let error = workspace.fail(&["run"]);
    assert!(error.contains("the evaluation had no queries") && error.contains("min-mrr = 0, min-share-of-current = 0"), "{error}");
    let conf = fs::read_to_string(workspace.path(CONF)).unwrap();
    fs::write(workspace.path(CONF), format!("{conf}\npublish {{ min-mrr = 0, min-share-of-current = 0 }}\n")).unwrap();
    workspace.run_all();
    assert_eq!(workspace.search(&["parse iso date", "--limit", "1"])[0]["func_name"], "parse_iso_date");
}
