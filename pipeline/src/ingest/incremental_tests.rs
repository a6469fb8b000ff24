//! Runs after changes give what runs from nothing give.

use std::{collections::BTreeMap, fs, path::Path};

use ledger::{Progress, Store, files_below};
use proptest::prelude::*;

use super::Ingest;
use crate::{harvest::Harvest, parse::Parse};

/// A change of a file of one of three repositories.
#[derive(Debug, Clone)]
enum Change {
    /// Writes a file with functions of these numbers: equal numbers are duplicates and aliases, in any repository.
    Write(usize, usize, Vec<u8>),
    Remove(usize, usize),
    Move(usize, usize, usize),
    Licence(usize, bool),
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, file) = (0usize..3, 0usize..6);
    prop_oneof![
        5 => (repository.clone(), file.clone(), proptest::collection::vec(0u8..12, 0..6)).prop_map(|(r, f, n)| Change::Write(r, f, n)),
        1 => (repository.clone(), file.clone()).prop_map(|(r, f)| Change::Remove(r, f)),
        1 => (repository.clone(), file.clone(), file).prop_map(|(r, from, to)| Change::Move(r, from, to)),
        1 => (repository, any::<bool>()).prop_map(|(r, is_mit)| Change::Licence(r, is_mit)),
    ]
}

/// A function with its documentation. Odd numbers are near-duplicates of the even number before them; text of a special token in some.
fn function(number: u8) -> String {
    let (kind, odd) = (number / 2, number % 2);
    let mark = ["'text'", "'<not in>'", "'<>>'", "'<identifier>'", "'<ERROR>'", "'<sub>'"][usize::from(kind)];
    format!(
        "def load_{kind}(path, mode, size):\n    '''Load the file number {kind}.'''\n    handle = open_{kind}(path, mode, size, {mark})\n    \
         total = handle.read(size) + step_{kind}(size, mode, {odd})\n    return total, handle.name, handle.size, mode\n\n\n"
    )
}

fn apply(folder: &Path, change: &Change) {
    let file = |repository: &usize, file: &usize| folder.join(format!("r{repository}/f{file}.py"));
    match change {
        Change::Write(repository, name, numbers) => {
            fs::write(file(repository, name), numbers.iter().map(|number| function(*number)).collect::<String>()).unwrap();
        }
        Change::Remove(repository, name) => drop(fs::remove_file(file(repository, name))),
        Change::Move(repository, from, to) => drop(fs::rename(file(repository, from), file(repository, to))),
        Change::Licence(repository, is_mit) => {
            let text = if *is_mit { "SPDX-License-Identifier: MIT" } else { "SPDX-License-Identifier: Apache-2.0" };
            fs::write(folder.join(format!("r{repository}/LICENSE")), text).unwrap();
        }
    }
}

/// All files of the artifacts of the stages but their manifests, and the number of reused shards.
fn build(folder: &Path, data: &Path) -> (BTreeMap<String, Vec<u8>>, u64) {
    let harvest = serde_json::json!({ "sources": [{ "kind": "dir", "path": folder, "each-subfolder": true }], "languages": ["python"],
        "keep-undocumented": true, "dialect": "plain", "min-documentation-tokens": 0, "min-lines": 1, "max-file-bytes": 1_000_000,
        "max-mean-line-bytes": 1000, "records-per-file": 1000, "split": { "valid": 0.3, "test": 0.3, "salt": "" },
        "exclude": { "folders": [], "in-file-name": [] } });
    let ingest = serde_json::json!({ "shards": 4, "shards-of-repository": 2, "max-line-bytes": 100_000, "max-reject-fraction": 1.0,
        "split-leaks": "refuse", "duplicates": { "set": 0.8, "multiset": 0.7, "min-tokens": 10 } });
    let parse =
        serde_json::json!({ "max-ast-tokens": 60, "max-words": 100, "mark-subtoken-end": true, "added-nodes": {}, "skip-node-types": {} });
    let store = Store::at(data, Progress::new(true), 2);
    store.make::<Harvest>(&serde_json::from_value(harvest).unwrap()).unwrap();
    let functions = store.make::<Ingest>(&serde_json::from_value(ingest).unwrap()).unwrap();
    let syntax = store.make::<Parse>(&serde_json::from_value(parse).unwrap()).unwrap();
    let reports = [functions.manifest(), syntax.manifest()].map(|manifest| serde_json::to_vec(&manifest.report).unwrap());
    let mut files: BTreeMap<String, Vec<u8>> = (0..).zip(reports).map(|(number, report): (u32, _)| (number.to_string(), report)).collect();
    for dir in [functions.dir(), syntax.dir()] {
        let names = files_below(dir).unwrap().into_iter().filter(|name| !name.ends_with("manifest.json"));
        files.extend(names.map(|name| {
            (format!("{}/{}", dir.display(), name.display()).replace(&data.display().to_string(), ""), fs::read(dir.join(&name)).unwrap())
        }));
    }
    (files, functions.manifest().host.shards_reused)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_run_after_changes_writes_the_bytes_of_a_run_from_nothing(nights in proptest::collection::vec(proptest::collection::vec(change(), 1..4), 1..5)) {
        let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for repository in 0..3 {
            fs::create_dir(folder.path().join(format!("r{repository}"))).unwrap();
            for file in 0..3 {
                apply(folder.path(), &Change::Write(repository, file, vec![(repository * 3 + file) as u8, 1]));
            }
        }
        build(folder.path(), data.path());
        for night in nights {
            night.iter().for_each(|change| apply(folder.path(), change));
            let fresh = tempfile::tempdir().unwrap();
            prop_assert_eq!(build(folder.path(), data.path()).0, build(folder.path(), fresh.path()).0);
        }
    }
}

/// A function that is new in one repository is the first of its duplicates: the shard of another one has other columns, and is not read.
#[test]
fn a_shard_without_changes_has_new_duplicates_and_licences() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for repository in 0..3 {
        fs::create_dir(folder.path().join(format!("r{repository}"))).unwrap();
        apply(folder.path(), &Change::Write(repository, 1, vec![2 * repository as u8]));
    }
    build(folder.path(), data.path());
    for change in [Change::Write(0, 2, vec![4]), Change::Licence(2, true), Change::Remove(0, 2)] {
        apply(folder.path(), &change);
        let (files, reused) = build(folder.path(), data.path());
        let fresh = tempfile::tempdir().unwrap();
        assert_eq!(files, build(folder.path(), fresh.path()).0, "{change:?}");
        assert!(reused > 0, "{change:?}");
    }
}

#[test]
fn damaged_sketches_and_columns_are_not_used() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for repository in 0..3 {
        fs::create_dir(folder.path().join(format!("r{repository}"))).unwrap();
        apply(folder.path(), &Change::Write(repository, 1, vec![2 * repository as u8]));
    }
    build(folder.path(), data.path());
    for kind in ["functions", "syntax"] {
        for file in
            files_below(&data.path().join(kind)).unwrap().into_iter().filter(|file| file.extension().is_some_and(|end| end == "parquet"))
        {
            let path = data.path().join(kind).join(file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[10] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    apply(folder.path(), &Change::Write(0, 2, vec![7]));
    let (files, reused) = build(folder.path(), data.path());
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(files, build(folder.path(), fresh.path()).0);
    assert_eq!(reused, 0);
}
