//! Functions that read untrusted bytes. None may panic, hang or need much memory.

use std::{fs, io::Read, path::Path, sync::LazyLock};

use ledger::Language;
use pipeline::{
    functions::{self, Dialect},
    grammar::{self, Scope},
    harvest::{self, EntrySelection, Registry},
    ingest,
    parse::{self, Flat, Parts, Specials},
};

/// A target by name.
pub const TARGETS: [&str; 10] = [
    "record_from_json",
    "extract_functions",
    "linearise",
    "unpack_archive",
    "read_documents",
    "manifest",
    "tokenizer",
    "encoder_spec",
    "bundle",
    "snapshot",
];
/// A bundle in the fixtures: its files and their bytes, without locks of tantivy, which are not part of a bundle.
pub static BUNDLE_FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let mut files = files_of("bundle-format-4.tar.gz");
    files.retain(|(path, _)| !path.ends_with(".lock"));
    files
});
/// A snapshot in the fixtures.
pub const SNAPSHOT: &str = "snapshot.tar.gz";
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
            for function in functions::extract_in(language(choice), scope, bytes, dialect).into_iter().flatten() {
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
        "tokenizer" => encoder("tokenizer.json", bytes, scratch),
        "encoder_spec" => encoder("encoder.json", bytes, scratch),
        "bundle" => bundle(choice, bytes, scratch),
        "snapshot" => snapshot(bytes, scratch),
        other => panic!("no target {other}: {TARGETS:?}"),
    }
}

/// Opens the tokenizer of an encoder, one of whose files has these bytes.
fn encoder(changed: &str, bytes: &[u8], scratch: &Path) {
    let folder = scratch.join("encoder");
    for name in ["encoder.json", "tokenizer.json"] {
        let (_, original) = BUNDLE_FILES.iter().find(|(path, _)| path.ends_with(name)).expect("the fixture has an encoder");
        write(&folder.join(name), if name == changed { bytes } else { original });
    }
    if let Ok(tokenizer) = inference::EncoderTokenizer::open(&folder) {
        let _ = tokenizer.query_ids("parse an iso date", 64);
    }
}

/// Opens and searches a bundle, one of whose files has these bytes.
fn bundle(choice: usize, bytes: &[u8], scratch: &Path) {
    let (changed, original) = &BUNDLE_FILES[choice % BUNDLE_FILES.len()];
    let folder = scratch.join("bundle");
    if !folder.exists() {
        BUNDLE_FILES.iter().for_each(|(path, original)| write(&folder.join(path), original));
    }
    write(&folder.join(changed), bytes);
    if let Ok(bundle) = bundle::Bundle::options().open(&folder) {
        let _ = bundle.search(&bundle::Query::new("\"read rows\" of a fil* csv").mode(bundle::Mode::Bm25));
        let _ = bundle.search(&bundle::Query::new("parse_date").mode(bundle::Mode::Bm25).explain(true));
        let _ = bundle.vectors().search(&vec![0.1; bundle.manifest().vectors.dimension], 10, None);
    }
    let is_damaged = bundle::checksums::verify(&folder).is_err();
    let is_list = changed.ends_with(bundle::checksums::CHECKSUMS);
    assert!(is_damaged || bytes == original || is_list, "{changed} has other bytes, and `verify` finds nothing");
    write(&folder.join(changed), original);
}

/// Restores a snapshot whose list of files has these bytes.
fn snapshot(bytes: &[u8], scratch: &Path) {
    let (remote, data) = (scratch.join("remote"), scratch.join("data"));
    if !remote.exists() {
        files_of(SNAPSHOT).iter().for_each(|(path, original)| write(&remote.join(path), original));
    }
    let id = ledger::Digest::of_bytes(bytes);
    let record = remote.join(format!("saved/records/{id}.json"));
    let is_new = !record.exists();
    write(&record, bytes);
    let kinds = codenets::stages::registry().kinds();
    let store = ledger::Store::at(&data, ledger::Progress::new(true), 1).with_kinds(kinds.clone());
    let address = remote.join("saved").to_string_lossy().into_owned();
    let opened = archive::remote::Remote::open(&address, false).expect("the remote is a folder");
    let _ = archive::restore::restore(&store, &opened, &id.to_string(), &archive::snapshot::Selection::all(&kinds));
    let _ = fs::remove_dir_all(&data);
    if is_new {
        let _ = fs::remove_file(&record);
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
