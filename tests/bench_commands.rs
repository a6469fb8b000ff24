//! `codenets-bench` on the data folder of tests/fixtures.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The unpacked data folder.
static DATA: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-commands");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let archive = fs::File::open(Path::new(ROOT).join("tests/fixtures/data.tar.gz")).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(&folder).unwrap();
    folder.join("data")
});

/// The JSON that a command prints.
fn run(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets-bench"));
    command.args(arguments).arg("--data").arg(&*DATA).arg("--json");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn artifact(kind: &str) -> String {
    let key = fs::read_to_string(DATA.join(kind).join("CURRENT")).unwrap();
    DATA.join(kind).join(key.trim()).display().to_string()
}

#[test]
fn latency_has_percentiles_of_every_mode_and_writes_a_report() {
    let found = run(&["latency", "--queries", "5"]);
    for mode in ["bm25", "vector", "hybrid"] {
        assert!(found[format!("search_{mode}_p50_ms")].as_f64().unwrap() > 0.0, "{found}");
    }
    let report: Value = serde_json::from_slice(&fs::read(DATA.join("reports/bench.json")).unwrap()).unwrap();
    assert_eq!(report["search_queries"], 5);
}

/// Bound outputs are how a GPU is used.
#[test]
fn embeddings_are_the_same_with_bound_outputs() {
    let (encoder, syntax) = (artifact("encoder"), artifact("syntax"));
    let arguments = ["measure", "embed", "--encoder", &encoder, "--syntax", &syntax];
    let plain = run(&arguments);
    assert!(plain["rows"].as_u64().unwrap() > 20, "{plain}");
    assert_eq!(run(&[&arguments[..], &["--bind"]].concat())["vectors"], plain["vectors"]);
}

#[test]
fn both_writers_of_a_lexical_index_write_every_row() {
    for engine in ["ours", "bare"] {
        let found = run(&["measure", "lexical", "--syntax", &artifact("syntax"), "--engine", engine]);
        assert!(found["rows"].as_u64().unwrap() > 20 && found["bytes"].as_u64().unwrap() > 0, "{found}");
    }
}

/// Writes unit vectors as an .npy file of version 1.
fn write_npy(path: &Path, rows: usize, dimension: usize) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header += "\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    for row in 0..rows {
        let angle = row as f32 * 0.1;
        let numbers = (0..dimension).map(|column| {
            if column == 0 {
                angle.cos()
            } else if column == 1 {
                angle.sin()
            } else {
                0.0
            }
        });
        bytes.extend(numbers.flat_map(f32::to_le_bytes));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn vectors_are_searched_exactly_and_in_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let (matrix, queries) = (folder.path().join("matrix.npy"), folder.path().join("queries.npy"));
    write_npy(&matrix, 60, 32);
    write_npy(&queries, 5, 32);
    let found = run(&["measure", "vectors", "--matrix", matrix.to_str().unwrap(), "--queries", queries.to_str().unwrap()]);
    assert!(found["exact"]["recall"].as_f64().unwrap() > 0.9, "{found}");
    let points = found["hnsw"]["points"].as_array().unwrap();
    assert!(points.last().unwrap()["recall"].as_f64().unwrap() > 0.9, "{found}");
}

#[test]
fn training_steps_are_timed() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = folder.path().join("lengths.json");
    fs::write(&lengths, json!({ "vocabulary": 100, "batches": [{ "query": [3, 5], "code": [9, 4] }] }).to_string()).unwrap();
    let conf = Path::new(ROOT).join("conf/base.conf");
    let found = run(&["train-steps", "--conf", conf.to_str().unwrap(), "--lengths", lengths.to_str().unwrap(), "--steps", "3"]);
    assert_eq!(found["seconds"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(found["samples"], json!([2, 2, 2]));
    assert!(found["loss"].as_f64().unwrap() > 0.0);
}
