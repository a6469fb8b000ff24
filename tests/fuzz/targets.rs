//! Functions that read untrusted bytes. None may panic, hang or need much memory.

use std::{fs, io::Read, path::Path};

use ledger::Language;
use pipeline::{
    grammar::{self, Scope},
    harvest::{self, Dialect, EntrySelection, Registry},
    ingest,
    parse::{self, Flat, Parts, Specials},
};

/// A target by name.
pub const TARGETS: [&str; 7] =
    ["record_from_json", "extract_functions", "linearise", "unpack_archive", "read_documents", "manifest", "tokenizer"];
/// A bundle in the fixtures.
pub const BUNDLE: &str = "bundle-format-4.tar.gz";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

/// Runs a target on one input. The result does not matter; the call must return.
pub fn run(target: &str, input: &[u8], scratch: &Path) {
    // The first byte chooses a variant, so that one file is one case.
    let (choice, bytes) = input.split_first().map_or((0, input), |(first, rest)| (usize::from(*first), rest));
    match target {
        "record_from_json" => drop(ingest::record_from_json(bytes, ingest::Hints::of("python/train.jsonl"))),
        "extract_functions" => {
            let dialect = if choice & 128 == 0 { Dialect::Plain } else { Dialect::Codesearchnet };
            let scope = if choice & 64 == 0 { Scope::File } else { Scope::Function };
            for function in harvest::extract_in(language(choice), scope, bytes, dialect).into_iter().flatten() {
                assert!(function.lines.0 <= function.lines.1);
            }
        }
        "linearise" => linearise(choice, &String::from_utf8_lossy(bytes)),
        "unpack_archive" => {
            let path = scratch.join("archive");
            fs::write(&path, bytes).expect("the scratch folder is writable");
            let registry = if choice % 2 == 0 { Registry::Pypi } else { Registry::Npm };
            let wanted =
                |path: &str| if path.ends_with(".zip") { EntrySelection::Nested } else { EntrySelection::Yes { max_bytes: 1 << 20 } };
            let _ = harvest::read_archive(registry, &path, &wanted, &mut |_, bytes| {
                assert!(bytes.len() <= 1 << 20);
                Ok(())
            });
        }
        "read_documents" => {
            let name = ["a.jsonl.gz", "a.zip", "a.parquet", "a.jsonl"][choice % 4];
            fs::create_dir_all(scratch.join("documents")).expect("the scratch folder is writable");
            let path = scratch.join("documents").join(name);
            fs::write(&path, bytes).expect("the scratch folder is writable");
            let _ = ingest::each_record(&scratch.join("documents"), &mut |_| Ok(()));
            let _ = fs::remove_file(&path);
        }
        "manifest" => drop(ledger::Manifest::of_bytes(bytes, &"manifest.json")),
        "tokenizer" => {
            let folder = scratch.join("encoder");
            for (path, original) in files_of(BUNDLE).iter().filter(|(path, _)| path.ends_with("encoder/encoder.json")) {
                write(&folder.join(path.rsplit('/').next().unwrap_or_default()), original);
            }
            write(&folder.join("tokenizer.json"), bytes);
            if let Ok(tokenizer) = inference::EncoderTokenizer::open(&folder) {
                let _ = tokenizer.query_ids("parse an iso date", 64);
            }
        }
        other => panic!("no target {other}: {TARGETS:?}"),
    }
}

/// Files of an archive in the fixtures, with their paths, sorted.
pub fn files_of(archive: &str) -> Vec<(String, Vec<u8>)> {
    let file = fs::File::open(Path::new(FIXTURES).join(archive)).expect("the fixture exists");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = Vec::new();
    for entry in archive.entries().expect("the fixture is a tar file") {
        let mut entry = entry.expect("the fixture is a tar file");
        let path = entry.path().expect("the fixture has plain paths").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("the fixture is complete");
        if entry.header().entry_type().is_file() {
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("the scratch folder is writable");
    fs::write(path, bytes).expect("the scratch folder is writable");
}

fn language(choice: usize) -> Language {
    Language::ALL[choice % Language::ALL.len()]
}

fn linearise(choice: usize, source: &str) {
    let language = language(choice);
    let scope = if choice & 64 == 0 { Scope::Function } else { Scope::File };
    let Ok(tree) = grammar::parse(language, scope, source.as_bytes()) else { return };
    let flat = Flat::of(&tree, parse::kinds(language, scope), source);
    let most = 2 + choice;
    let mut specials = Specials::new(language, flat.kinds);
    let (mut received, mut last) = (0, String::new());
    let skipped = flat.kinds.are(if choice & 32 == 0 { &[] } else { &["ERROR", "identifier", "<?php", "?>"] });
    let reported = parse::linearise(&flat, &skipped, most, &mut specials, &mut |token| {
        received += 1;
        token.clone_into(&mut last);
    });
    assert!(reported == received && received <= most && last == "<end>", "{reported} of {most}: {last}");
    let features = parse::features(&flat, &Parts::of(language, flat.kinds));
    parse::structure("Class.name", &features);
}
