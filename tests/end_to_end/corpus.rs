//! What is measured of a corpus: fidelity, recall of near-duplicates, the picture; and the predecessor's settings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::world::{ROOT, World};

fn report(world: &World, name: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path("data/reports").join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Records that CodeSearchNet's dialect wrote agree with what is derived from them by themselves.
#[test]
fn our_own_records_agree_with_themselves() {
    let world = World::new();
    world.configure("harvest.dialect = codesearchnet");
    world.run("pipeline", &["harvest"]);
    let raw = world.artifact("raw");
    world.run("pipeline", &["fidelity", "--csn", &raw.display().to_string()]);
    let fidelity = report(&world, "fidelity");
    for language in ["go", "java", "javascript", "php", "python", "ruby"] {
        // A JavaScript function that is a value is named by what it is assigned to, outside of it.
        let names = if language == "javascript" { &[][..] } else { &["func_name"] };
        for field in ["code_tokens", "docstring_tokens"].iter().chain(names) {
            let share = fidelity[format!("agreement.{language}.{field}")].as_f64().unwrap();
            assert!((share - 1.0).abs() < 1e-12, "{language} {field}: {share}");
        }
    }
    assert!(world.fail("pipeline", &["fidelity", "--csn", "/nowhere"]).contains("is not a folder"));
}

/// The goals of docs/fidelity.md, where true records are at hand.
#[test]
fn true_records_are_derived_again() {
    let Some(shared) = std::env::var_os("TRUE_RECORDS").map(PathBuf::from) else {
        eprintln!("skipped: set TRUE_RECORDS to a folder of true CodeSearchNet records");
        return;
    };
    let world = World::empty();
    let (said, _) = world.run("pipeline", &["fidelity", "--csn", &shared.display().to_string()]);
    let fidelity = report(&world, "fidelity");
    for language in ["python", "ruby"] {
        for (field, least) in [("func_name", 0.995), ("code_tokens", 0.99), ("docstring_tokens", 0.98)] {
            let share = fidelity[format!("agreement.{language}.{field}")].as_f64().unwrap();
            assert!(share >= least, "{language} {field}: {share}\n{said}");
        }
    }
    assert!(said.contains("theirs an empty token, ours `*`"), "every kind of difference has an example: {said}");
}

#[test]
fn perturbed_rows_are_the_same_every_time_and_their_near_duplicates_are_found() {
    let world = World::new();
    world.run("pipeline", &["harvest"]);
    let raw = world.artifact("raw");
    fs::rename(&raw, world.path("originals")).unwrap();
    let source = format!("{{ kind = perturbed, path = \"{}\", rows = 1500, seed = 3 }}", world.path("originals").display());
    world.configure(&format!("harvest.source = null\nharvest.source {source}\nharvest.records-per-file = 200"));
    let digests: Vec<Value> = ["1", "2"]
        .iter()
        .map(|threads| {
            fs::remove_dir_all(world.path("data")).unwrap();
            world.run("pipeline", &["run", "--threads", threads]);
            Value::from_iter(["raw", "functions", "syntax", "tokens"].map(|kind| world.manifest(kind)["outputs"].clone()))
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    let functions = world.manifest("functions")["report"].clone();
    assert_eq!(functions["lines"], 1500);
    let raw = world.artifact("raw").display().to_string();
    world.run("pipeline", &["duplicates", "--csn", &raw]);
    let recall = report(&world, "duplicates");
    assert!(recall["by_force"].as_u64().unwrap() > 50, "{recall}");
    assert!(recall["recall"].as_f64().unwrap() >= 0.99, "{recall}");
    assert_eq!(recall["by_search"], functions["duplicates"], "the stage leaves out the same");
}

#[test]
fn the_picture_of_the_corpus_is_one_page() {
    let world = World::new();
    assert!(world.fail("pipeline", &["explore"]).contains("no functions recorded"));
    world.run("pipeline", &["harvest"]);
    world.run("pipeline", &["ingest"]);
    let page = |said: String| fs::read_to_string(PathBuf::from(said.trim())).unwrap();
    let few = page(world.run("pipeline", &["explore"]).0);
    assert!(few.contains("Rows by language and split") && !few.contains("Fertility"));
    world.run("pipeline", &["run"]);
    let page = page(world.run("pipeline", &["explore"]).0);
    for part in
        ["Largest repositories", "What was left out", "code tokens", "Fertility", "cyclomatic", "Samples", "structure: <code>function "]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("src="), "nothing is loaded");
}

/// The configuration of the whole corpus is whole.
#[test]
fn the_public_corpus_is_named_as_it_can_be_fetched() {
    let conf = Path::new(ROOT).join("conf/codesearchnet.conf");
    let harvest: pipeline::harvest::Config = ledger::conf::Conf::load(&conf).unwrap().section("harvest").unwrap();
    let Some(pipeline::harvest::Source::Urls { files, .. }) = harvest.source else { panic!("a source of URLs") };
    assert_eq!(files.len(), 6);
    assert_eq!(files.iter().map(|file| file.bytes.unwrap()).sum::<u64>(), 5_117_370_511, "as the Hub recorded it");
    for file in files {
        assert_eq!((file.sha256.len(), file.mirrors.len()), (64, 2), "{}", file.name);
        assert!(file.mirrors.iter().all(|url| url.starts_with("https://") && url.contains(&file.name)));
    }
}
