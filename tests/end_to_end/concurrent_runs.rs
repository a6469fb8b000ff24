//! Runs on one data folder at the same time.

use std::{fs, process::Child, thread, time::Duration};

use crate::workspace::{CONF, Workspace};

/// Starts a run with another size of the vocabulary.
fn start(workspace: &Workspace, size: u32) -> Child {
    let conf = workspace.path(&format!("{size}.conf"));
    fs::write(&conf, format!("include \"{CONF}\"\nvocab.size = {size}\npublish.min-share-of-current = 0\n")).unwrap();
    workspace.command_with(&conf, &["run", "--quiet"]).spawn().unwrap()
}

/// Each stage has the lock of the data folder for its own time only: without a lock of the run, a stage of one run would read what a stage
/// of the other run has made.
#[test]
fn two_runs_make_one_build_each() {
    let workspace = Workspace::tokenized();
    let runs = [start(&workspace, 480), start(&workspace, 400)];
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    let mut sizes = Vec::new();
    for entry in fs::read_dir(workspace.path("data/serve/bundles")).unwrap() {
        let bundle = entry.unwrap().file_name().into_string().unwrap();
        let (lineage, _) = workspace.run(&["lineage", "--json", "--of", &format!("data/serve/bundles/{bundle}")]);
        let lineage: serde_json::Value = serde_json::from_str(&lineage).unwrap();
        let artifacts = lineage["artifacts"].as_array().unwrap();
        let of = |kind: &str| artifacts.iter().filter(|one| one["kind"] == kind).collect::<Vec<_>>();
        assert_eq!(of("vocabulary").len(), 1, "{lineage}");
        sizes.push(of("vocabulary")[0]["config"]["size"].as_u64().unwrap());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [400, 480]);
}

#[test]
fn runs_restores_and_adoptions_wait_for_a_run() {
    let workspace = Workspace::published();
    let lock = fs::File::create(workspace.path("data/.run.lock")).unwrap();
    lock.lock().unwrap();
    let encoder = workspace.artifact("encoder");
    let arguments: [&[&str]; 3] = [&["run"], &["adopt", encoder.to_str().unwrap()], &["restore", "--from", "nowhere"]];
    let mut waiting = arguments.map(|arguments| workspace.spawn(arguments));
    thread::sleep(Duration::from_millis(1500));
    for (run, arguments) in waiting.iter_mut().zip(arguments) {
        assert!(run.try_wait().unwrap().is_none(), "{arguments:?}");
    }
    drop(lock);
    assert!(waiting.each_mut().map(|run| run.wait().unwrap().success())[..2].iter().all(|is_success| *is_success));
}
