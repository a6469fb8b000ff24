//! Published bundles after crashes, and next to damaged ones.

use std::{fs, os::unix::process::ExitStatusExt, path::PathBuf};

use super::{in_time, succeed};
use crate::workspace::{Workspace, texts};

/// Folders of published bundles, sorted.
fn bundles(workspace: &Workspace) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(workspace.path("data/serve/bundles")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Publishes another build.
fn publish_other(workspace: &Workspace, weight: f64) {
    workspace.configure(&format!("index.bm25f.fields.name.weight = {weight}\npublish.min-share-of-current = 0\npublish.keep = 9"));
    succeed(workspace, &["run"]);
}

/// Kills `run --only publish` at every point between two system calls; calls `check` after each.
fn killed_publishes(check: &dyn Fn(&Workspace, &str)) {
    let prepared = Workspace::published();
    prepared.configure("index.bm25f.fields.name.weight = 7.5\npublish.min-share-of-current = 0");
    succeed(&prepared, &["run", "--until", "evaluate"]);
    for point in 1..200 {
        let workspace = Workspace::copy_of(&prepared);
        let mut command = workspace.command(&["run", "--only", "publish"]);
        command.env("CODENETS_FAULT", point.to_string());
        let output = in_time(command);
        if output.status.signal() != Some(9) {
            assert!(output.status.success() && point > 5, "{}", texts(&output).1);
            return;
        }
        check(&workspace, &texts(&output).1);
    }
    panic!("publish never ended");
}

/// A build that was not completely published is no build to roll back to.
#[test]
fn a_rollback_after_a_crash_serves_the_build_before() {
    killed_publishes(&|workspace, killed| {
        let served = workspace.published_bundle();
        succeed(workspace, &["run", "--only", "publish"]);
        let bad = workspace.published_bundle();
        succeed(workspace, &["rollback"]);
        let good = workspace.published_bundle();
        let key = |link: &PathBuf| link.to_string_lossy().rsplit_once('-').unwrap().1.to_owned();
        assert_ne!(key(&good), key(&bad), "{killed}");
        assert!(served == good || served == bad, "{killed}");
    });
}

#[test]
fn debris_of_kills_is_swept() {
    killed_publishes(&|workspace, killed| {
        succeed(workspace, &["run", "--only", "publish"]);
        for folder in ["data/serve", "data/serve/bundles"] {
            let names = fs::read_dir(workspace.path(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.starts_with('.') || name == "publishing").collect();
            assert_eq!(left, Vec::<String>::new(), "{killed}");
        }
    });
}

/// A damaged bundle that is not published, and folders that are none.
#[test]
fn a_damaged_bundle_and_other_folders_stop_no_command() {
    let workspace = Workspace::published();
    let id = workspace.search(&["parse a date"])[0]["id"].as_str().unwrap().to_owned();
    publish_other(&workspace, 7.0);
    publish_other(&workspace, 5.0);
    for name in ["lost+found", ".snapshot", "my-backup"] {
        fs::create_dir(workspace.path("data/serve/bundles").join(name)).unwrap();
    }
    let damaged = bundles(&workspace).into_iter().filter(|path| path.join("CHECKSUMS").is_file()).nth(1).unwrap();
    fs::write(damaged.join("manifest.json"), "{").unwrap();
    fs::write(workspace.path("ids"), format!("{id}\n")).unwrap();
    succeed(&workspace, &["gc"]);
    let (_, messages) = succeed(&workspace, &["retract", "ids"]);
    assert!(messages.contains("is damaged") && !damaged.exists(), "{messages}");
    succeed(&workspace, &["rollback"]);
    publish_other(&workspace, 6.0);
    assert!(workspace.search(&["parse a date", "--limit", "50"]).iter().all(|hit| hit["id"] != id.as_str()));
}

/// A deletion reads the table of functions of every published bundle.
#[test]
fn a_damaged_table_of_functions_stops_no_command() {
    let workspace = Workspace::published();
    let id = workspace.search(&["parse a date"])[0]["id"].as_str().unwrap().to_owned();
    publish_other(&workspace, 7.0);
    let current = fs::canonicalize(workspace.path("data/serve/current")).unwrap();
    let other = bundles(&workspace).into_iter().find(|path| path.join("CHECKSUMS").is_file() && fs::canonicalize(path).unwrap() != current);
    let other = other.unwrap();
    let damage = |bundle: &std::path::Path| {
        let mut bytes = fs::read(bundle.join("docs.parquet")).unwrap();
        let length = bytes.len();
        bytes[length / 2..length - 8].fill(0xff);
        fs::remove_file(bundle.join("docs.parquet")).unwrap();
        fs::write(bundle.join("docs.parquet"), bytes).unwrap();
    };
    damage(&other);
    fs::write(workspace.path("ids"), format!("{id}\n")).unwrap();
    let (_, messages) = succeed(&workspace, &["retract", "ids"]);
    assert!(messages.contains("is damaged") && !other.exists(), "{messages}");
    // A list of ids only, as version 0.2.0 wrote it, is carried from the published bundles, one of which is damaged.
    fs::write(workspace.path("data/serve/retracted"), format!("{id}\n")).unwrap();
    damage(&current);
    publish_other(&workspace, 5.0);
    assert!(workspace.search(&["parse a date", "--limit", "50"]).iter().all(|hit| hit["id"] != id.as_str()));
}

/// A damaged `tombstones.parquet` is written again from the list of retracted ids. A hidden folder of the file system does no harm.
#[test]
fn damaged_tombstones_are_written_again() {
    let workspace = Workspace::published();
    let id = workspace.search(&["parse a date"])[0]["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids"), format!("{id}\n")).unwrap();
    succeed(&workspace, &["retract", "ids"]);
    fs::write(workspace.path("data/serve/current/tombstones.parquet"), "damaged").unwrap();
    fs::create_dir(workspace.path("data/serve/current/.snapshot")).unwrap();
    succeed(&workspace, &["retract", "ids"]);
    succeed(&workspace, &["verify"]);
    assert!(workspace.search(&["parse a date", "--limit", "50"]).iter().all(|hit| hit["id"] != id.as_str()));
}

/// Every file that a run writes has the permissions that the umask of the process allows.
#[test]
fn files_follow_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::trained();
    let inner = workspace.command(&["run"]);
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg("umask 027 && exec \"$0\" \"$@\"").arg(inner.get_program()).args(inner.get_args()).current_dir(workspace.root());
    command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = in_time(command);
    assert!(output.status.success(), "{}", texts(&output).1);
    for path in ["bundle/CURRENT", "serve/current/manifest.json", "serve/current/docs.parquet", "serve/current"] {
        let mode = fs::metadata(workspace.path("data").join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path == "serve/current" { 0o750 } else { 0o640 }, "{path}");
    }
}
