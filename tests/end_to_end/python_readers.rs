//! Readers in Python that have nothing of ours but the bundle: they find what `codenets search` finds.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde_json::Value;

use crate::workspace::{Workspace, fusion, texts};

/// A Python with the libraries of the readers and of MLflow's server: one environment for all tests, which `make test` deletes when they
/// pass.
pub fn python() -> &'static PathBuf {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let pins = fs::read_to_string(folder().join("requirements.txt")).unwrap();
        let stamp = venv.join("pins.txt");
        if fs::read_to_string(&stamp).ok().as_deref() != Some(&pins) {
            let _ = fs::remove_dir_all(&venv);
            let step = |command: &mut Command| {
                let output = command.output().unwrap();
                assert!(output.status.success(), "installing the libraries of tests/outside: {}", texts(&output).1);
            };
            step(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            step(
                Command::new(venv.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:", "-r"])
                    .arg(folder().join("requirements.txt")),
            );
            fs::write(&stamp, &pins).unwrap();
        }
        venv.join("bin/python")
    });
    &PYTHON
}

/// Where the scripts are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/outside")
}

/// Runs a script with an argument and text on standard input; the JSON that it prints.
pub fn script(script: &str, argument: &Path, input: &str) -> Value {
    let mut child = Command::new(python())
        .arg(folder().join(script))
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", texts(&output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Hits of a Python reader of bundles.
pub fn read_bundle(reader: &str, bundle: &Path, mode: &str, query: &str) -> Vec<Value> {
    let output = Command::new(python()).arg(folder().join(reader)).arg(bundle).args([mode, query]).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Requires that both readers find the same ten functions with the same scores.
pub fn require_equal_hits(workspace: &Workspace) {
    let queries = [
        "parse_iso_date",
        "Clock",
        "distance.py",
        "parse an ISO date",
        "readLines of a file",
        "shortest distance between nodes",
        "HTTPHeader value",
        "mean of numbers",
        "pârse an ISO däte",
        "读取配置文件 of a file",
    ];
    for query in queries {
        for mode in ["bm25", "vector", "hybrid"] {
            let ours = workspace.search(&[query, "--mode", mode, "--limit", "10"]);
            let theirs = read_bundle("read_bundle.py", &workspace.path("data/serve/current"), mode, query);
            let names = |hits: &[Value]| hits.iter().map(|hit| (hit["id"].clone(), hit["func_name"].clone())).collect::<Vec<_>>();
            assert_eq!(names(&theirs), names(&ours), "{mode}: {query}");
            for (a, b) in ours.iter().zip(&theirs) {
                let (a, b) = (a["score"].as_f64().unwrap(), b["score"].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{mode}: {query}: {a} and {b}");
            }
        }
    }
}

#[test]
fn a_python_reader_finds_the_same_ten_functions() {
    require_equal_hits(&Workspace::published());
}

#[test]
fn a_python_reader_fuses_by_reciprocal_ranks() {
    let workspace = Workspace::published();
    workspace.configure(&(fusion("rrf", "k = 60") + "index.bm25f.fields.name.weight = 0.12"));
    workspace.run_all();
    // 0.12 has no exact binary form: the second run still finds the recorded artifact.
    assert!(workspace.run_all().lines().any(|line| line.starts_with("index ") && !line.contains("runs:")));
    require_equal_hits(&workspace);
}

#[test]
fn a_python_reader_fuses_by_a_sum() {
    let workspace = Workspace::published();
    workspace.configure(&fusion("sum", "weight = 0.6"));
    workspace.run_all();
    require_equal_hits(&workspace);
}

#[test]
fn a_python_reader_fuses_by_learned_weights() {
    let workspace = Workspace::published();
    workspace.configure(&fusion(
        "learned",
        "split = valid, from = null, queries = 50, candidates = 100, least = 2, otherwise = 0.5, penalty = 0.01",
    ));
    workspace.run_all();
    require_equal_hits(&workspace);
}

#[test]
fn a_python_reader_leaves_out_retracted_functions() {
    let workspace = Workspace::published();
    let found = workspace.search(&["mean of numbers", "--limit", "1"]);
    fs::write(workspace.path("ids.txt"), found[0]["id"].as_str().unwrap()).unwrap();
    workspace.run(&["retract", "ids.txt"]);
    require_equal_hits(&workspace);
}

/// Texts with accents, case, special tokens and rare characters, and every row of three columns of the corpus.
fn samples(workspace: &Workspace) -> Vec<String> {
    let mut samples: Vec<String> =
        ["caf\u{e9} \u{c9}COLE na\u{ef}ve", "<qy> parse\tHTTPDate </id> <python> x<unk>y", "\u{4e16}\u{754c} \u{1f600} \u{ff46}", ""]
            .map(str::to_owned)
            .into();
    let syntax = ledger::Shards::open(&workspace.artifact("syntax")).unwrap();
    for shard in syntax.iter() {
        for batch in ledger::table::read(&shard.path, &["ast_tokens", "subtokens", "structure"]).unwrap() {
            let batch = batch.unwrap();
            for column in ["ast_tokens", "subtokens", "structure"] {
                let lists = ledger::table::text_lists(&batch, column).unwrap();
                samples.extend((0..batch.num_rows()).map(|row| lists.row(row).collect::<Vec<_>>().join(" ")));
            }
        }
    }
    samples
}

/// Every kind of vocabulary is one `tokenizer.json`, with which the Python library encodes as we do.
#[test]
fn python_encodes_as_we_do() {
    let workspace = Workspace::tokenized();
    let samples = samples(&workspace);
    let lines: String = samples.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
    for settings in [
        "vocab { model = byte-level, code-text = words }",
        "vocab { model = byte-level, code-text = ast, lowercase = false, size = 700 }",
        "vocab { model = char-level, code-text = subtokens, strip-accents = true }",
        "vocab { model = char-level, code-text = ast, learn-from = tokens, size = 700 }",
        "vocab { model = char-level, code-text = structure, lowercase = false }",
    ] {
        workspace.configure(settings);
        workspace.run_until("vocab");
        let path = workspace.artifact("vocabulary").join("tokenizer.json");
        let tokenizer = pipeline::tokenize::load(&path).unwrap();
        let theirs: Vec<Vec<u32>> = serde_json::from_value(script("encode.py", &path, &lines)).unwrap();
        let mut words = pipeline::tokenize::Words::new(&tokenizer);
        assert_eq!(theirs.len(), samples.len());
        for (text, theirs) in samples.iter().zip(theirs) {
            assert_eq!(words.encode(text, usize::MAX).unwrap().ids, theirs, "{settings}: {text}");
        }
    }
}
