//! Expensive queries, and bundles that someone made or that a disk has damaged.

use std::{fs, path::Path, process::Stdio};

use super::{in_time, refuse, succeed};
use crate::workspace::{Workspace, texts};

#[test]
fn a_query_of_many_prefixes_ends() {
    let workspace = Workspace::published();
    let prefixes: String = ('a'..='z').flat_map(|first| ('a'..='z').map(move |second| format!("{first}{second}* "))).collect();
    succeed(&workspace, &["search", &prefixes]);
    succeed(&workspace, &["search", &"* a* \"a b\" ".repeat(400)]);
}

#[test]
fn a_query_of_many_bytes_is_refused() {
    let workspace = Workspace::published();
    let mut command = workspace.command(&["search", "-"]);
    fs::write(workspace.path("query"), "x".repeat(15 << 20)).unwrap();
    command.stdin(Stdio::from(fs::File::open(workspace.path("query")).unwrap()));
    let output = in_time(command);
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("bytes"), "{err}");
}

#[test]
fn a_query_ends_at_its_time_limit() {
    let workspace = Workspace::published();
    let bundle = bundle::Bundle::options().open(workspace.path("data/serve/current").canonicalize().unwrap()).unwrap();
    let query = bundle::Query::new("parse a d*").mode(bundle::Mode::Bm25).time_limit(std::time::Duration::ZERO);
    let error = bundle.search(&query).unwrap_err();
    assert!(matches!(error, bundle::Error::TimeLimit { .. }) && error.to_string().contains("0ns"), "{error}");
}

/// Overwrites the last number of a NumPy file of f32 with NaN.
fn put_nan(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_vector_that_is_not_a_number_is_an_error() {
    for file in ["embeddings.npy", "scales.npy"] {
        let workspace = Workspace::published();
        put_nan(&workspace.path("data/serve/current/vectors").join(file));
        let error = refuse(&workspace, &["search", "parse a date", "--limit", "100"]);
        assert!(error.contains("not finite") || error.contains("not a number"), "{file}: {error}");
    }
}

/// The weights of the encoder are the longest field `raw_data` (number 9) of its ONNX file.
fn put_nan_into_weights(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let fields = bytes.windows(5).enumerate().filter(|(_, window)| window[0] == 9 << 3 | 2).filter_map(|(at, window)| {
        let size = window[1..].iter().position(|byte| byte & 128 == 0)? + 1;
        let length = window[1..=size].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 127));
        let start = at + 1 + size;
        (start + length <= bytes.len()).then_some(start..start + length)
    });
    let weights = fields.max_by_key(std::ops::Range::len).unwrap();
    for number in bytes[weights].as_chunks_mut::<4>().0 {
        *number = f32::NAN.to_le_bytes();
    }
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_encoder_that_gives_no_number_is_an_error() {
    let workspace = Workspace::published();
    put_nan_into_weights(&workspace.path("data/serve/current/encoder/encoder.onnx"));
    for mode in ["vector", "hybrid"] {
        let error = refuse(&workspace, &["search", "parse a date", "--mode", mode]);
        assert!(error.contains("the encoder gave NaN or infinity"), "{mode}: {error}");
    }
    succeed(&workspace, &["search", "parse a date", "--mode", "bm25"]);
}

#[test]
fn a_missing_or_damaged_file_of_a_bundle_is_named() {
    for (file, named) in [
        ("docs.parquet", "docs.parquet"),
        ("tantivy/meta.json", "tantivy"),
        ("names.npy", "names.npy"),
        ("groups.npy", "groups.npy"),
        ("counts.npy", "counts.npy"),
        ("count-starts.npy", "count-starts.npy"),
    ] {
        let workspace = Workspace::published();
        let path = workspace.path("data/serve/current").join(file);
        fs::remove_file(&path).unwrap();
        let error = refuse(&workspace, &["search", "parse a date"]);
        assert!(error.contains(named), "{file}: {error}");
    }
}

/// tantivy reads some files without checks. Whatever their bytes are, a search ends with an answer or an error.
#[test]
fn damaged_files_of_the_lexical_index_give_an_answer_or_an_error() {
    let workspace = Workspace::published();
    let index = workspace.path("data/serve/current/tantivy");
    let files: Vec<_> = fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in files {
        let original = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for change in 0..8 {
            let mut bytes = original.clone();
            let at = original.len() * change / 8;
            match change % 2 {
                0 => bytes.truncate(at),
                _ => bytes[at..].iter_mut().take(16).for_each(|byte| *byte = !*byte),
            }
            fs::write(&path, bytes).unwrap();
            let output = in_time(workspace.command(&["search", "parse a date", "--mode", "bm25"]));
            let (_, err) = texts(&output);
            assert!(output.status.code().is_some() && !err.contains("panicked"), "{} change {change}: {err}", path.display());
        }
        fs::write(&path, original).unwrap();
    }
}
