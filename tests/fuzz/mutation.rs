//! Seeds, and random changes of them: bytes are flipped, removed, repeated, nested, or joined with bytes of another seed.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use rand::{Rng, seq::IndexedRandom};

use super::targets;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

/// Longest input.
const MOST_BYTES: usize = 1 << 16;

/// Text that is special to a parser.
const PIECES: [&[u8]; 30] = [
    b"(",
    b")",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"`",
    b"\\",
    b"/*",
    b"*/",
    b"#",
    b"<?php ",
    b"?>",
    b"\0",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"def f(",
    b"class A:",
    b"\"\"\"",
    b"<<EOS\n",
    b"\\ud800",
    b"%w(",
    b"function",
    b"=>",
    b"1e999999",
];

/// The seeds of a target: the fixture corpus, and inputs that once failed.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    collect(&Path::new(FIXTURES).join("fuzz").join(target), &mut |_, bytes| seeds.push(bytes));
    let mut sources = Vec::new();
    collect(&Path::new(FIXTURES).join("corpus"), &mut |path, bytes| sources.push((path.to_owned(), bytes)));
    match target {
        "extract_functions" | "linearise" => {
            for (path, source) in &sources {
                let end = Path::new(path).extension().and_then(|end| end.to_str()).unwrap_or_default();
                let place = ["go", "java", "js", "php", "py", "rb"].iter().position(|known| *known == end).unwrap_or_default();
                seeds.push([&[u8::try_from(place).unwrap_or_default()], &source[..]].concat());
            }
        }
        "record_from_json" => seeds.push([b"\0".to_vec(), record()].concat()),
        "unpack_archive" => {
            seeds.push([&[0], &zip(&sources)[..]].concat());
            seeds.push([&[1], &gz(&tar(&sources))[..]].concat());
        }
        "read_documents" => {
            let lines = [record(), b"\n".to_vec(), record()].concat();
            seeds.push([&[0], &gz(&lines)[..]].concat());
            seeds.push([&[1], &zip(&[("python/train.jsonl".to_owned(), lines.clone())])[..]].concat());
            seeds.push([&[2], &parquet()[..]].concat());
            seeds.push([&[3], &lines[..]].concat());
        }
        "manifest" => {
            for (_, bytes) in targets::files_of("data.tar.gz").into_iter().filter(|(path, _)| path.ends_with("/manifest.json")) {
                // Schema 1 has no digest of its own: changed manifests are read to their end.
                let text = String::from_utf8_lossy(&bytes).replace("\"schema\": 2", "\"schema\": 1");
                seeds.push([b"\0", text.as_bytes()].concat());
            }
        }
        "tokenizer" | "encoder_spec" => {
            let name = if target == "tokenizer" { "tokenizer.json" } else { "encoder.json" };
            let files = targets::BUNDLE_FILES.iter().filter(|(path, _)| path.ends_with(name));
            seeds.extend(files.map(|(_, bytes)| [b"\0", &bytes[..]].concat()));
        }
        "bundle" => {
            let files = (0u8..).zip(targets::BUNDLE_FILES.iter());
            seeds.extend(files.map(|(number, (_, bytes))| [&[number], &bytes[..]].concat()));
        }
        "snapshot" => {
            let files = targets::files_of(targets::SNAPSHOT).into_iter().filter(|(path, _)| path.starts_with("saved/records/"));
            seeds.extend(files.map(|(_, bytes)| [b"\0", &bytes[..]].concat()));
        }
        _ => {}
    }
    assert!(!seeds.is_empty(), "no seeds for {target}");
    seeds
}

fn collect(folder: &Path, take: &mut dyn FnMut(&str, Vec<u8>)) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, take);
        } else if let Ok(bytes) = fs::read(&path) {
            take(&path.to_string_lossy(), bytes);
        }
    }
}

fn record() -> Vec<u8> {
    br#"{"repo": "o/r", "path": "a.py", "func_name": "f", "original_string": "def f(): pass", "language": "python", "code": "def f():\n  pass \u00e9", "code_tokens": ["def", "f"], "docstring": "Does \ud83d\ude00", "docstring_tokens": ["Does"], "sha": "0", "url": "https://host/o/r/a.py#L3-L9", "partition": "valid"}"#.to_vec()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (place, (path, bytes)) in files.iter().enumerate() {
        let method = if place % 2 == 0 { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = if path.starts_with('/') { name } else { path };
        zip.start_file(
            name,
            zip::write::SimpleFileOptions::default().last_modified_time(zip::DateTime::default()).compression_method(method),
        )
        .expect("memory takes it");
        zip.write_all(bytes).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let name = format!("package/{}", path.rsplit('/').next().unwrap_or_default());
        tar.append_data(&mut header, name, &bytes[..]).expect("memory takes it");
    }
    tar.into_inner().expect("memory takes it")
}

fn parquet() -> Vec<u8> {
    use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
    use std::sync::Arc;
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values([text, text])) };
    let list = || -> ArrayRef {
        let mut list = ListBuilder::new(StringBuilder::new());
        (0..2).for_each(|_| list.append_value([Some("def"), Some("f")]));
        Arc::new(list.finish())
    };
    let batch = RecordBatch::try_from_iter([
        ("repository_name", text("o/r")),
        ("func_path_in_repository", text("a.py")),
        ("func_name", text("f")),
        ("language", text("python")),
        ("func_code_string", text("def f(): pass")),
        ("func_code_tokens", list()),
        ("func_documentation_string", text("Does.")),
        ("func_documentation_tokens", list()),
        ("split_name", text("train")),
        ("func_code_url", text("https://host#L1-L2")),
    ])
    .expect("one length");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("a.parquet");
    let mut writer = ledger::table::TableWriter::create(&path, batch.schema()).expect("a file");
    writer.write(&batch).and_then(|()| writer.finish()).expect("a file");
    fs::read(path).expect("a file")
}

/// A seed with one to seven changes. The first byte of an input chooses a variant of the target.
pub fn mutated(seeds: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..8) {
        let length = bytes.len().max(1);
        let at = rng.random_range(0..length).min(bytes.len());
        let end = (at + rng.random_range(0..64usize)).min(bytes.len());
        match rng.random_range(0..9) {
            0 if !bytes.is_empty() => bytes[at.min(length - 1)] ^= 1 << rng.random_range(0..8),
            1 if !bytes.is_empty() => bytes[at.min(length - 1)] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default();
                bytes.splice(at..at, piece.iter().copied());
            }
            // Deep nesting.
            5 => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default().repeat(rng.random_range(1..2000));
                bytes.splice(at..at, piece);
            }
            6 => {
                let other = seeds.choose(rng).cloned().unwrap_or_default();
                let from = rng.random_range(0..other.len().max(1)).min(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => bytes.truncate(at),
            _ if !bytes.is_empty() => bytes[0] = rng.random(),
            _ => {}
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}
