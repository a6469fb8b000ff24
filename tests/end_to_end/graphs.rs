//! Vector search of a bundle that is large enough for its graphs: smaller bundles are searched exactly, whatever is configured.

use std::{fmt::Write, fs, path::Path, sync::LazyLock};

use bundle::Bundle;
use serde_json::Value;

use crate::workspace::Workspace;

/// Functions of the large repository in the training split, and of each small one in the other splits.
const LARGE: usize = 1440;
const SMALL: usize = 30;

fn write_functions(folder: &Path, range: std::ops::Range<usize>) {
    fs::create_dir_all(folder).unwrap();
    let verbs = ["read", "write", "sort", "merge", "count", "parse", "close"];
    let nouns = ["file", "list", "tree", "graph", "table", "stream", "cache", "queue", "token", "index", "page"];
    for first in range.clone().step_by(90) {
        let mut text = String::new();
        for number in first..range.end.min(first + 90) {
            let (verb, noun) = (verbs[number % verbs.len()], nouns[number % nouns.len()]);
            let name = format!("{verb}_{noun}_{number}");
            writeln!(text, "def {name}({noun}):\n    \"\"\"Please {verb} the {noun} {number}.\"\"\"").unwrap();
            writeln!(text, "    {verb}er = {noun}.{verb}_{number}()\n    return {verb}er[{number}:{noun}.size_{number}]\n\n").unwrap();
        }
        fs::write(folder.join(format!("part_{first}.py")), text).unwrap();
    }
}

static LARGE_BUNDLE: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("large-bundle");
    workspace.replace_with(&Workspace::empty());
    write_functions(&workspace.path("corpus/math"), 0..LARGE);
    write_functions(&workspace.path("corpus/store"), LARGE..LARGE + SMALL);
    write_functions(&workspace.path("corpus/text"), LARGE + SMALL..LARGE + 2 * SMALL);
    workspace.configure(
        "ingest.duplicates = null\ntrain { epochs = 1, batch.size = 64 }\npublish.min-mrr = 0\n\
         index { candidates = 1, hnsw { from-rows = 1, graph-rows = 100000, expansion-search = 4 } }",
    );
    workspace.run_all();
    workspace
});

/// Requires that a search for one of so many rows uses the graphs: an exact search would show nothing about them.
fn require_graphs(workspace: &Workspace, allowed: usize) {
    let bundle = Bundle::options().open(workspace.path("data/serve/current")).unwrap();
    let rows: Vec<bool> = (0..LARGE + 2 * SMALL).map(|row| row < allowed).collect();
    assert_eq!(bundle.vectors().rows(), rows.len());
    assert!(bundle.vectors().graphs_for(1, Some(&rows)).is_some());
}

fn best(workspace: &Workspace, arguments: &[&str]) -> Value {
    let hits = workspace.search(&[&["please parse the stream 1480", "--mode", "vector", "--limit", "1"], arguments].concat());
    assert_eq!(hits.len(), 1, "{hits:?}");
    hits[0].clone()
}

#[test]
fn a_filter_applies_to_a_search_with_graphs() {
    let workspace = &*LARGE_BUNDLE;
    require_graphs(workspace, LARGE);
    assert_eq!(best(workspace, &["--repo", "math"])["repo"], "math");
    assert_eq!(best(workspace, &["--path", "part_*.py"])["language"], "python");
}

#[test]
fn a_deleted_function_is_not_found_by_a_search_with_graphs() {
    let workspace = Workspace::copy_of(&LARGE_BUNDLE);
    let mut deleted = Vec::new();
    for round in 0..5 {
        require_graphs(&workspace, LARGE + 2 * SMALL - round);
        let id = best(&workspace, &[])["id"].as_str().unwrap().to_owned();
        assert!(!deleted.contains(&id), "{id} was deleted");
        fs::write(workspace.path("ids.txt"), &id).unwrap();
        workspace.run(&["retract", "ids.txt", "--by", "id"]);
        deleted.push(id);
        // The filter and the deletions together.
        require_graphs(&workspace, LARGE - deleted.len());
        let in_math = best(&workspace, &["--repo", "math"]);
        assert!(in_math["repo"] == "math" && !deleted.contains(&in_math["id"].as_str().unwrap().to_owned()), "{in_math}");
    }
}

/// A filter that leaves out only the file of the function that is found without it.
#[test]
fn a_search_with_graphs_leaves_out_the_nearest_row_that_the_filter_does() {
    let workspace = &*LARGE_BUNDLE;
    let nearest = best(workspace, &[])["path"].as_str().unwrap().to_owned();
    let files = (0..LARGE).step_by(90).chain([LARGE, LARGE + SMALL]).map(|first| format!("part_{first}.py"));
    let others: Vec<String> = files.filter(|file| *file != nearest).collect();
    assert_eq!(others.len(), LARGE / 90 + 1, "{nearest}");
    require_graphs(workspace, LARGE + 2 * SMALL - 90);
    assert_ne!(best(workspace, &["--path", &format!("{{{}}}", others.join(","))])["path"], nearest.as_str());
}
