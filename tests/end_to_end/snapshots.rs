//! Saving, restoring and reproducing snapshots in a folder.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::LazyLock,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::workspace::{CONF, Workspace, files_below, ran, read_json, texts};

/// The snapshots `latest` (model, scores, dataset and index) and `all` of [`Workspace::published`], and what `save` printed.
static SAVED: LazyLock<(Workspace, String)> = LazyLock::new(|| {
    let workspace = Workspace::shared("saved");
    workspace.replace_with(&Workspace::published());
    let (text, _) = workspace.run(&["save", "--to", "saved", "--with", "dataset,index"]);
    workspace.run(&["save", "--to", "saved", "--with", "all", "--name", "all"]);
    (workspace, text)
});

fn url() -> String {
    SAVED.0.path("saved").display().to_string()
}

/// A second machine: a snapshot is restored, and its configuration is used. The sources are not here.
fn restored(arguments: &[&str]) -> Workspace {
    let workspace = Workspace::empty();
    workspace.run(&[&["restore", "--from", &url()], arguments].concat());
    workspace.use_restored_configuration();
    workspace
}

fn url_in(workspace: &Workspace, name: &str) -> String {
    workspace.path(name).display().to_string()
}

/// Changes one setting of the restored configuration, which is JSON.
fn set(workspace: &Workspace, section: &str, key: &str, value: Value) {
    let mut settings = read_json(&workspace.path(CONF));
    settings[section][key] = value;
    fs::write(workspace.path(CONF), settings.to_string()).unwrap();
}

#[test]
fn save_prints_the_artifact_the_url_and_the_name() {
    let text = &SAVED.1;
    assert!(text.starts_with("scores ") && text.contains("is saved at") && text.contains("as latest"), "{text}");
}

#[test]
fn a_restored_snapshot_is_up_to_date_but_for_the_bundle_that_was_not_saved() {
    let workspace = restored(&[]);
    let stale = workspace.stale();
    assert!(stale.len() == 1 && stale[0].contains("publish") && stale[0].contains("bundle"), "{stale:?}");
    assert_eq!(workspace.digests(), Workspace::expected_digests());
    assert!(workspace.run(&["verify"]).0.contains("intact"));
    assert_eq!(ran(&workspace.run_until("evaluate")), [""; 0]);
}

#[test]
fn a_stage_that_needs_missing_files_names_the_snapshot() {
    let error = restored(&[]).fail_only("publish");
    assert!(error.contains("codenets restore") && error.contains(&url()) && error.contains("bundle"), "{error}");
}

#[test]
fn a_restored_snapshot_is_built_on() {
    let workspace = restored(&[]);
    set(&workspace, "index", "segment-rows", json!(10));
    assert_eq!(ran(&workspace.run_only("index")), ["index"]);
}

#[test]
fn a_restore_of_the_model_alone_is_up_to_date_and_saves_no_dataset() {
    let workspace = restored(&["--with", "model"]);
    assert_eq!(workspace.stale().len(), 1, "{:?}", workspace.stale());
    let error = workspace.fail(&["save", "--to", "again", "--with", "dataset"]);
    assert!(error.contains("codenets restore"), "{error}");
}

#[test]
fn a_second_restore_fetches_only_what_is_missing() {
    let workspace = restored(&["--with", "model"]);
    let (text, _) = workspace.run(&["restore", "--from", &url(), "--with", "model", "--json"]);
    let second: Value = serde_json::from_str(&text).unwrap();
    // The changes of a checkout that is not committed are always fetched.
    let diffs: u64 =
        fs::read_dir(workspace.path("data/diffs")).into_iter().flatten().map(|diff| diff.unwrap().metadata().unwrap().len()).sum();
    assert_eq!((&second["artifacts"], second["fetched_bytes"].as_u64().unwrap() < 100_000 + diffs), (&json!(0), true), "{second}");
    workspace.run(&["restore", "--from", &url(), "--with", "dataset"]);
    workspace.run(&["save", "--to", "again", "--with", "dataset"]);
}

#[test]
fn a_name_that_no_snapshot_has_is_refused() {
    let error = Workspace::empty().fail(&["restore", "--from", &url(), "--name", "nothing"]);
    assert!(error.contains("`nothing`") && error.contains(&url()), "{error}");
}

#[test]
fn a_second_save_sends_nothing() {
    let workspace = Workspace::tokenized();
    workspace.run(&["save", "--to", "saved", "--with", "all"]);
    let (text, _) = workspace.run(&["save", "--to", "saved", "--with", "all", "--json"]);
    let second: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&second["sent_objects"], &second["sent_bytes"]), (&json!(0), &json!(0)));
}

#[test]
fn snapshots_lists_names_and_what_was_saved() {
    let (text, _) = Workspace::empty().run(&["snapshots", "--from", &url()]);
    assert!(text.contains("latest") && text.contains("all") && text.contains("artifact scores"), "{text}");
    let error = Workspace::empty().fail(&["snapshots", "--from", "nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn verify_checks_every_snapshot_at_a_url() {
    assert!(Workspace::empty().run(&["verify", "--from", &url()]).0.contains("2 snapshots"));
}

#[test]
fn a_complete_snapshot_is_published_and_searched_as_before() {
    let workspace = restored(&["--name", "all"]);
    workspace.run_only("publish");
    let query = ["shortest path in a graph"];
    assert_eq!(workspace.search(&query), SAVED.0.search(&query));
    assert_eq!(workspace.stale(), Vec::<String>::new());
}

#[test]
fn reproduce_restores_a_snapshot_and_gives_every_stage_the_same_bytes() {
    let workspace = Workspace::new();
    let (text, _) = workspace.run(&["reproduce", "--from", &url(), "--name", "all"]);
    let same = text.lines().filter(|line| line.contains("same bytes")).count();
    assert_eq!(same, ledger::ARTIFACT_KINDS.len(), "{text}");
    assert!(!text.contains("OTHER"), "{text}");
}

#[test]
fn reproduce_names_the_stages_that_it_cannot_run_again() {
    let workspace = restored(&["--name", "all"]);
    set(&workspace, "parse", "max-ast-tokens", json!(77));
    let (text, _) = workspace.run(&["reproduce", "--stage", "harvest,ingest,parse,vocab"]);
    let line = |stage: &str| text.lines().find(|line| line.starts_with(stage)).unwrap().to_owned();
    // The sources are not here, and a setting of `parse` differs.
    assert!(line("harvest").contains("not run"), "{text}");
    assert!(line("parse").contains("not run") && line("parse").contains("max-ast-tokens"), "{text}");
    assert!(line("ingest").contains("same bytes") && line("vocab").contains("same bytes"), "{text}");
}

#[test]
fn reproduce_runs_the_named_stage_only() {
    let workspace = restored(&["--name", "all"]);
    let (text, _) = workspace.run(&["reproduce", "--stage", "vocab"]);
    assert!(text.contains("vocab") && !text.contains("parse"), "{text}");
}

#[test]
fn a_file_that_is_lost_after_a_restore_is_damage_and_is_made_again() {
    let workspace = restored(&["--name", "all"]);
    fs::remove_file(workspace.artifact("vocabulary").join("tokenizer.json")).unwrap();
    assert!(texts(&workspace.try_run(&["verify"])).0.contains("tokenizer.json"));
    assert_eq!(ran(&workspace.run_until("tokenize")), ["vocab"], "the sources are not here, and the harvest is up to date");
}

/// Two machines with other bytes under one key, as training on a GPU may give: neither replaces the other.
#[test]
fn a_restore_never_replaces_other_bytes() {
    let workspace = Workspace::tokenized();
    workspace.run(&["save", "--to", "saved", "--with", "all"]);
    workspace.run(&["save", "--to", "saved", "--name", "manifests"]);
    let dir = workspace.artifact("vocabulary");
    let mut manifest = workspace.manifest("vocabulary");
    let tokenizer = fs::read_to_string(dir.join("tokenizer.json")).unwrap() + "\n";
    fs::write(dir.join("tokenizer.json"), &tokenizer).unwrap();
    manifest["outputs"]["tokenizer.json"] = json!({ "bytes": tokenizer.len(), "blake3": ledger::Digest::of_bytes(tokenizer.as_bytes()) });
    manifest["schema"] = json!(1);
    manifest.as_object_mut().unwrap().remove("digest");
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    for name in ["latest", "manifests"] {
        let error = workspace.fail(&["restore", "--from", "saved", "--name", name]);
        assert!(error.contains("other bytes"), "{error}");
        assert_eq!(fs::read_to_string(dir.join("tokenizer.json")).unwrap(), tokenizer);
    }
}

#[test]
fn a_restore_leaves_equal_artifacts_as_they_are() {
    let workspace = Workspace::tokenized();
    workspace.run(&["save", "--to", "saved", "--with", "all"]);
    workspace.run(&["save", "--to", "saved", "--name", "manifests"]);
    let before = workspace.manifest("tokens");
    let (text, _) = workspace.run(&["restore", "--from", "saved", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["artifacts"], 0, "{text}");
    workspace.run(&["restore", "--from", "saved", "--name", "manifests"]);
    assert_eq!(workspace.manifest("tokens"), before);
}

#[test]
fn retracted_ids_are_saved_and_merged() {
    let workspace = Workspace::tokenized();
    fs::create_dir_all(workspace.path("data/serve")).unwrap();
    fs::write(workspace.path("data/serve/retracted"), "b\n").unwrap();
    workspace.run(&["save", "--to", "saved"]);
    let other = Workspace::empty();
    fs::create_dir_all(other.path("data/serve")).unwrap();
    fs::write(other.path("data/serve/retracted"), "a\n").unwrap();
    other.run(&["restore", "--from", &url_in(&workspace, "saved")]);
    assert_eq!(fs::read_to_string(other.path("data/serve/retracted")).unwrap(), "a\nb\n");
}

/// Two workspaces whose artifacts differ from `syntax` on.
fn two_builds() -> (Workspace, Workspace) {
    let (a, b) = (Workspace::tokenized(), Workspace::tokenized());
    b.configure("parse.max-ast-tokens = 99");
    b.run_until("tokenize");
    (a, b)
}

#[test]
fn processes_that_save_at_the_same_time_write_complete_snapshots() {
    let (a, b) = two_builds();
    let url = url_in(&a, "saved");
    let savers: Vec<_> = (0..6)
        .map(|number| {
            let (workspace, name) = if number % 2 == 0 { (&a, "a") } else { (&b, "b") };
            workspace.spawn(&["save", "--to", &url, "--with", "all", "--name", if number < 4 { name } else { "both" }])
        })
        .collect();
    for mut saver in savers {
        assert!(saver.wait().unwrap().success());
    }
    assert!(a.run(&["verify", "--from", &url]).0.contains("3 snapshots"));
    for (name, expected) in [("a", &a), ("b", &b)] {
        let other = Workspace::empty();
        other.run(&["restore", "--from", &url, "--with", "all", "--name", name]);
        assert_eq!(other.corpus_digests(), expected.corpus_digests());
    }
}

/// Starts a command, and kills it after some milliseconds; was it killed before its end?
fn kill_after(workspace: &Workspace, arguments: &[&str], milliseconds: u64) -> bool {
    let mut child = workspace.spawn(arguments);
    thread::sleep(Duration::from_millis(milliseconds));
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

#[test]
fn a_killed_save_leaves_no_incomplete_snapshot() {
    let workspace = Workspace::tokenized();
    let save = ["save", "--to", "saved", "--with", "all"];
    let mut killed = 0;
    for delay in [2, 5, 9, 14, 20, 30, 45] {
        killed += u32::from(kill_after(&workspace, &save, delay));
        if workspace.path("saved/refs/latest").exists() {
            workspace.run(&["verify", "--from", "saved"]);
        }
    }
    assert!(killed >= 2, "{killed} of 7 were killed before their end");
    workspace.run(&save);
    workspace.run(&["verify", "--from", "saved"]);
}

#[test]
fn a_killed_restore_is_resumed() {
    let workspace = Workspace::tokenized();
    workspace.run(&["save", "--to", "saved", "--with", "all"]);
    let url = url_in(&workspace, "saved");
    let other = Workspace::empty();
    let restore = ["restore", "--from", &url, "--with", "all"];
    let mut left = 0;
    for delay in [3, 8, 15, 25, 40, 60, 90] {
        kill_after(&other, &restore, delay);
        left += u32::from(other.path("data/.restoring").exists());
    }
    assert!(left >= 1, "no restore was killed on its way");
    other.run(&restore);
    assert_eq!(other.corpus_digests(), workspace.corpus_digests());
    assert!(other.run(&["verify"]).0.contains("intact") && !other.path("data/.restoring").exists());
}

/// An object of a shard, the list of files, and the name of a snapshot.
#[test]
fn a_damaged_object_is_named_and_not_restored() {
    let workspace = Workspace::tokenized();
    workspace.run(&["save", "--to", "saved", "--with", "all"]);
    let url = url_in(&workspace, "saved");
    let manifest = workspace.manifest("syntax");
    let (_, file) = manifest["outputs"].as_object().unwrap().iter().find(|(path, _)| path.ends_with(".parquet")).unwrap();
    let digest = file["blake3"].as_str().unwrap();
    let object = Path::new(&url).join("objects").join(&digest[..2]).join(digest);
    let record = fs::read_dir(Path::new(&url).join("records")).unwrap().next().unwrap().unwrap().path();
    for (damaged, name) in [(&object, digest), (&record, "records/"), (&Path::new(&url).join("refs/latest"), "refs/latest")] {
        let bytes = flip_a_bit(damaged);
        let other = Workspace::empty();
        let error = other.fail(&["restore", "--from", &url, "--with", "all"]);
        assert!(error.contains(name) || error.contains("is missing"), "{error}");
        assert!(!other.path("data/syntax").exists(), "nothing is recorded");
        let output = other.try_run(&["verify", "--from", &url]);
        let (listed, error) = texts(&output);
        assert!(!output.status.success() && (listed.contains(name) || error.contains(name)), "{listed}{error}");
        // What was fetched stays, and the rest follows.
        fs::write(damaged, &bytes).unwrap();
        other.run(&["restore", "--from", &url, "--with", "all"]);
        assert_eq!(other.manifest("syntax"), manifest);
    }
}

fn flip_a_bit(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x40;
    fs::write(path, &flipped).unwrap();
    bytes
}

#[test]
fn a_damaged_local_file_is_not_saved() {
    let workspace = Workspace::tokenized();
    let files: Vec<PathBuf> = files_below(&workspace.artifact("syntax"));
    flip_a_bit(files.iter().find(|path| path.extension().is_some_and(|extension| extension == "parquet")).unwrap());
    let error = workspace.fail(&["save", "--to", "saved", "--with", "all"]);
    assert!(error.contains("damaged") && error.contains("codenets verify"), "{error}");
    assert!(!workspace.path("saved/refs").exists());
}

/// Nothing is deleted or saved while the inputs of an artifact are unknown.
#[test]
fn a_damaged_manifest_stops_gc_and_save() {
    let workspace = Workspace::tokenized();
    fs::write(workspace.artifact("vocabulary").join("manifest.json"), "{").unwrap();
    assert!(workspace.fail(&["gc", "--yes"]).contains("damaged"));
    assert!(workspace.fail(&["save", "--to", "saved"]).contains("damaged"));
    assert!(workspace.artifact("raw").exists());
}

#[test]
fn the_runs_of_a_training_are_saved_and_restored() {
    let workspace = Workspace::trained();
    workspace.run(&["save", "--to", "saved", "--with", "runs"]);
    let other = Workspace::empty();
    other.run(&["restore", "--from", &url_in(&workspace, "saved")]);
    let names = |folder: PathBuf| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(other.path("data/runs")), names(workspace.path("data/runs")));
}
