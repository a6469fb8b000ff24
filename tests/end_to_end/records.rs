//! Commands on recorded artifacts: lineage, diff, garbage collection, pins, journal, doctor.

use std::{collections::BTreeSet, fs, sync::LazyLock, thread, time::Duration};

use serde_json::Value;

use crate::workspace::{STAGES, Workspace};

#[test]
fn lineage_names_every_artifact_and_every_raw_file() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["lineage"]);
    for kind in ledger::ARTIFACT_KINDS {
        assert!(text.contains(&format!("{kind} {}", workspace.manifest(kind)["key"].as_str().unwrap())), "{kind} in {text}");
    }
    for (path, file) in workspace.manifest("raw")["outputs"].as_object().unwrap() {
        assert!(text.contains(&file["blake3"].as_str().unwrap()[..12]) && text.contains(path), "{path} in {text}");
    }
}

#[test]
fn lineage_is_drawn_as_a_page() {
    let workspace = Workspace::published();
    workspace.run(&["lineage"]);
    let page = fs::read_to_string(workspace.path("data/reports/lineage.html")).unwrap();
    assert_eq!(page.matches("<rect").count(), STAGES.len());
    let raw = workspace.manifest("raw");
    assert!(page.contains(raw["outputs"].as_object().unwrap().values().next().unwrap()["blake3"].as_str().unwrap()));
    assert!(fs::read_to_string(workspace.path("data/reports/lineage.svg")).unwrap().contains("<svg"));
}

#[test]
fn lineage_of_an_artifact_has_only_its_inputs() {
    let workspace = Workspace::published();
    let json: Value = serde_json::from_str(&workspace.run(&["lineage", "--of", "checkpoint", "--json"]).0).unwrap();
    let kinds: BTreeSet<&str> = json["artifacts"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["checkpoint", "functions", "raw", "syntax", "tokens", "vocabulary"]));
    assert!(workspace.run(&["lineage", "--of", "data/serve/current"]).0.starts_with("bundle "), "of the published bundle");
}

#[test]
fn every_kind_of_artifact_is_saved_as_a_record_with_all_of_its_files() {
    fn files<R: ledger::Recordable>(workspace: &Workspace) -> (usize, usize) {
        let artifact = ledger::Store::at(workspace.path("data"), ledger::Progress::new(true), 1).current::<R>().unwrap();
        let copy = workspace.path("records").join(R::KIND);
        ledger::save(&artifact.open().unwrap(), &copy).unwrap();
        ledger::load::<R>(&copy).unwrap();
        // With the label of the record.
        (artifact.manifest().outputs.len() + 1, ledger::files_below(&copy).unwrap().len())
    }
    let workspace = Workspace::published();
    let all = [
        files::<ledger::Raw>,
        files::<ledger::Functions>,
        files::<ledger::Syntax>,
        files::<ledger::Vocabulary>,
        files::<ledger::Tokens>,
        files::<ledger::Checkpoint>,
        files::<ledger::Encoder>,
        files::<ledger::Embeddings>,
        files::<ledger::Bundle>,
        files::<ledger::Scores>,
    ];
    assert_eq!(all.len(), ledger::ARTIFACT_KINDS.len());
    for (kind, files) in ledger::ARTIFACT_KINDS.iter().zip(all) {
        let (recorded, saved) = files(&workspace);
        assert_eq!(saved, recorded, "{kind}");
    }
}

#[test]
fn diff_names_what_differs_between_two_builds() {
    let workspace = Workspace::published();
    let before = workspace.manifest("scores")["key"].as_str().unwrap().to_owned();
    workspace.configure("index.segment-rows = 7\ntrain { epochs = 2, seed = 9 }\npublish.min-share-of-current = 0");
    workspace.run_all();
    let (text, _) = workspace.run(&["diff", &format!("scores:{}", &before[..6]), "scores"]);
    let block = |kind: &str| text.split(&format!("{kind} ")).nth(1).unwrap().split("bytes").next().unwrap().trim().to_owned();
    assert_eq!((block("tokens"), block("checkpoint"), block("bundle")), ("same".into(), "other".into(), "other".into()), "{text}");
    for part in ["config epochs", "6 -> 2", "config segment-rows", "20 -> 7", "report ", "input embeddings"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(workspace.fail(&["diff", "scores:zz", "scores"]).contains("zz"));
}

#[test]
fn diff_counts_the_functions_that_two_bundles_do_not_share() {
    let workspace = Workspace::published();
    let before = workspace.manifest("bundle")["key"].as_str().unwrap().to_owned();
    workspace.configure("harvest.min-lines = 5");
    workspace.run_until("index");
    let kinds: Value = serde_json::from_str(&workspace.run(&["diff", &format!("bundle:{before}"), "bundle", "--json"]).0).unwrap();
    let (text, _) = workspace.run(&["diff", &format!("bundle:{before}"), "bundle"]);
    let words = text.lines().next().unwrap();
    assert!(words.starts_with("+0 -") && words.contains(" functions, 0 changed"), "{words}");
    let bundle = kinds.as_array().unwrap().iter().find(|kind| kind["kind"] == "bundle").unwrap();
    let languages = bundle["functions"].as_array().unwrap();
    let count = |name: &str| languages.iter().map(|language| language[name].as_u64().unwrap()).sum::<u64>();
    assert!(count("removed") > 0 && count("added") == 0 && count("changed") == 0, "{bundle}");
    assert_eq!(count("a") - count("removed"), count("b"));
}

/// Keys of a kind that are on disk.
fn keys(workspace: &Workspace, kind: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(workspace.path("data").join(kind)).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Builds and publishes with a vocabulary of this size; the key of the vocabulary.
fn build(workspace: &Workspace, size: u32) -> String {
    workspace.configure(&format!("vocab.size = {size}\npublish {{ keep = 2, min-share-of-current = 0 }}"));
    workspace.run_all();
    workspace.manifest("vocabulary")["key"].as_str().unwrap().to_owned()
}

/// Five builds of which the second is pinned: the workspace, and the keys of the five vocabularies.
static FIVE_BUILDS: LazyLock<(Workspace, [String; 5])> = LazyLock::new(|| {
    let workspace = Workspace::shared("five-builds");
    workspace.replace_with(&Workspace::published());
    let first = keys(&workspace, "vocabulary").pop_first().unwrap();
    let second = build(&workspace, 480);
    workspace.run(&["pin", "good", "--of", "scores"]);
    let later = [460, 440, 420].map(|size| build(&workspace, size));
    let [third, fourth, fifth] = later;
    (workspace, [first, second, third, fourth, fifth])
});

fn five_builds() -> (Workspace, [String; 5]) {
    (Workspace::copy_of(&FIVE_BUILDS.0), FIVE_BUILDS.1.clone())
}

#[test]
fn gc_of_a_single_build_deletes_nothing() {
    assert!(Workspace::published().run(&["gc"]).0.contains("nothing to delete"));
}

#[test]
fn gc_lists_unreferenced_artifacts_and_keeps_published_and_pinned_ones() {
    let (workspace, [first, pinned, third, fourth, fifth]) = five_builds();
    // The last two bundles are published, and pruning left the pinned one.
    assert_eq!(fs::read_dir(workspace.path("data/serve/bundles")).unwrap().count(), 3);
    let (text, _) = workspace.run(&["gc"]);
    assert!(text.contains(&first) && text.contains(&third) && text.contains("would be deleted"), "{text}");
    assert!(![&pinned, &fourth, &fifth].iter().any(|key| text.contains(*key)), "{text}");
    assert_eq!(keys(&workspace, "vocabulary").len(), 5, "listed, not deleted");

    workspace.run(&["gc", "--yes"]);
    assert_eq!(keys(&workspace, "vocabulary"), BTreeSet::from([pinned, fourth, fifth]));
    assert!(workspace.stale().is_empty(), "{:?}", workspace.stale());
    assert!(workspace.run(&["verify"]).0.contains("intact"));
    workspace.run(&["lineage", "--of", "data/serve/current"]);
}

#[test]
fn gc_waits_for_a_running_stage() {
    let workspace = Workspace::published();
    build(&workspace, 480);
    fs::remove_dir_all(workspace.path("data/serve")).unwrap();
    let lock = fs::File::options().write(true).open(workspace.path("data/.lock")).unwrap();
    lock.lock().unwrap();
    let mut waiting = workspace.spawn(&["gc", "--yes"]);
    thread::sleep(Duration::from_millis(600));
    assert!(waiting.try_wait().unwrap().is_none());
    assert_eq!(keys(&workspace, "vocabulary").len(), 2);
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(keys(&workspace, "vocabulary").len(), 1);
}

#[test]
fn an_unpinned_build_is_garbage_once_its_bundle_is_pruned() {
    let (workspace, [_, pinned, ..]) = five_builds();
    workspace.run(&["gc", "--yes"]);
    workspace.run(&["unpin", "good"]);
    assert!(workspace.run(&["gc"]).0.contains("nothing to delete"), "the bundle is still published");
    build(&workspace, 400);
    let (text, _) = workspace.run(&["gc", "--yes", "--json"]);
    let deleted: Value = serde_json::from_str(&text).unwrap();
    assert!(deleted["removed"] == true && deleted["bytes"].as_u64().unwrap() > 0, "{deleted}");
    assert!(!keys(&workspace, "vocabulary").contains(&pinned));
}

#[test]
fn pins_are_listed_and_removed() {
    let workspace = Workspace::published();
    assert!(workspace.run(&["pin", "good"]).0.contains("scores"), "the last artifact is pinned by default");
    assert!(workspace.run(&["pin"]).0.starts_with("good scores "));
    workspace.run(&["unpin", "good"]);
    assert_eq!(workspace.run(&["pin"]).0, "");
    assert!(workspace.fail(&["unpin", "good"]).contains("good"));
}

/// The first checkpoint is known to the second training only by the digests of its files.
#[test]
fn the_checkpoint_that_a_training_started_from_is_not_garbage() {
    let workspace = Workspace::trained();
    let first = workspace.artifact("checkpoint");
    workspace.configure("train.epochs = 2");
    workspace.run(&["run", "--only", "train", "--restore", first.to_str().unwrap()]);
    assert_ne!(workspace.artifact("checkpoint"), first);
    // The encoder was exported from the first checkpoint, and would keep it.
    fs::remove_dir_all(workspace.path("data/encoder")).unwrap();
    workspace.run(&["gc", "--yes"]);
    assert!(first.join("model.safetensors").exists());
}

#[test]
fn journal_lists_every_stage_and_writes_a_report() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["journal"]);
    assert!(STAGES.iter().all(|stage| text.contains(stage)), "{text}");
    assert!(workspace.report("journal").is_object());
}

#[test]
fn doctor_checks_machine_configuration_and_data() {
    let workspace = Workspace::published();
    let (text, _) = workspace.run(&["doctor"]);
    assert!(text.contains("onnx runtime") && !text.contains("FAILED"), "{text}");
}

#[test]
fn doctor_names_what_is_wrong() {
    let workspace = Workspace::published();
    workspace.configure("vocab.sise = 3");
    let output = workspace.try_run(&["doctor"]);
    let (text, error) = crate::workspace::texts(&output);
    assert!(!output.status.success() && text.contains("FAILED  configuration") && text.contains("`size`"), "{text}{error}");
}
