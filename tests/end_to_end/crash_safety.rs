//! Sealing under fire: killed between any two system calls that matter, every kind of file damaged, a folder that may only be read,
//! a clock that goes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::world::{World, copy_tree, ran, texts};

/// Kills a stage before each of its points in turn (`ledger::fault`), each time from the same state, and lets it run again; the names
/// of the points.
fn kill_everywhere(world: &World, tool: &str, stage: &str, kind: &str, whole: &Value) -> Vec<String> {
    let (before, data) = (world.path(&format!("before-{stage}")), world.path("data"));
    let mut points = Vec::new();
    for point in 1.. {
        fs::remove_dir_all(&data).unwrap();
        copy_tree(&before, &data);
        let output = world.command(tool, &[stage]).env("CODENETS_FAULT", point.to_string()).output().unwrap();
        if output.status.signal() != Some(9) {
            // Behind the last point.
            assert!(output.status.success(), "{stage}: {}", texts(&output).1);
            break;
        }
        let said = texts(&output).1;
        let name = said.lines().find_map(|line| line.strip_prefix("killed before: ")).unwrap_or_else(|| panic!("{said}")).to_owned();
        // What stands after the crash is the state before or the state after, to every reader.
        let (out, _) = texts(&world.try_run("archive", &["verify"]));
        assert!(out.contains("intact"), "{stage} killed before {name}: {out}");
        world.run(tool, &[stage]);
        assert_eq!(&world.manifest(kind)["outputs"], whole, "{stage} killed before {name}");
        let debris = fs::read_dir(data.join(kind)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let debris: Vec<_> = debris.filter(|name| name.starts_with('.')).collect();
        assert!(debris.is_empty(), "{stage} killed before {name}: {debris:?}");
        points.push(format!("{stage}: {name}"));
    }
    points
}

#[test]
fn a_stage_killed_between_any_two_steps_of_sealing_ends_with_the_right_bytes() {
    let stages = [
        ("pipeline", "harvest", "raw"),
        ("pipeline", "ingest", "functions"),
        ("pipeline", "parse", "syntax"),
        ("pipeline", "vocab", "vocabulary"),
        ("pipeline", "tokenize", "tokens"),
        ("trainer", "train", "checkpoint"),
        ("trainer", "export", "encoder"),
    ];
    let world = World::new();
    fs::create_dir_all(world.path("data")).unwrap();
    let mut whole = BTreeMap::new();
    for (tool, stage, kind) in stages {
        copy_tree(&world.path("data"), &world.path(&format!("before-{stage}")));
        world.run(tool, &[stage]);
        whole.insert(kind, world.manifest(kind)["outputs"].clone());
    }
    let mut points = Vec::new();
    for (tool, stage, kind) in stages {
        points.extend(kill_everywhere(&world, tool, stage, kind, &whole[kind]));
    }
    assert!(points.len() >= 100, "{} points: {points:#?}", points.len());
    for step in [
        "the second half of manifest.json",
        "rename to manifest.json",
        "rename of the sealed folder",
        "rename to CURRENT",
        "fsync of an output",
    ] {
        assert!(points.iter().any(|point| point.ends_with(step)), "{step} in {points:#?}");
    }
    eprintln!("killed at {} points", points.len());
}

#[test]
fn a_publish_killed_between_any_two_steps_serves_the_old_bundle_or_the_new_one() {
    let world = World::new();
    world.road(&[]);
    let old = fs::read_link(world.path("data/serve/current")).unwrap();
    world.configure("index.segment-rows = 9\npublish { keep = 1, min-share-of-current = 0 }");
    world.run("indexer", &["index"]);
    world.run("indexer", &["evaluate"]);
    let key = world.manifest("bundle")["key"].as_str().unwrap().to_owned();
    let (before, data) = (world.path("before"), world.path("data"));
    Command::new("cp").args(["-a"]).arg(&data).arg(&before).status().unwrap();
    let mut points = BTreeSet::new();
    for point in 1.. {
        fs::remove_dir_all(&data).unwrap();
        Command::new("cp").args(["-a"]).arg(&before).arg(&data).status().unwrap();
        let output = world.command("indexer", &["publish"]).env("CODENETS_FAULT", point.to_string()).output().unwrap();
        if output.status.signal() != Some(9) {
            assert!(output.status.success(), "{}", texts(&output).1);
            break;
        }
        let said = texts(&output).1;
        points.insert(said.lines().find_map(|line| line.strip_prefix("killed before: ")).unwrap().to_owned());
        let served = fs::read_link(world.path("data/serve/current")).unwrap();
        assert!(served == old || served.to_string_lossy().ends_with(&key), "{served:?}");
        assert!(!world.run("indexer", &["search", "read a file"]).0.contains("nothing found"));
        world.run("indexer", &["publish"]);
        assert!(fs::read_link(world.path("data/serve/current")).unwrap().to_string_lossy().ends_with(&key));
        world.run("indexer", &["verify"]);
    }
    for step in ["rename of the published folder", "making a link", "rename to a link", "pruning"] {
        assert!(points.contains(step), "{step} in {points:?}");
    }
}

/// Flips one bit of a file.
fn flip(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x10;
    fs::write(path, flipped).unwrap();
    bytes
}

#[test]
fn a_flipped_bit_in_any_kind_of_file_is_named_flagged_and_mended() {
    let world = World::new();
    world.road(&[]);
    let whole = world.digests();
    // One file of every kind and ending, and every manifest.
    let mut seen = BTreeSet::new();
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    for kind in ledger::ARTIFACT_KINDS {
        for path in ledger::files_below(&world.artifact(kind)).unwrap() {
            let ending =
                if path.ends_with("manifest.json") { "manifest".into() } else { path.extension().unwrap_or(path.as_os_str()).to_owned() };
            if seen.insert((kind, ending)) {
                files.push((kind, path));
            }
        }
    }
    assert!(files.len() > 30, "{files:?}");
    for (kind, path) in &files {
        let full = world.artifact(kind).join(path);
        if full.metadata().unwrap().len() == 0 {
            continue;
        }
        flip(&full);
        let output = world.try_run("archive", &["verify"]);
        assert!(
            !output.status.success() && texts(&output).0.contains(path.to_str().unwrap()),
            "{kind} {}: {}",
            path.display(),
            texts(&output).0
        );
        let rows = crate::archiving::status(&world);
        let row = rows.iter().find(|row| row["kind"] == *kind).unwrap();
        assert_eq!(row["state"], "damaged", "{kind} {}: {row}", path.display());
        // Made again by the stage that made it, and by it alone: its bytes are the same.
        let said = world.road(&[]);
        assert_eq!(ran(&said).len(), 1, "{kind} {}: {said}", path.display());
        assert_eq!(world.digests(), whole, "{kind} {}", path.display());
        assert!(world.run("archive", &["verify"]).0.contains("intact"));
    }
    // Pointers, whatever they say.
    for kind in ledger::ARTIFACT_KINDS {
        flip(&world.path("data").join(kind).join("CURRENT"));
    }
    let said = world.road(&[]);
    assert_eq!((ran(&said), world.digests()), (Vec::new(), whole), "{said}");
    // What is served.
    let served = world.path("data/serve/current").canonicalize().unwrap();
    for path in ledger::files_below(&served).unwrap() {
        // A new file of its own: the sealed one stays as it is.
        let full = served.join(&path);
        let bytes = fs::read(&full).unwrap();
        fs::remove_file(&full).unwrap();
        fs::write(&full, &bytes).unwrap();
        if !bytes.is_empty() {
            flip(&full);
            let said = world.fail("indexer", &["verify"]);
            assert!(path.ends_with("CHECKSUMS") || said.contains(path.to_str().unwrap()), "{}: {said}", path.display());
        }
        fs::write(&full, &bytes).unwrap();
    }
    world.run("indexer", &["verify"]);
}

#[test]
fn a_folder_that_may_only_be_read_is_read_and_said_to_be_so() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let set = |mode: u32| {
        for path in [world.path("data"), world.path("data/reports"), world.path("data/vocabulary"), world.path("data/events")] {
            if path.exists() {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(world.path("data/.lock"), fs::Permissions::from_mode(mode & 0o666)).unwrap();
    };
    set(0o555);
    // Root may write everywhere: then by another user, with a copy of the tool where that one can reach it.
    let is_root = fs::write(world.path("data/probe"), "").is_ok();
    let _ = fs::remove_file(world.path("data/probe"));
    let run = |tool: &str, arguments: &[&str]| {
        let asked = world.command(tool, arguments);
        if !is_root {
            return Command::new(asked.get_program()).args(asked.get_args()).output().unwrap();
        }
        let copy = world.path(&format!("tool-{tool}"));
        if !copy.exists() {
            fs::copy(asked.get_program(), &copy).unwrap();
        }
        Command::new(copy).args(asked.get_args()).uid(65_534).gid(65_534).output().unwrap()
    };
    let status = run("pipeline", &["status"]);
    assert!(status.status.success(), "{}", texts(&status).1);
    assert!(texts(&status).0.contains("fresh") && texts(&status).1.contains("status.json is not renewed"), "{:?}", texts(&status));
    let verify = run("archive", &["verify"]);
    assert!(verify.status.success() && texts(&verify).0.contains("intact"), "{:?}", texts(&verify));
    world.configure("vocab.size = 460");
    let refused = run("pipeline", &["run"]);
    let said = texts(&refused).1;
    assert!(
        !refused.status.success() && said.contains("cannot be written") && said.contains("read-only") && !said.contains("panicked"),
        "{said}"
    );
    let saved = world.path("saved");
    fs::create_dir(&saved).unwrap();
    fs::set_permissions(&saved, fs::Permissions::from_mode(0o777)).unwrap();
    let save = run("archive", &["save", "--to", saved.to_str().unwrap(), "--with", "all"]);
    assert!(save.status.success(), "{}", texts(&save).1);
    set(0o755);
}

#[test]
fn a_clock_that_goes_back_changes_no_order() {
    let world = World::new();
    world.road(&[]);
    // The first build was published, by its name, in the far future.
    let serve = world.path("data/serve");
    let first = fs::read_link(serve.join("current")).unwrap();
    let key = first.to_string_lossy().rsplit_once('-').unwrap().1.to_owned();
    let future = Path::new("bundles").join(format!("20991231T235959Z-{key}"));
    fs::rename(serve.join(&first), serve.join(&future)).unwrap();
    fs::remove_file(serve.join("current")).unwrap();
    std::os::unix::fs::symlink(&future, serve.join("current")).unwrap();
    // Its records, too, are of a time that has not come.
    for kind in ["vocabulary", "tokens"] {
        let path = world.artifact(kind).join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["host"]["started_unix_s"] = 4_100_000_000u64.into();
        manifest["host"]["finished_unix_s"] = 4_100_000_100u64.into();
        manifest["schema"] = 1.into();
        manifest.as_object_mut().unwrap().remove("digest");
        fs::write(&path, manifest.to_string()).unwrap();
    }
    assert!(crate::archiving::status(&world).iter().all(|row| row["state"] == "fresh"), "{:?}", crate::archiving::status(&world));
    world.configure("index.segment-rows = 9\npublish.keep = 2");
    world.road(&[]);
    let second = fs::read_link(serve.join("current")).unwrap();
    assert!(second > future, "{second:?} is behind {future:?}");
    world.run("indexer", &["rollback"]);
    assert_eq!(fs::read_link(serve.join("current")).unwrap(), future);
}
