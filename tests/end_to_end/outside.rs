//! A reader in Python, with nothing of ours but the bundle, finds what `indexer search` finds.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde_json::Value;

use crate::world::{World, texts};

/// A Python with the reader's libraries, made once for all tests.
pub fn python() -> &'static PathBuf {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside-reader");
        let pins = fs::read_to_string(folder().join("requirements.txt")).unwrap();
        let stamp = venv.join("pins.txt");
        if fs::read_to_string(&stamp).ok().as_deref() != Some(&pins) {
            let _ = fs::remove_dir_all(&venv);
            let step = |command: &mut Command| {
                let output = command.output().unwrap();
                assert!(output.status.success(), "making the reader's environment: {}", texts(&output).1);
            };
            step(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            step(
                Command::new(venv.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "-r"])
                    .arg(folder().join("requirements.txt")),
            );
            fs::write(&stamp, &pins).unwrap();
        }
        venv.join("bin/python")
    });
    &PYTHON
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("outside")
}

/// A script of ours by the Python that has the outside libraries.
pub fn script(script: &str, argument: &Path, input: &Value) -> Value {
    let mut child = Command::new(python())
        .arg(folder().join(script))
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", texts(&output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_outside_reader_gets_the_same_top_ten() {
    let world = World::new();
    world.road(&[]);
    compare(&world);
    world.configure("index.fusion = null\nindex.fusion { kind = rrf, k = 60 }\nindex.boosts.name = 0.12");
    world.run("indexer", &["run"]);
    assert!(world.run("indexer", &["run"]).1.lines().any(|line| line.starts_with("index ") && line.contains("fresh")), "0.12 is 0.12");
    compare(&world);
    for fusion in [
        "{ kind = sum, weight = 0.6 }",
        "{ kind = learned, split = valid, from = null, queries = 50, candidates = 100, least = 2, otherwise = 0.5, penalty = 0.01 }",
    ] {
        world.configure(&format!("index.fusion = null\nindex.fusion {fusion}"));
        world.run("indexer", &["run"]);
        compare(&world);
    }
    // What was taken out, it leaves out too.
    let (found, _) = world.run("indexer", &["search", "mean of numbers", "--json", "--limit", "1"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    fs::write(world.path("ids.txt"), found[0]["id"].as_str().unwrap()).unwrap();
    world.run("indexer", &["retract", world.path("ids.txt").to_str().unwrap()]);
    compare(&world);
}

/// Every kind of vocabulary is one `tokenizer.json` that the Python library reads and encodes with as we do.
#[test]
fn python_encodes_as_we_do() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    for settings in [
        "vocab { model = byte-level, code-text = words }",
        "vocab { model = byte-level, code-text = ast, lowercase = false, size = 700 }",
        "vocab { model = char-level, code-text = subtokens, strip-accents = true }",
        "vocab { model = char-level, code-text = ast, learn-from = tokens, size = 700 }",
        "vocab { model = char-level, code-text = structure, lowercase = false }",
    ] {
        world.configure(settings);
        world.run("pipeline", &["run"]);
        let path = world.artifact("vocabulary").join("tokenizer.json");
        let tokenizer = pipeline::tokenize::load(&path).unwrap();
        let mut samples: Vec<String> =
            ["caf\u{e9} \u{c9}COLE na\u{ef}ve", "<qy> parse\tHTTPDate </id> <python> x<unk>y", "\u{4e16}\u{754c} \u{1f600} \u{ff46}", ""]
                .map(str::to_owned)
                .into();
        let syntax = ledger::Shards::open(&world.artifact("syntax")).unwrap();
        for shard in syntax.iter() {
            for batch in ledger::table::read(&shard.path, &["ast_tokens", "subtokens", "structure"]).unwrap() {
                let batch = batch.unwrap();
                for column in ["ast_tokens", "subtokens", "structure"] {
                    let lists = ledger::table::text_lists(&batch, column).unwrap();
                    samples.extend((0..batch.num_rows()).map(|row| lists.row(row).collect::<Vec<_>>().join(" ")));
                }
            }
        }
        let mut child =
            Command::new(python()).arg(folder().join("encode.py")).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines: String = samples.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let theirs: Vec<Vec<u32>> = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
        let mut words = pipeline::tokenize::Words::new(&tokenizer);
        assert_eq!(theirs.len(), samples.len());
        for (text, theirs) in samples.iter().zip(theirs) {
            assert_eq!(words.encode(text, usize::MAX).unwrap().ids, theirs, "{settings}: {text}");
        }
    }
}

fn compare(world: &World) {
    let queries = ["parse an ISO date", "readLines of a file", "shortest distance between nodes", "HTTPHeader value", "mean of numbers"];
    for query in queries {
        for mode in ["bm25", "vector", "hybrid"] {
            let (ours, _) = world.run("indexer", &["search", query, "--mode", mode, "--json", "--limit", "10"]);
            let ours: Value = serde_json::from_str(&ours).unwrap();
            let output = Command::new(python())
                .arg(folder().join("read_bundle.py"))
                .arg(world.path("data/serve/current"))
                .args([mode, query])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", texts(&output).1);
            let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
            let names =
                |hits: &Value| hits.as_array().unwrap().iter().map(|hit| (hit["id"].clone(), hit["func_name"].clone())).collect::<Vec<_>>();
            assert_eq!(names(&theirs), names(&ours), "{mode}: {query}");
            for (a, b) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
                let (a, b) = (a["score"].as_f64().unwrap(), b["score"].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{mode}: {query}: {a} and {b}");
            }
        }
    }
}
