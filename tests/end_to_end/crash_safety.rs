//! Artifacts stay complete: processes killed between any two system calls, flipped bits, read-only folders, clocks that go back.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::workspace::{Workspace, copy_exactly, is_up_to_date, ran, read_json, texts};

/// The name of the point at which a process was killed (`ledger::fault`); none if it came to its end, which must be a success.
fn killed_at(output: &Output) -> Option<String> {
    let (_, err) = texts(output);
    if output.status.signal() != Some(9) {
        assert!(output.status.success(), "{err}");
        return None;
    }
    let name = err.lines().find_map(|line| line.strip_prefix("killed before: ")).unwrap_or_else(|| panic!("{err}"));
    Some(name.to_owned())
}

/// Kills a stage at each of its points in turn, each time from the same state, and runs it again; the names of the points.
fn kill_everywhere(stage: &str, kind: &str) -> Vec<String> {
    let workspace = Workspace::trained();
    let expected = workspace.manifest(kind)["outputs"].clone();
    let (before, data) = (workspace.path("before"), workspace.path("data"));
    fs::remove_dir_all(data.join(kind)).unwrap();
    let _ = fs::remove_dir_all(data.join("runs"));
    copy_exactly(&data, &before);
    let mut points = Vec::new();
    for number in 1.. {
        fs::remove_dir_all(&data).unwrap();
        copy_exactly(&before, &data);
        let arguments = ["run", "--only", stage];
        let output = workspace.command(&arguments).env("CODENETS_FAULT", number.to_string()).output().unwrap();
        let Some(point) = killed_at(&output) else { break };
        // Every reader sees the state before or the state after.
        let (out, _) = texts(&workspace.try_run(&["verify"]));
        assert!(out.contains("intact"), "{stage} killed before {point}: {out}");
        workspace.run(&arguments);
        assert_eq!(workspace.manifest(kind)["outputs"], expected, "{stage} killed before {point}");
        let names = fs::read_dir(data.join(kind)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let debris: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
        assert!(debris.is_empty(), "{stage} killed before {point}: {debris:?}");
        points.push(point);
    }
    points
}

fn require_points(stage: &str, kind: &str) {
    let points = kill_everywhere(stage, kind);
    assert!(points.len() >= 12, "{} points: {points:#?}", points.len());
    for part in ["manifest.json", "CURRENT", "folder", "output"] {
        assert!(points.iter().any(|point| point.contains(part)), "{part} in {points:#?}");
    }
}

#[test]
fn harvest_killed_anywhere_ends_with_the_right_bytes() {
    require_points("harvest", "raw");
}

#[test]
fn ingest_killed_anywhere_ends_with_the_right_bytes() {
    require_points("ingest", "functions");
}

#[test]
fn parse_killed_anywhere_ends_with_the_right_bytes() {
    require_points("parse", "syntax");
}

#[test]
fn vocab_killed_anywhere_ends_with_the_right_bytes() {
    require_points("vocab", "vocabulary");
}

#[test]
fn tokenize_killed_anywhere_ends_with_the_right_bytes() {
    require_points("tokenize", "tokens");
}

#[test]
fn train_killed_anywhere_ends_with_the_right_bytes() {
    require_points("train", "checkpoint");
}

#[test]
fn export_killed_anywhere_ends_with_the_right_bytes() {
    require_points("export", "encoder");
}

/// Readers see the old bundle or the new one.
#[test]
fn publish_killed_anywhere_publishes_the_old_bundle_or_the_new_one() {
    let workspace = Workspace::published();
    let old = workspace.published_bundle();
    workspace.configure("index.segment-rows = 9\npublish { keep = 1, min-share-of-current = 0 }");
    workspace.run_until("evaluate");
    let key = workspace.manifest("bundle")["key"].as_str().unwrap().to_owned();
    let is_new = |bundle: &Path| bundle.to_string_lossy().contains(&key);
    let (before, data) = (workspace.path("before"), workspace.path("data"));
    copy_exactly(&data, &before);
    let mut points = BTreeSet::new();
    for number in 1.. {
        fs::remove_dir_all(&data).unwrap();
        copy_exactly(&before, &data);
        let output = workspace.command(&["run", "--only", "publish"]).env("CODENETS_FAULT", number.to_string()).output().unwrap();
        let Some(point) = killed_at(&output) else { break };
        points.insert(point);
        let published = workspace.published_bundle();
        assert!(published == old || is_new(&published), "{published:?}");
        assert!(!workspace.search(&["read a file"]).is_empty());
        workspace.run_only("publish");
        assert!(is_new(&workspace.published_bundle()));
        workspace.run(&["verify"]);
    }
    for part in ["folder", "link", "prun"] {
        assert!(points.iter().any(|point| point.contains(part)), "{part} in {points:?}");
    }
}

/// Flips one bit of a file; the bytes before.
fn flip(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x10;
    fs::write(path, flipped).unwrap();
    bytes
}

/// One file of every kind and extension, and every manifest: the kind, and the path in the artifact.
fn one_file_of_each_kind(workspace: &Workspace) -> Vec<(&'static str, PathBuf)> {
    let mut seen: BTreeSet<(&str, OsString)> = BTreeSet::new();
    let mut files = Vec::new();
    for kind in ledger::ARTIFACT_KINDS {
        for path in ledger::files_below(&workspace.artifact(kind)).unwrap() {
            let is_manifest = path.ends_with("manifest.json");
            let ending = if is_manifest { "manifest".into() } else { path.extension().unwrap_or(path.as_os_str()).to_owned() };
            let is_empty = workspace.artifact(kind).join(&path).metadata().unwrap().len() == 0;
            if !is_empty && seen.insert((kind, ending)) {
                files.push((kind, path));
            }
        }
    }
    files
}

/// `verify` names the file, `status` the artifact, and the next run makes this artifact again and no other.
#[test]
fn a_flipped_bit_in_an_artifact_is_named_and_repaired() {
    let workspace = Workspace::published();
    let files = one_file_of_each_kind(&workspace);
    assert!(files.len() > 30, "{files:?}");
    for (kind, path) in &files {
        let name = format!("{kind} {}", path.display());
        flip(&workspace.artifact(kind).join(path));
        let output = workspace.try_run(&["verify"]);
        assert!(!output.status.success() && texts(&output).0.contains(path.to_str().unwrap()), "{name}: {}", texts(&output).0);
        let rows = workspace.status();
        let row = rows.iter().find(|row| row["kind"] == *kind).unwrap();
        assert_eq!(row["state"], "damaged", "{name}: {row}");
        let messages = workspace.run_all();
        assert_eq!(ran(&messages).len(), 1, "{name}: {messages}");
        assert_eq!(workspace.digests(), Workspace::expected_digests(), "{name}");
    }
    assert!(workspace.run(&["verify"]).0.contains("intact"));
}

#[test]
fn a_flipped_bit_in_current_is_repaired_without_a_run() {
    let workspace = Workspace::published();
    for kind in ledger::ARTIFACT_KINDS {
        flip(&workspace.path("data").join(kind).join("CURRENT"));
    }
    let messages = workspace.run_all();
    assert_eq!(ran(&messages), [""; 0], "{messages}");
    assert_eq!(workspace.digests(), Workspace::expected_digests());
}

#[test]
fn a_flipped_bit_in_the_published_bundle_is_named() {
    let workspace = Workspace::published();
    let published = workspace.path("data/serve/current").canonicalize().unwrap();
    for path in ledger::files_below(&published).unwrap() {
        // A new file: the artifact of the bundle, a hard link to the old one, stays as it is.
        let full = published.join(&path);
        let bytes = fs::read(&full).unwrap();
        fs::remove_file(&full).unwrap();
        fs::write(&full, &bytes).unwrap();
        if !bytes.is_empty() {
            flip(&full);
            let error = workspace.fail(&["verify"]);
            assert!(path.ends_with("CHECKSUMS") || error.contains(path.to_str().unwrap()), "{}: {error}", path.display());
        }
        fs::write(&full, &bytes).unwrap();
    }
    workspace.run(&["verify"]);
}

/// A tokenized workspace whose data folder is read-only, and commands run by a user who may not write there.
struct ReadOnly {
    workspace: Workspace,
    /// A copy of the program that another user can execute; none where the tests do not run as root.
    program: Option<PathBuf>,
}

impl ReadOnly {
    fn new() -> Self {
        let workspace = Workspace::tokenized();
        // Paths are absolute for the other user.
        fs::set_permissions(workspace.root(), fs::Permissions::from_mode(0o755)).unwrap();
        let read_only = Self { program: None, workspace };
        read_only.set_mode(0o555);
        let probe = read_only.workspace.path("data/probe");
        let is_root = fs::write(&probe, "").is_ok();
        let _ = fs::remove_file(probe);
        let program = read_only.workspace.path("codenets");
        if is_root {
            fs::copy(env!("CARGO_BIN_EXE_codenets"), &program).unwrap();
        }
        Self { program: is_root.then_some(program), ..read_only }
    }

    fn set_mode(&self, mode: u32) {
        for name in ["data", "data/reports", "data/vocabulary", "data/events"] {
            if self.workspace.path(name).exists() {
                fs::set_permissions(self.workspace.path(name), fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(self.workspace.path("data/.lock"), fs::Permissions::from_mode(mode & 0o666)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let command = self.workspace.command(arguments);
        let Some(program) = &self.program else { return self.workspace.try_run(arguments) };
        let mut other = Command::new(program);
        other.args(command.get_args()).current_dir(self.workspace.root()).uid(65_534).gid(65_534).output().unwrap()
    }
}

#[test]
fn a_read_only_data_folder_has_a_status_and_is_verified() {
    let read_only = ReadOnly::new();
    let status = read_only.run(&["status"]);
    let (out, err) = texts(&status);
    assert!(status.status.success(), "{err}");
    assert!(out.contains("harvest ->") && err.contains("status.json"), "{out}{err}");
    let verify = read_only.run(&["verify"]);
    assert!(verify.status.success() && texts(&verify).0.contains("intact"), "{:?}", texts(&verify));
    read_only.set_mode(0o755);
}

#[test]
fn a_run_in_a_read_only_data_folder_is_an_error() {
    let read_only = ReadOnly::new();
    read_only.workspace.configure("vocab.size = 460");
    let refused = read_only.run(&["run", "--until", "tokenize"]);
    let (_, err) = texts(&refused);
    assert!(!refused.status.success() && err.contains("read-only") && !err.contains("panicked"), "{err}");
    read_only.set_mode(0o755);
}

#[test]
fn a_read_only_data_folder_is_saved() {
    let read_only = ReadOnly::new();
    let saved = read_only.workspace.path("saved");
    fs::create_dir(&saved).unwrap();
    fs::set_permissions(&saved, fs::Permissions::from_mode(0o777)).unwrap();
    let save = read_only.run(&["save", "--to", saved.to_str().unwrap(), "--with", "all"]);
    assert!(save.status.success(), "{}", texts(&save).1);
    read_only.set_mode(0o755);
}

/// Dates the published bundle into the future; its new name.
fn date_bundle_into_the_future(workspace: &Workspace) -> PathBuf {
    let serve = workspace.path("data/serve");
    let first = workspace.published_bundle();
    let key = first.to_string_lossy().rsplit_once('-').unwrap().1.to_owned();
    let future = Path::new("bundles").join(format!("20991231T235959Z-{key}"));
    fs::rename(serve.join(&first), serve.join(&future)).unwrap();
    fs::remove_file(serve.join("current")).unwrap();
    std::os::unix::fs::symlink(&future, serve.join("current")).unwrap();
    future
}

#[test]
fn a_clock_that_goes_back_keeps_the_order_of_bundles() {
    let workspace = Workspace::published();
    let future = date_bundle_into_the_future(&workspace);
    workspace.configure("index.segment-rows = 9\npublish { keep = 2, min-share-of-current = 0 }");
    workspace.run_all();
    let second = workspace.published_bundle();
    assert!(second > future, "{second:?} is after {future:?}");
    workspace.run(&["rollback"]);
    assert_eq!(workspace.published_bundle(), future);
}

#[test]
fn a_clock_that_goes_back_makes_nothing_stale() {
    let workspace = Workspace::published();
    date_bundle_into_the_future(&workspace);
    for kind in ["vocabulary", "tokens"] {
        let path = workspace.artifact(kind).join("manifest.json");
        let mut manifest: Value = read_json(&path);
        manifest["host"]["started_unix_s"] = 4_100_000_000u64.into();
        manifest["host"]["finished_unix_s"] = 4_100_000_100u64.into();
        manifest["schema"] = 1.into();
        manifest.as_object_mut().unwrap().remove("digest");
        fs::write(&path, manifest.to_string()).unwrap();
    }
    assert!(workspace.status().iter().all(is_up_to_date), "{:?}", workspace.stale());
}
