//! Nights of random changes give what a build from nothing gives.

use std::{collections::BTreeMap, fs, path::Path};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::{
    nightly::{night, repositories},
    python_readers::require_equal_hits,
    workspace::{CONF, Workspace, files_below, git, read_json, source},
};

/// Adds, edits, moves, deletions, another branch, a repository that is gone and comes back.
#[test]
fn nights_of_random_changes_give_what_a_build_from_nothing_gives() {
    let workspace = Workspace::tokenized();
    let folder = repositories(&workspace);
    let settings = format!("path = {}, each-subfolder = true, revision = HEAD", folder.display());
    let gates = "nightly.grace = 0\npublish { min-share-of-current = 0, max-lost-repositories = 1, max-lost-functions = 1 }";
    workspace.configure(&(source("dir", &settings) + gates));
    let release = night(&workspace, &[], 0)["release"].as_str().unwrap().to_owned();
    let own = fs::read_to_string(workspace.path(CONF)).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for step in 0..4 {
        for number in 0..6 {
            change(&workspace, &folder, &mut random, &format!("{step}_{number}"));
        }
        night(&workspace, &[], 0);
        let fresh = Workspace::empty();
        let models = workspace.path("data/models").join(&release);
        let adopted = format!("adopt.from = {0}/encoder\nindex.reranking.learned.from = {0}/reranker.json\n", models.display());
        fs::write(fresh.path(CONF), format!("{own}\n{adopted}")).unwrap();
        fresh.run_until("publish");
        for kind in ["raw", "functions", "syntax", "embeddings"] {
            assert_eq!(workspace.manifest(kind)["outputs"], fresh.manifest(kind)["outputs"], "step {step}: {kind}");
        }
        require_equal_bundles(&workspace, &fresh);
    }
    let documents = read_json(&workspace.path("data/serve/current/manifest.json"))["lexical"]["documents"].as_u64();
    assert!(documents > workspace.manifest("bundle")["rows"]["written"].as_u64(), "{documents:?}: no document was kept without its row");
    require_equal_hits(&workspace);
}

/// The bundle of a night has documents of earlier nights: every file but those of the lexical index has the bytes of a build from nothing,
/// vector search finds the same functions with the same scores, lexical search the same functions.
fn require_equal_bundles(nights: &Workspace, fresh: &Workspace) {
    let of_documents = ["tantivy/", "document-rows", "count", "manifest.json", "CHECKSUMS", "schema.md"];
    let others = |workspace: &Workspace| -> BTreeMap<String, Value> {
        let outputs = workspace.manifest("bundle")["outputs"].as_object().unwrap().clone();
        let is_other = |path: &str| !of_documents.iter().any(|start| path.trim_start_matches("bundle/").starts_with(start));
        outputs.into_iter().filter(|(path, _)| is_other(path)).collect()
    };
    assert_eq!(others(nights), others(fresh));
    let found = |workspace: &Workspace, mode: &str, query: &str| -> BTreeMap<String, f64> {
        let hits = workspace.search(&[query, "--mode", mode, "--limit", "100"]);
        hits.iter().map(|hit| (hit["id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap())).collect()
    };
    for query in ["parse an iso date", "return the value", "shortest path between nodes", "distance of two strings"] {
        assert_eq!(found(nights, "vector", query), found(fresh, "vector", query), "{query}");
        let (ours, theirs) = (found(nights, "bm25", query), found(fresh, "bm25", query));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{query}");
    }
}

/// Makes a random change in a random repository, and commits it.
fn change(workspace: &Workspace, folder: &Path, random: &mut ChaCha8Rng, name: &str) {
    let away = workspace.path("away");
    fs::create_dir_all(&away).unwrap();
    if let Some(gone) = fs::read_dir(&away).unwrap().flatten().next() {
        fs::rename(gone.path(), folder.join(gone.file_name())).unwrap();
    }
    let repository = ["dates", "graphs", "math", "net"][random.random_range(0..4)];
    let own = folder.join(repository);
    let mut files = files_below(&own);
    files.retain(|file| !file.strip_prefix(&own).unwrap().starts_with(".git"));
    let function =
        |name: &str| format!("\ndef added_{name}(value):\n    \"\"\"Return the value and {name}.\"\"\"\n    return value, '{name}'\n");
    match (random.random_range(0..6), files.choose(random)) {
        (0, Some(file)) => fs::remove_file(file).unwrap(),
        (1, Some(file)) => {
            fs::rename(file, file.with_file_name(format!("moved{name}_{}", file.file_name().unwrap().to_string_lossy()))).unwrap()
        }
        (2, Some(file)) if file.extension().is_some_and(|end| end == "py") => {
            fs::write(file, fs::read_to_string(file).unwrap() + &function(name)).unwrap();
        }
        (3, _) => {
            let first = git(&own, &["rev-list", "--max-parents=0", "HEAD"]);
            drop(git(&own, &["checkout", "-q", "-b", &format!("branch{name}"), &first]));
        }
        (4, _) => return fs::rename(&own, away.join(repository)).unwrap(),
        _ => fs::write(own.join(format!("new{name}.py")), function(name)).unwrap(),
    }
    git(&own, &["add", "-A"]);
    git(&own, &["commit", "-q", "--allow-empty", "-m", name]);
}
