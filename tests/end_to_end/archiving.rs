//! Saving, restoring, tracing and cleaning, in a folder: what every place shares.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::world::{STAGES, World, ran, texts};

/// Rows of `status` over the three tools.
pub fn status(world: &World) -> Vec<Value> {
    let file = world.path("status.json");
    fs::write(&file, "[]").unwrap();
    for tool in ["pipeline", "trainer", "indexer"] {
        let (out, _) = world.run(tool, &["status", "--json", "--after", file.to_str().unwrap()]);
        fs::write(&file, out).unwrap();
    }
    serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
}

/// What `status` does not call fresh.
fn stale(world: &World) -> Vec<String> {
    status(world).iter().filter(|row| row["state"] != "fresh").map(|row| format!("{}: {}", row["stage"], row["why"])).collect()
}

/// Another machine: nothing there but the configuration that was restored.
pub fn elsewhere(from: &str) -> World {
    let world = World::empty();
    world.run("archive", &["restore", "--from", from]);
    fs::copy(world.path("data/restored.conf"), world.path("road.conf")).unwrap();
    world
}

fn address(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

#[test]
fn a_build_travels_and_goes_on_where_it_was() {
    let world = World::new();
    world.road(&[]);
    let to = address(&world, "saved");
    let (said, _) = world.run("archive", &["save", "--to", &to, "--with", "dataset,index"]);
    assert!(said.contains("is saved at") && said.contains("as latest"), "{said}");

    // Everything but the bundle's own files: fresh, and served elsewhere.
    let other = elsewhere(&to);
    assert_eq!(stale(&other), [r#""publish": "the bundle's files were not restored: restore WITH=bundle to serve it from here""#]);
    assert_eq!(other.digests(), world.digests());
    assert!(other.run("archive", &["verify"]).0.contains("intact"));
    for (tool, target) in [("pipeline", "run"), ("trainer", "run"), ("indexer", "embed"), ("indexer", "index")] {
        let (_, said) = other.run(tool, &[target]);
        assert_eq!(ran(&said), Vec::<&str>::new(), "{said}");
    }
    // What needs the files says where they are.
    let said = other.fail("indexer", &["publish"]);
    assert!(said.contains(&format!("make restore FROM={to} WITH=bundle")), "{said}");
    // Another setting of the index goes on from the embeddings, without what lies before.
    let conf = fs::read_to_string(other.path("road.conf")).unwrap();
    let mut settings: Value = serde_json::from_str(&conf).unwrap();
    settings["index"]["segment-rows"] = json!(10);
    fs::write(other.path("road.conf"), settings.to_string()).unwrap();
    assert_eq!(ran(&other.run("indexer", &["index"]).1), ["index"]);

    // Models alone, then more of the same record: what is here is not fetched again.
    let third = World::empty();
    third.run("archive", &["restore", "--from", &to, "--with", "model"]);
    fs::copy(third.path("data/restored.conf"), third.path("road.conf")).unwrap();
    assert_eq!(stale(&third).len(), 1, "{:?}", stale(&third));
    let said = third.fail("archive", &["save", "--to", &address(&third, "again"), "--with", "dataset"]);
    assert!(said.contains("are not here: make restore"), "{said}");
    let (again, _) = third.run("archive", &["restore", "--from", &to, "--with", "model", "--json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["artifacts"], again["fetched_bytes"].as_u64().unwrap() < 100_000), (&json!(0), true), "{again}");
    third.run("archive", &["restore", "--from", &to, "--with", "dataset"]);
    third.run("archive", &["save", "--to", &address(&third, "again"), "--with", "dataset"]);
    assert!(third.fail("archive", &["restore", "--from", &to, "--name", "nothing"]).contains("has no record `nothing`"));

    // A second save sends nothing but its label's pointer.
    let (said, _) = world.run("archive", &["save", "--to", &to, "--with", "dataset,index", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["sent_objects"], &said["sent_bytes"]), (&json!(0), &json!(0)));
    world.run("archive", &["save", "--to", &to, "--with", "all", "--name", "whole"]);
    let (listed, _) = world.run("archive", &["list", "--from", &to]);
    assert!(listed.contains("latest") && listed.contains("whole") && listed.contains("artifact scores"), "{listed}");

    // All of it: published again as it was, and every stage of it gives the same bytes again.
    let whole = World::empty();
    whole.run("archive", &["reproduce", "--from", &to, "--name", "whole"]);
    fs::copy(whole.path("data/restored.conf"), whole.path("road.conf")).unwrap();
    for tool in ["pipeline", "trainer", "indexer"] {
        let (said, _) = whole.run(tool, &["reproduce"]);
        // The sources are those of the first machine: they are still there.
        assert!(said.lines().all(|line| line.contains("the same bytes")), "{said}");
    }
    whole.run("indexer", &["publish"]);
    let search = |world: &World| world.run("indexer", &["search", "shortest path in a graph"]).0;
    assert_eq!(search(&whole), search(&world));
    assert_eq!(stale(&whole), Vec::<String>::new());
    // Without the sources a harvest is not the same; with another setting a stage is not run, and why is said.
    fs::rename(world.path("corpus"), world.path("gone")).unwrap();
    settings["parse"]["max-ast-tokens"] = json!(77);
    fs::write(whole.path("road.conf"), settings.to_string()).unwrap();
    let (said, _) = whole.run("pipeline", &["reproduce"]);
    assert!(said.contains("harvest   not run: ") && said.contains("ingest    the same bytes"), "{said}");
    assert!(said.contains("config changed: max-ast-tokens") && said.contains("vocab     the same bytes"), "{said}");
    assert!(!whole.run("pipeline", &["reproduce", "--stage", "vocab"]).0.contains("parse"));
    // A file that goes missing after a restore is damage, and is made again.
    fs::write(whole.path("road.conf"), &conf).unwrap();
    fs::remove_file(whole.artifact("vocabulary").join("tokenizer.json")).unwrap();
    assert!(texts(&whole.try_run("archive", &["verify"])).0.contains("tokenizer.json"));
    assert_eq!(ran(&whole.run("pipeline", &["run"]).1), ["vocab"]);
    // The harvest is still what it was, though its sources are not on this machine.
    let (said, _) = whole.run("pipeline", &["harvest"]);
    assert_eq!(ran(&said), Vec::<&str>::new(), "{said}");
}

/// Two machines made one key with other bytes, as a GPU may: neither is put in the other's place.
#[test]
fn what_is_here_is_never_replaced_by_something_else() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let to = address(&world, "saved");
    world.run("archive", &["save", "--to", &to, "--with", "all"]);
    world.run("archive", &["save", "--to", &to, "--name", "manifests"]);
    let other = World::new();
    fs::copy(world.path("road.conf"), other.path("road.conf")).unwrap();
    other.run("pipeline", &["run"]);
    assert_eq!(other.artifact("tokens").file_name(), world.artifact("tokens").file_name());
    // The same bytes made here: they stay, and so does their own record.
    let own = other.manifest("tokens");
    let (said, _) = other.run("archive", &["restore", "--from", &to, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["artifacts"], 0, "{said}");
    other.run("archive", &["restore", "--from", &to, "--name", "manifests"]);
    assert_eq!(other.manifest("tokens"), own);
    // Other bytes: refused, in either form, and nothing is touched.
    let dir = other.artifact("vocabulary");
    let mut manifest = other.manifest("vocabulary");
    let tokenizer = fs::read_to_string(dir.join("tokenizer.json")).unwrap() + "\n";
    fs::write(dir.join("tokenizer.json"), &tokenizer).unwrap();
    manifest["outputs"]["tokenizer.json"] = json!({ "bytes": tokenizer.len(), "blake3": ledger::Digest::of_bytes(tokenizer.as_bytes()) });
    manifest["schema"] = json!(1);
    manifest.as_object_mut().unwrap().remove("digest");
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    for name in ["latest", "manifests"] {
        let said = other.fail("archive", &["restore", "--from", &to, "--name", name]);
        assert!(said.contains("is here with other bytes"), "{said}");
        assert_eq!(fs::read_to_string(dir.join("tokenizer.json")).unwrap(), tokenizer);
    }
    // While a manifest does not read, nobody knows what it was made of: nothing is removed, and nothing is said to be saved.
    fs::write(dir.join("manifest.json"), "{").unwrap();
    assert!(other.fail("archive", &["gc", "--yes"]).contains("is damaged"));
    assert!(other.fail("archive", &["save", "--to", &address(&other, "saved")]).contains("is damaged"));
    assert_eq!(keys(&other, "raw").len(), 1);
    // Retracted functions stay out wherever the build goes.
    fs::create_dir_all(world.path("data/serve")).unwrap();
    fs::write(world.path("data/serve/retracted"), "b\n").unwrap();
    world.run("archive", &["save", "--to", &to]);
    let third = World::empty();
    fs::create_dir_all(third.path("data/serve")).unwrap();
    fs::write(third.path("data/serve/retracted"), "a\n").unwrap();
    third.run("archive", &["restore", "--from", &to]);
    assert_eq!(fs::read_to_string(third.path("data/serve/retracted")).unwrap(), "a\nb\n");
}

/// A checkpoint that a kept training began from is kept, though it is known by the digests of its files alone.
#[test]
fn what_a_training_began_from_is_not_garbage() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    world.run("trainer", &["train"]);
    let first = world.artifact("checkpoint");
    world.configure("train.epochs = 2");
    world.run("trainer", &["train", "--restore", first.to_str().unwrap()]);
    assert_ne!(world.artifact("checkpoint"), first);
    world.run("archive", &["gc", "--yes"]);
    assert!(first.join("model.safetensors").exists());
}

#[test]
fn a_training_that_was_cut_goes_on_elsewhere_to_the_same_bits() {
    let world = World::new();
    // Slow enough to be met.
    world.configure("train { epochs = 60, checkpoints.every-steps = 2 }");
    world.run("pipeline", &["run"]);
    let begun = |folder: &Path| {
        let runs = fs::read_dir(folder.join("data/runs")).into_iter().flatten().flatten();
        runs.map(|run| run.path().join("checkpoints")).any(|folder| {
            fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
        })
    };
    assert!(world.fail("trainer", &["train", "--resume"]).contains("nothing to resume"));
    let mut child = world.spawn("trainer", &["train"]);
    while !begun(world.dir.path()) {
        assert!(child.try_wait().unwrap().is_none(), "the training ended before it was cut");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let to = address(&world, "saved");
    world.run("archive", &["save", "--to", &to, "--with", "dataset,runs"]);

    let other = elsewhere(&to);
    let (_, said) = other.run("trainer", &["train", "--resume"]);
    assert!(said.contains("goes on from step"), "{said}");
    world.run("trainer", &["train"]);
    assert_eq!(other.manifest("checkpoint")["outputs"], world.manifest("checkpoint")["outputs"]);
}

#[test]
fn a_score_is_traced_to_the_raw_files_and_two_builds_are_told_apart() {
    let world = World::new();
    world.road(&[]);
    let (text, _) = world.run("archive", &["lineage"]);
    for kind in ledger::ARTIFACT_KINDS {
        assert!(text.contains(&format!("{kind} {}", world.manifest(kind)["key"].as_str().unwrap())), "{kind} in {text}");
    }
    let raw = world.manifest("raw");
    for (path, file) in raw["outputs"].as_object().unwrap() {
        assert!(text.contains(&file["blake3"].as_str().unwrap()[..12]) && text.contains(path), "{path} in {text}");
    }
    let page = fs::read_to_string(world.path("data/reports/lineage.html")).unwrap();
    assert_eq!(page.matches("<rect").count(), STAGES.len());
    assert!(page.contains(raw["outputs"].as_object().unwrap().values().next().unwrap()["blake3"].as_str().unwrap()));
    let json: Value = serde_json::from_str(&world.run("archive", &["lineage", "--of", "checkpoint", "--json"]).0).unwrap();
    let kinds: BTreeSet<&str> = json["artifacts"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["checkpoint", "functions", "raw", "syntax", "tokens", "vocabulary"]));
    // What is served leads back too.
    let served = world.path("data/serve/current").display().to_string();
    assert!(world.run("archive", &["lineage", "--of", &served]).0.starts_with("bundle "));

    let before = world.manifest("scores")["key"].as_str().unwrap().to_owned();
    world.configure("index.segment-rows = 7\ntrain { epochs = 2, seed = 9 }");
    world.road(&[]);
    let (text, _) = world.run("archive", &["diff", &format!("scores:{}", &before[..6]), "scores"]);
    let block = |kind: &str| text.split(&format!("{kind} ")).nth(1).unwrap().split("bytes").next().unwrap().trim().to_owned();
    assert_eq!((block("tokens"), block("checkpoint"), block("bundle")), ("same".into(), "other".into(), "other".into()), "{text}");
    assert!(
        text.contains("config epochs") && text.contains("6 -> 2") && text.contains("config segment-rows") && text.contains("20 -> 7"),
        "{text}"
    );
    assert!(text.contains("report ") && text.contains("input embeddings"), "{text}");
    assert!(world.fail("archive", &["diff", "scores:zz", "scores"]).contains("begins with"));
}

/// Keys of a kind that are on disk.
fn keys(world: &World, kind: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(world.path("data").join(kind)).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn what_nothing_reaches_is_shown_and_then_removed() {
    let world = World::new();
    world.road(&[]);
    assert!(world.run("archive", &["gc"]).0.contains("nothing to remove"));
    let first = keys(&world, "vocabulary").pop_first().unwrap();
    let build = |size: u32| {
        world.configure(&format!("vocab.size = {size}\npublish.keep = 2"));
        world.road(&[]);
        world.manifest("vocabulary")["key"].as_str().unwrap().to_owned()
    };
    let pinned = build(480);
    world.run("archive", &["pin", "good", "--of", "scores"]);
    assert!(world.run("archive", &["pin"]).0.starts_with("good scores "));
    let (third, fourth, fifth) = (build(460), build(440), build(420));
    // Published are the last two, and the pinned one that `prune` let be.
    let bundles = || fs::read_dir(world.path("data/serve/bundles")).unwrap().count();
    assert_eq!(bundles(), 3);
    let (shown, _) = world.run("archive", &["gc"]);
    assert!(shown.contains(&first) && shown.contains(&third) && shown.contains("would be free"), "{shown}");
    assert!(![&pinned, &fourth, &fifth].iter().any(|key| shown.contains(*key)), "{shown}");
    assert_eq!(keys(&world, "vocabulary").len(), 5, "shown, not removed");

    // Not under a running stage: the lock is waited for.
    let held = fs::File::options().write(true).open(world.path("data/.lock")).unwrap();
    held.lock().unwrap();
    let mut waiting = world.spawn("archive", &["gc", "--yes"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(waiting.try_wait().unwrap().is_none());
    assert_eq!(keys(&world, "vocabulary").len(), 5);
    drop(held);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(keys(&world, "vocabulary"), BTreeSet::from([pinned.clone(), fourth.clone(), fifth.clone()]));
    assert!(stale(&world).is_empty(), "{:?}", stale(&world));
    assert!(world.run("archive", &["verify"]).0.contains("intact"));
    let (text, _) = world.run("archive", &["lineage", "--of", world.path("data/serve/current").to_str().unwrap()]);
    assert!(!text.contains("is not here"), "{text}");

    world.run("archive", &["unpin", "good"]);
    assert!(world.fail("archive", &["unpin", "good"]).contains("nothing is pinned as good"));
    // Still published, so still kept, until a later build prunes it.
    assert!(world.run("archive", &["gc"]).0.contains("nothing to remove"));
    build(400);
    let (removed, _) = world.run("archive", &["gc", "--yes", "--json"]);
    let removed: Value = serde_json::from_str(&removed).unwrap();
    assert!(removed["removed"] == true && removed["bytes"].as_u64().unwrap() > 0, "{removed}");
    assert!(!keys(&world, "vocabulary").contains(&pinned));
}

/// The specification's required members (`required` of RunEvent, Run, Job, Dataset and BaseFacet in OpenLineage.json 2-0-2).
fn require_event(event: &Value) {
    for member in ["eventTime", "producer", "schemaURL"] {
        assert!(event[member].is_string(), "{member} in {event}");
    }
    assert!(
        event["producer"].as_str().unwrap().contains(':')
            && event["schemaURL"].as_str().unwrap().starts_with("https://openlineage.io/spec/")
    );
    let time = event["eventTime"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    assert!(["START", "COMPLETE", "FAIL"].contains(&event["eventType"].as_str().unwrap()));
    let id: Vec<&str> = event["run"]["runId"].as_str().unwrap().split('-').collect();
    assert!(id.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && id.concat().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
    assert!(event["job"]["namespace"].is_string() && event["job"]["name"].is_string());
    let facets = |value: &Value| value.as_object().into_iter().flatten().map(|(_, facet)| facet.clone()).collect::<Vec<_>>();
    let mut all = [facets(&event["run"]["facets"]), facets(&event["job"]["facets"])].concat();
    for dataset in event["inputs"].as_array().unwrap().iter().chain(event["outputs"].as_array().unwrap()) {
        assert!(dataset["namespace"].is_string() && dataset["name"].is_string());
        all.extend([facets(&dataset["facets"]), facets(&dataset["outputFacets"])].concat());
    }
    for facet in all {
        assert!(facet["_producer"].is_string() && facet["_schemaURL"].as_str().unwrap().starts_with("https://openlineage.io/"), "{facet}");
    }
}

#[test]
fn every_run_of_a_stage_is_an_openlineage_event() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    // One that fails.
    world.configure("vocab { size = 3 }");
    world.fail("pipeline", &["run"]);
    let lines = fs::read_to_string(world.path("data/events/openlineage.jsonl")).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.iter().for_each(require_event);
    let told: Vec<(&str, &str)> =
        events.iter().map(|event| (event["job"]["name"].as_str().unwrap(), event["eventType"].as_str().unwrap())).collect();
    let whole = ["harvest", "ingest", "parse", "vocab", "tokenize"].into_iter().flat_map(|stage| [(stage, "START"), (stage, "COMPLETE")]);
    let expected: Vec<_> = whole.chain([("vocab", "START"), ("vocab", "FAIL")]).collect();
    assert_eq!(told, expected);
    for pair in events.chunks(2) {
        assert_eq!(pair[0]["run"]["runId"], pair[1]["run"]["runId"]);
    }
    let parse = &events[5];
    let version = |dataset: &Value| dataset["facets"]["version"]["datasetVersion"].as_str().unwrap().to_owned();
    assert_eq!(version(&parse["inputs"][0]), world.manifest("syntax")["inputs"]["functions"]["digest"].as_str().unwrap());
    assert_eq!(parse["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], world.manifest("syntax")["rows"]["written"]);
    assert!(events.last().unwrap()["run"]["facets"]["errorMessage"]["message"].is_string());

    // To a file, each once; a torn line waits for its end.
    let file = world.path("received.jsonl");
    let send = || world.run("archive", &["events", "--to", file.to_str().unwrap()]).0;
    fs::write(world.path("data/events/openlineage.jsonl"), format!("{lines}{{\"torn")).unwrap();
    assert!(send().starts_with("12 events sent"));
    assert!(send().starts_with("0 events sent"));
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 12);

    // To a server that breaks down in the middle: it gets each once in the end.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::Write;
        let (mut bodies, mut requests) = (Vec::new(), 0);
        while bodies.len() < 12 {
            let (mut stream, _) = listener.accept().unwrap();
            let body = read_post(&mut stream);
            requests += 1;
            let answer = if requests == 6 { "503 Service Unavailable" } else { "201 Created" };
            if requests != 6 {
                bodies.push(body);
            }
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
        bodies
    });
    let said = world.fail("archive", &["events", "--to", &address]);
    assert!(said.contains("503") && said.contains("5 events were sent before"), "{said}");
    let (said, _) = world.run("archive", &["events", "--to", &address]);
    assert!(said.starts_with("7 events sent"), "{said}");
    assert_eq!(server.join().unwrap(), events);
}

/// The body of one request.
fn read_post(stream: &mut std::net::TcpStream) -> Value {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /api/v1/lineage "), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|text| text.parse::<usize>().unwrap()));
        if body.len() >= length.unwrap() {
            return serde_json::from_str(body).unwrap();
        }
    }
}

#[test]
fn two_savers_at_once_and_a_saver_that_is_killed_leave_whole_records() {
    let (a, b) = (World::new(), World::new());
    a.run("pipeline", &["run"]);
    b.configure("parse.max-ast-tokens = 99");
    b.run("pipeline", &["run"]);
    let to = address(&a, "saved");
    // Both to one place, the second also over and over under the first one's name.
    let savers: Vec<_> = (0..6)
        .map(|number| {
            let (world, name) = if number % 2 == 0 { (&a, "a") } else { (&b, "b") };
            world.spawn("archive", &["save", "--to", &to, "--with", "all", "--name", if number < 4 { name } else { "both" }])
        })
        .collect();
    for mut saver in savers {
        assert!(saver.wait().unwrap().success());
    }
    assert!(a.run("archive", &["verify", "--from", &to]).0.contains("3 records"));
    let digests =
        |world: &World| ["raw", "functions", "syntax", "vocabulary", "tokens"].map(|kind| world.manifest(kind)["outputs"].clone());
    for (name, expected) in [("a", digests(&a)), ("b", digests(&b))] {
        let other = World::empty();
        other.run("archive", &["restore", "--from", &to, "--with", "all", "--name", name]);
        assert_eq!(digests(&other), expected);
    }
    // Killed at any moment: no record is found that is not whole, and the next save ends it.
    let to = address(&a, "cut");
    let (mut killed, mut left) = (0, 0);
    for delay in [2, 5, 9, 14, 20, 30, 45] {
        let mut child = a.spawn("archive", &["save", "--to", &to, "--with", "all"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
        if PathBuf::from(&to).join("refs/latest").exists() {
            a.run("archive", &["verify", "--from", &to]);
        }
    }
    a.run("archive", &["save", "--to", &to, "--with", "all"]);
    // A restore that is killed goes on as well.
    let other = World::empty();
    for delay in [3, 8, 15, 25, 40] {
        let mut child = other.spawn("archive", &["restore", "--from", &to, "--with", "all"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
        left += u32::from(other.path("data/.restoring").exists());
    }
    assert!(killed >= 4 && left >= 1, "{killed} of 12 were killed before their end, {left} restores under way");
    other.run("archive", &["restore", "--from", &to, "--with", "all"]);
    assert_eq!(digests(&other), digests(&a));
    assert!(other.run("archive", &["verify"]).0.contains("intact") && !other.path("data/.restoring").exists());
}

#[test]
fn a_damaged_object_is_named_and_nothing_of_it_is_restored() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let to = address(&world, "saved");
    world.run("archive", &["save", "--to", &to, "--with", "all"]);
    // A shard's object, then a list of files, then a name.
    let manifest = world.manifest("syntax");
    let (path, file) = manifest["outputs"].as_object().unwrap().iter().find(|(path, _)| path.ends_with(".parquet")).unwrap();
    let digest = file["blake3"].as_str().unwrap();
    let object = Path::new(&to).join("objects").join(&digest[..2]).join(digest);
    let record = fs::read_dir(Path::new(&to).join("records")).unwrap().next().unwrap().unwrap().path();
    for (damaged, named) in [(&object, digest), (&record, "records/"), (&Path::new(&to).join("refs/latest"), "refs/latest")] {
        let bytes = fs::read(damaged).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x40;
        fs::write(damaged, &flipped).unwrap();
        let other = World::empty();
        let said = other.fail("archive", &["restore", "--from", &to, "--with", "all"]);
        assert!(said.contains(named) || said.contains("is missing"), "{said}");
        assert!(!other.path("data/syntax").exists(), "nothing is sealed");
        let output = other.try_run("archive", &["verify", "--from", &to]);
        let (listed, said) = texts(&output);
        assert!(!output.status.success() && (listed.contains(named) || said.contains(named)), "{listed}{said}");
        fs::write(damaged, &bytes).unwrap();
        // What was fetched stays: the rest comes.
        other.run("archive", &["restore", "--from", &to, "--with", "all"]);
        assert_eq!(other.manifest("syntax"), manifest);
    }
    // A local file that is damaged is not saved as if it were whole.
    let file = world.artifact("syntax").join(path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, bytes).unwrap();
    let said = world.fail("archive", &["save", "--to", &address(&world, "fresh"), "--with", "all"]);
    assert!(said.contains("is damaged: run `make verify`"), "{said}");
    assert!(!world.path("fresh/refs").exists());
}
