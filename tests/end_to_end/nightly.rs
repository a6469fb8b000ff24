//! Nights of a scheduled build.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use serde_json::Value;

use crate::workspace::{CONF, FIXTURES, ROOT, Workspace, copy_tree, git, read_json, source, texts};

/// Runs a night that must end with this exit status, and returns its record.
pub fn night(workspace: &Workspace, arguments: &[&str], status: i32) -> Value {
    let output = workspace.try_run(&[&["nightly", "--json"], arguments].concat());
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read_json(&workspace.path("data/reports/nightly.json")), printed);
    printed
}

fn ran(night: &Value) -> Vec<&str> {
    let stages = night["stages"].as_array().unwrap().iter();
    stages.filter(|stage| stage["ran"] == true).map(|stage| stage["stage"].as_str().unwrap()).collect()
}

/// A workspace after its first night.
fn first_night() -> (Workspace, Value) {
    let workspace = Workspace::tokenized();
    let first = night(&workspace, &[], 0);
    (workspace, first)
}

#[test]
fn the_first_night_trains_a_release_and_the_next_nights_use_it() {
    let (workspace, first) = first_night();
    assert_eq!((&first["ending"], ran(&first).contains(&"train")), (&"published".into(), true), "{first}");
    assert!(first["training"].as_str().unwrap().contains("there is no release yet"), "{first}");
    let release = first["release"].as_str().unwrap();
    let second = night(&workspace, &[], 0);
    assert_eq!((&second["ending"], ran(&second), &second["release"]), (&"unchanged".into(), Vec::new(), &first["release"]), "{second}");
    // A new function, next to one that moves.
    fs::write(
        workspace.path("corpus/math/more.py"),
        "def triple(number):\n    \"\"\"Multiply a number by three.\"\"\"\n    result = 3 * number\n    return result\n",
    )
    .unwrap();
    fs::rename(workspace.path("corpus/text/distance.py"), workspace.path("corpus/text/moved.py")).unwrap();
    let third = night(&workspace, &[], 0);
    assert_eq!(ran(&third), ["harvest", "ingest", "parse", "embed", "index", "evaluate"], "{third}");
    let python = third["functions"].as_array().unwrap().iter().find(|one| one["language"] == "python").unwrap();
    assert!(third["ending"] == "published" && python["added"].as_u64() > python["removed"].as_u64(), "{third}");
    assert_eq!(third["release"], release);
    let page = fs::read_to_string(workspace.path("data/reports/nightly.html")).unwrap();
    assert_eq!(page.matches("<td>published</td>").count() + page.matches("<td>unchanged</td>").count(), 3, "{page}");
    let shown = fs::read_to_string(workspace.path("data/reports/evaluate.key")).unwrap();
    assert!(shown.ends_with(" without-curve"), "{shown}");
    assert_eq!(workspace.search(&["triple"])[0]["func_name"], "triple");
}

#[test]
fn a_night_with_a_release_gives_the_bytes_of_a_build_that_adopts_it() {
    let (workspace, first) = first_night();
    let release = first["release"].as_str().unwrap().to_owned();
    let other = Workspace::copy_of(&workspace);
    other.configure(&format!(
        "adopt.from = data/models/{release}/encoder\nindex.reranking.learned.from = data/models/{release}/reranker.json"
    ));
    fs::remove_dir_all(other.path("data/bundle")).unwrap();
    fs::remove_dir_all(other.path("data/embeddings")).unwrap();
    other.run_until("index");
    assert_eq!(other.manifest("bundle")["outputs"], workspace.manifest("bundle")["outputs"]);
}

/// Adds a function and makes a night of it, which finds it and everything else.
fn night_with(workspace: &Workspace, name: &str) {
    let text =
        format!("def {name}(number):\n    \"\"\"Return the number {name}.\"\"\"\n    result = number, '{name}'\n    return result\n");
    fs::write(workspace.path(&format!("corpus/math/{name}.py")), text).unwrap();
    assert_eq!(night(workspace, &[], 0)["ending"], "published");
    for name in [name, "levenshtein", "parse_iso_date", "ParseHeader"] {
        assert_eq!(workspace.search(&[name])[0]["func_name"], name);
    }
}

#[test]
fn a_night_keeps_the_segments_of_the_bundle_before_unless_they_are_damaged() {
    let (workspace, _) = first_night();
    let documents = || {
        let manifest = read_json(&workspace.path("data/serve/current/manifest.json"));
        (manifest["lexical"]["segments"].as_u64().unwrap(), manifest["lexical"]["documents"].as_u64().unwrap())
    };
    let (segments, rows) = documents();
    night_with(&workspace, "first");
    assert_eq!(documents(), (segments + 1, rows + 1));
    let (reproduced, _) = workspace.run(&["reproduce", "--night"]);
    for part in [
        "harvest   same bytes",
        "embed     same bytes",
        "as an extension of the bundle",
        "100.0 % of the lexical and 100.0 % of the vector",
    ] {
        assert!(reproduced.contains(part), "{part} in {reproduced}");
    }
    // A file of a segment is gone.
    let index = workspace.artifact("bundle").join("bundle/tantivy");
    let norms =
        crate::workspace::files_below(&index).into_iter().find(|file| file.extension().is_some_and(|end| end == "fieldnorm")).unwrap();
    fs::remove_file(norms).unwrap();
    night_with(&workspace, "second");
    // Two documents have each other's row, in the artifact and in the published bundle: their files are one.
    let path = workspace.artifact("bundle").join("bundle/document-rows.npy");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes.copy_within(end - 4..end, end - 8);
    fs::write(&path, bytes).unwrap();
    night_with(&workspace, "third");
    assert_eq!(documents(), (segments, rows + 3), "every segment is written anew");
    fs::remove_file(workspace.path("corpus/math/third.py")).unwrap();
    night(&workspace, &[], 0);
    assert_eq!(documents().1, rows + 3, "the document stays without a row");
    night(&workspace, &["--rebuild-index"], 0);
    assert_eq!(documents(), (segments, rows + 2));
}

/// A function without a node is searched exactly.
#[test]
fn a_night_keeps_the_graphs_of_the_bundle_before_unless_they_are_damaged() {
    let workspace = Workspace::tokenized();
    workspace.configure("index.hnsw { from-rows = 1, graph-rows = 1000 }");
    night(&workspace, &[], 0);
    let graph = |bundle: &Path| fs::metadata(bundle.join("vectors/hnsw-0.usearch")).unwrap().ino();
    let nodes = || read_json(&workspace.path("data/serve/current/manifest.json"))["vectors"]["graphs"]["nodes"].as_u64();
    let (first, rows) = (workspace.artifact("bundle"), workspace.manifest("bundle")["rows"]["written"].as_u64());
    assert_eq!(nodes(), rows);
    night_with(&workspace, "first");
    assert_eq!(nodes(), rows);
    assert_eq!(graph(&workspace.artifact("bundle").join("bundle")), graph(&first.join("bundle")), "the files are one");
    fs::remove_file(workspace.artifact("bundle").join("bundle/vectors/hnsw-0.usearch")).unwrap();
    night_with(&workspace, "second");
    assert_eq!(nodes(), None, "the graph is built anew");
}

/// A file of another name is in another shard.
#[test]
fn functions_of_a_moved_file_are_not_encoded_again() {
    let (workspace, _) = first_night();
    for number in 0..4 {
        let from = if number == 0 { "distance".to_owned() } else { format!("moved{}", number - 1) };
        let name = |name: &str| workspace.path(&format!("corpus/text/{name}.py"));
        fs::rename(name(&from), name(&format!("moved{number}"))).unwrap();
        let (_, err) = texts(&workspace.try_run(&["nightly"]));
        assert!(err.contains("embed     0 texts of"), "{err}");
    }
}

#[test]
fn a_bundle_that_a_gate_refuses_is_held_back_and_published_by_force_with_the_reason() {
    let (workspace, first) = first_night();
    workspace.configure("nightly.grace = 0");
    fs::remove_dir_all(workspace.path("corpus/graphs")).unwrap();
    fs::remove_dir_all(workspace.path("corpus/net")).unwrap();
    let held_back = night(&workspace, &[], 3);
    assert_eq!((&held_back["ending"], &held_back["published"]), (&"held-back".into(), &first["published"]), "{held_back}");
    assert!(held_back["why"].as_str().unwrap().contains("repositories have no functions any more"), "{held_back}");
    let (text, _) = texts(&workspace.try_run(&["nightly", "--quiet"]));
    assert!(text.starts_with("held back: ") && text.contains(first["published"].as_str().unwrap()), "{text}");
    let empty = workspace.fail(&["nightly", "--force", " "]);
    assert!(empty.contains("--force has no reason"), "{empty}");
    let forced = night(&workspace, &["--force", "two repositories are archived"], 0);
    assert_eq!((&forced["ending"], &forced["forced"]), (&"published".into(), &"two repositories are archived".into()), "{forced}");
    let nights = fs::read_to_string(workspace.path("data/reports/nights.jsonl")).unwrap();
    assert_eq!(nights.lines().count(), 5);
}

#[test]
fn a_bundle_in_which_a_known_query_finds_nothing_is_held_back() {
    let (workspace, first) = first_night();
    let queries = "{\"query\": \"levenshtein distance\", \"files\": [\"text/distance.py\", \"distance.py\"]}\n";
    fs::write(workspace.path("queries.jsonl"), queries).unwrap();
    workspace.configure("publish.smoke-queries = queries.jsonl\nindex.candidates = 299");
    assert_eq!(night(&workspace, &[], 0)["ending"], "published");
    fs::write(workspace.path("queries.jsonl"), format!("{queries}{{\"query\": \"bake a cake\", \"files\": [\"cake.py\"]}}\n")).unwrap();
    workspace.configure("publish.smoke-queries = queries.jsonl\nindex.candidates = 298");
    let held_back = night(&workspace, &[], 3);
    let why = held_back["why"].as_str().unwrap();
    assert!(
        why.contains("1 of 2 queries of queries.jsonl find no expected file in 10 hits: \"bake a cake\" finds none of cake.py"),
        "{why}"
    );
    assert!(held_back["published"] != first["published"], "{held_back}");
    fs::write(workspace.path("queries.jsonl"), "{\"query\": \"x\"}").unwrap();
    let wrong = workspace.fail(&["nightly"]);
    assert!(wrong.contains("publish.smoke-queries: queries.jsonl:1: expected {\"query\", \"files\", \"repo\"}"), "{wrong}");
}

#[test]
fn a_night_that_fails_says_why_and_leaves_the_published_bundle() {
    let (workspace, first) = first_night();
    fs::rename(workspace.path("corpus"), workspace.path("away")).unwrap();
    let failed = night(&workspace, &[], 1);
    assert_eq!((&failed["ending"], &failed["published"]), (&"failed".into(), &first["published"]), "{failed}");
    assert!(failed["why"].as_str().unwrap().contains("corpus"), "{failed}");
    fs::rename(workspace.path("away"), workspace.path("corpus")).unwrap();
    assert_eq!(night(&workspace, &[], 0)["ending"], "unchanged");
}

#[test]
fn a_second_night_at_the_same_time_ends_at_once() {
    let workspace = Workspace::published();
    let lock = fs::File::create(workspace.path("data/.run.lock")).unwrap();
    lock.lock().unwrap();
    let output = workspace.try_run(&["nightly"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(texts(&output).1.contains("has the data folder"), "{}", texts(&output).1);
}

#[test]
fn a_policy_trains_again_and_a_pinned_release_does_not() {
    let (workspace, first) = first_night();
    workspace.configure("model.policy = always\ntrain.seed = 1");
    let trained = night(&workspace, &[], 0);
    assert!(ran(&trained).contains(&"train"), "{trained}");
    let verdict = trained["training"].as_str().unwrap();
    let is_promoted = !verdict.contains("not promoted");
    assert_eq!(trained["release"] != first["release"], is_promoted, "{verdict}");
    let listed = || serde_json::from_str::<Vec<Value>>(&workspace.run(&["model", "list", "--json"]).0).unwrap();
    assert_eq!(listed().len(), if is_promoted { 2 } else { 1 });
    let id = first["release"].as_str().unwrap();
    workspace.run(&["model", "pin", id]);
    let pinned = night(&workspace, &[], 0);
    assert!(!ran(&pinned).contains(&"train") && pinned["release"] == id, "{pinned}");
    workspace.run(&["model", "pin", "--off"]);
    assert!(listed().iter().all(|release| release["pinned"] == false));
}

#[test]
fn a_release_is_promoted_by_hand_and_rolled_back() {
    let (workspace, first) = first_night();
    let first = first["release"].as_str().unwrap();
    assert!(workspace.fail(&["model", "rollback"]).contains("there is no release before"));
    let (second, _) = workspace.run(&["model", "promote", "--json"]);
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_ne!(second["release"], first);
    assert!(workspace.run(&["model", "list"]).0.lines().last().unwrap().ends_with("  in use"));
    workspace.run(&["model", "rollback"]);
    assert!(workspace.run(&["model", "list"]).0.lines().next().unwrap().ends_with("  in use"));
    let unknown = workspace.fail(&["model", "pin", "20261122T184000Z-0123456789ab"]);
    assert!(unknown.contains("there is no release 20261122T184000Z-0123456789ab"), "{unknown}");
}

/// The last fields of the line are a command of the shell, with the places of another machine.
#[test]
fn the_line_for_cron_runs_a_night() {
    let workspace = Workspace::trained();
    let crontab = fs::read_to_string(format!("{ROOT}/deploy/crontab")).unwrap();
    let line = crontab.lines().find(|line| !line.starts_with('#')).unwrap();
    let command: Vec<&str> = line.split_whitespace().skip(5).collect();
    let own = workspace.command(&["nightly"]);
    let program = format!("'{}'", own.get_program().to_string_lossy());
    let command = command.join(" ").replace("codenets nightly", &format!("{program} nightly"));
    let command = command.replace("/etc/codenets/nightly.conf", CONF).replace("/srv/codenets", "data");
    let mut shell = std::process::Command::new("sh");
    shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.args(["-c", &command]).current_dir(workspace.root()).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success() && err.is_empty() && out.starts_with("published "), "{out}{err}");
}

/// A folder of git repositories, each with the files of a folder of the corpus.
pub fn repositories(workspace: &Workspace) -> std::path::PathBuf {
    let folder = workspace.path("repositories");
    for name in ["dates", "graphs", "math", "net", "store", "text"] {
        let own = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        copy_tree(&workspace.path("corpus").join(name), &own);
        git(&own, &["init", "-q"]);
        git(&own, &["add", "-A"]);
        git(&own, &["commit", "-qm", "first"]);
    }
    folder
}

/// The configuration of the nightly job is complete: it needs a folder of repositories only.
#[test]
fn the_nightly_configuration_reads_a_folder_of_repositories() {
    let workspace = Workspace::tokenized();
    let conf = std::path::Path::new(FIXTURES).join("../../conf/nightly.conf");
    let mut command = workspace.command_with(&conf, &["files", "--json"]);
    let output = command.env("REPOSITORIES", repositories(&workspace)).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    assert!(texts(&output).0.contains("distance.py"), "{}", texts(&output).0);
}

/// Functions of each repository in the published bundle.
fn published_functions(workspace: &Workspace) -> std::collections::BTreeMap<String, u64> {
    let raw = read_json(&workspace.artifact("raw").join("repos.json"));
    raw.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["functions"].as_u64().unwrap())).collect()
}

#[test]
fn a_repository_that_cannot_be_read_keeps_its_functions_and_one_that_is_gone_leaves_when_it_is_accepted() {
    let workspace = Workspace::tokenized();
    let folder = repositories(&workspace);
    let settings = format!("path = {}, each-subfolder = true, revision = HEAD", folder.display());
    workspace.configure(&(source("dir", &settings) + "publish.min-share-of-current = 0"));
    night(&workspace, &[], 0);
    let before = published_functions(&workspace);
    let raw = workspace.artifact("raw");
    // A clone that did not finish, and a repository that is new and damaged.
    let head = fs::read(folder.join("math/.git/HEAD")).unwrap();
    fs::write(folder.join("math/.git/HEAD"), "torn").unwrap();
    fs::create_dir_all(folder.join("new/.git")).unwrap();
    let unreadable = night(&workspace, &[], 0);
    let names: Vec<&str> = unreadable["kept"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["math", "new"], "{unreadable}");
    assert_eq!(published_functions(&workspace), before);
    let text = unreadable["warnings"][0].as_str().unwrap();
    assert!(text.starts_with("repository math cannot be read: ") && text.contains("(1 night)"), "{text}");
    assert!(unreadable["warnings"][1].as_str().unwrap().contains("repository new cannot be read and has no functions"), "{unreadable}");
    assert!(raw.is_dir(), "garbage collection keeps the artifact whose records are kept");
    // Another repository changes meanwhile.
    fs::write(folder.join("text/more.py"), "def triple(number):\n    \"\"\"Multiply a number by three.\"\"\"\n    return 3 * number\n")
        .unwrap();
    git(&folder.join("text"), &["add", "-A"]);
    git(&folder.join("text"), &["commit", "-qm", "more"]);
    let second = night(&workspace, &[], 0);
    assert_eq!(second["kept"][0]["nights"], 2, "{second}");
    let now = published_functions(&workspace);
    assert_eq!((now["math"], now["text"]), (before["math"], before["text"] + 1));
    assert!(!workspace.search(&["mean of numbers", "--repo", "math"]).is_empty());
    // It is whole again, and another one is gone.
    fs::write(folder.join("math/.git/HEAD"), head).unwrap();
    fs::remove_dir_all(folder.join("new")).unwrap();
    fs::rename(folder.join("graphs"), workspace.path("elsewhere")).unwrap();
    let gone = night(&workspace, &[], 0);
    assert!(gone["warnings"][0].as_str().unwrap().contains("repository graphs is gone since"), "{gone}");
    assert_eq!(published_functions(&workspace)["graphs"], before["graphs"]);
    let accepted = night(&workspace, &["--accept-removed"], 0);
    assert_eq!((&accepted["kept"], &accepted["ending"]), (&serde_json::json!([]), &"published".into()), "{accepted}");
    assert_eq!(accepted["warnings"][0], "repository graphs is gone: its functions are removed");
    assert!(!published_functions(&workspace).contains_key("graphs"));
}

/// A process that is killed before any of its system calls leaves the releases of before, or the new one.
#[test]
fn a_promotion_that_is_killed_leaves_no_half_release() {
    let workspace = Workspace::published();
    let mut kills = 0;
    for point in 1.. {
        let output = workspace.command(&["model", "promote"]).env("CODENETS_FAULT", point.to_string()).output().unwrap();
        let (listed, _) = workspace.run(&["model", "list", "--json"]);
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        for release in &listed {
            let encoder = workspace.path("data/models").join(release["id"].as_str().unwrap()).join("encoder");
            assert!(["encoder.json", "encoder.onnx", "tokenizer.json"].iter().all(|file| encoder.join(file).is_file()), "{release}");
        }
        if output.status.success() {
            assert!(listed.last().unwrap()["current"] == true);
            break;
        }
        kills += 1;
    }
    assert!(kills >= 5, "{kills}");
    assert_eq!(night(&workspace, &[], 0)["training"], Value::Null);
}

#[test]
fn a_commit_without_changed_functions_is_published_with_its_links() {
    let workspace = Workspace::tokenized();
    let folder = repositories(&workspace);
    let template = "https://git.example.org/{repo}/blob/{commit}/{path}#L{line}";
    let settings = format!("path = {}, each-subfolder = true, revision = HEAD, url-template = \"{template}\"", folder.display());
    workspace.configure(&(source("dir", &settings) + "publish.min-share-of-current = 0"));
    night(&workspace, &[], 0);
    let link = |commit: &str| format!("https://git.example.org/text/blob/{commit}/distance.py#L");
    let first = git(&folder.join("text"), &["rev-parse", "HEAD"]);
    let hit = workspace.search(&["levenshtein"]).remove(0);
    assert!(hit["url"].as_str().unwrap().starts_with(&link(&first)) && hit["commit"] == first.as_str(), "{hit}");
    fs::write(folder.join("text/README"), "Texts.\n").unwrap();
    git(&folder.join("text"), &["add", "-A"]);
    git(&folder.join("text"), &["commit", "-qm", "readme"]);
    let second = night(&workspace, &[], 0);
    assert_eq!((ran(&second), &second["ending"]), (vec!["harvest", "ingest"], &"published".into()), "{second}");
    let commit = git(&folder.join("text"), &["rev-parse", "HEAD"]);
    assert!(workspace.search(&["levenshtein"])[0]["url"].as_str().unwrap().starts_with(&link(&commit)));
    workspace.configure(&source("dir", &settings.replace("{line}", "{lines}")));
    assert!(workspace.fail(&["nightly"]).contains("url-template of a source has {lines}"));
}

#[test]
fn damaged_scores_of_the_published_bundle_do_not_hold_it_back() {
    let (workspace, first) = first_night();
    let scores = workspace.path("data/serve/current/scores.json");
    fs::remove_file(&scores).unwrap();
    fs::write(&scores, "{").unwrap();
    let second = night(&workspace, &[], 0);
    assert!(second["ending"] == "published" && second["published"] != first["published"], "{second}");
    assert!(second["warnings"][0].as_str().unwrap().starts_with("the published bundle is damaged"), "{second}");
}
