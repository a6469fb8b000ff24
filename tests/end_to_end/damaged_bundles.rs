//! Published bundles that are damaged or have another format.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::workspace::{Workspace, copy_tree, read_json, texts};

/// Publishes a changed copy of the published bundle, and searches it.
fn search_changed(workspace: &Workspace, original: &Path, change: &dyn Fn(&Path)) -> Output {
    let copy = workspace.path("data/serve/bundles/changed");
    let _ = fs::remove_dir_all(&copy);
    copy_tree(original, &copy);
    change(&copy);
    fs::remove_file(workspace.path("data/serve/current")).unwrap();
    symlink("bundles/changed", workspace.path("data/serve/current")).unwrap();
    workspace.try_run(&["search", "parse a date"])
}

fn published() -> (Workspace, PathBuf) {
    let workspace = Workspace::published();
    let original = fs::canonicalize(workspace.path("data/serve/current")).unwrap();
    (workspace, original)
}

#[test]
fn a_bundle_of_an_unknown_format_is_refused() {
    let (workspace, original) = published();
    for (format, is_read) in [(2, false), (3, true), (4, true), (5, true), (6, true), (7, false)] {
        let output = search_changed(&workspace, &original, &|copy| {
            let path = copy.join("manifest.json");
            let mut manifest: Value = read_json(&path);
            manifest["bundle_format"] = format.into();
            fs::write(path, manifest.to_string()).unwrap();
        });
        let (_, err) = texts(&output);
        assert_eq!(output.status.success(), is_read, "format {format}: {err}");
        assert!(is_read || (err.contains(&format!("bundle format {format}")) && err.contains("3 to 6")), "{err}");
    }
}

#[test]
fn an_encoder_of_another_dimension_than_the_vectors_is_refused() {
    let (workspace, original) = published();
    let output = search_changed(&workspace, &original, &|copy| {
        let path = copy.join("encoder/encoder.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"dimension\": 32", "\"dimension\": 64");
        fs::write(path, text).unwrap();
    });
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("64") && err.contains("32"), "{err}");
}

/// A search answers or reports an error. What a search does not read, `verify` reports.
#[test]
fn a_bundle_with_a_truncated_file_never_panics() {
    let (workspace, original) = published();
    for file in ledger::files_below(&original).unwrap() {
        if fs::metadata(original.join(&file)).unwrap().len() <= 1 {
            continue;
        }
        let output = search_changed(&workspace, &original, &|copy| {
            let bytes = fs::read(copy.join(&file)).unwrap();
            fs::write(copy.join(&file), &bytes[..bytes.len() / 2]).unwrap();
        });
        let (_, err) = texts(&output);
        assert!(!err.contains("panicked") && output.status.code().is_some_and(|code| code < 2), "{}: {err}", file.display());
        assert!(output.status.success() || err.contains("error: "), "{}: {err}", file.display());
        if output.status.success() {
            let error = workspace.fail(&["verify"]);
            assert!(error.contains("damaged") || error.contains("CHECKSUMS"), "{}: {error}", file.display());
        }
    }
}

#[test]
fn a_truncated_vector_index_is_refused_before_it_is_mapped() {
    let workspace = Workspace::published();
    workspace.configure("index.hnsw { from-rows = 1, graph-rows = 25 }");
    workspace.run_all();
    let graph = workspace.path("data/serve/current/vectors/hnsw-1.usearch");
    let bytes = fs::read(&graph).unwrap();
    fs::remove_file(&graph).unwrap();
    fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    let error = workspace.fail(&["search", "date"]);
    assert!(error.contains("hnsw-1.usearch") && error.contains("damaged"), "{error}");
}
