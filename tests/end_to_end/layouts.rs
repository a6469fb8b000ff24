//! The same records in every layout that a user has give the same functions.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{ArrayRef, LargeListBuilder, ListBuilder, RecordBatch, StringArray, StringBuilder};
use flate2::read::GzDecoder;
use ledger::table::{self, TableWriter};
use serde_json::{Value, json};

use crate::world::{World, copy_tree};

/// The records of the fixture corpus as `harvest` writes them, by language and split.
fn records(world: &World) -> BTreeMap<(String, String), Vec<Value>> {
    world.run("pipeline", &["harvest"]);
    let mut all: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for file in files(&world.artifact("raw")).into_iter().filter(|file| file.to_string_lossy().ends_with(".jsonl.gz")) {
        let text = std::io::read_to_string(GzDecoder::new(fs::File::open(file).unwrap())).unwrap();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            all.entry((text("language"), text("partition"))).or_default().push(record);
        }
    }
    assert!(all.values().map(Vec::len).sum::<usize>() > 20 && all.len() >= 8);
    all
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Rows that `ingest` makes of a folder: id to split, name, documentation.
fn functions(world: &World, folder: &Path) -> BTreeMap<String, (String, String, String)> {
    world.configure(&format!(
        "harvest.source = null\nharvest.source {{ kind = csn, path = \"{}\" }}\ningest.max-reject-fraction = 0.3",
        folder.display()
    ));
    world.run("pipeline", &["harvest"]);
    world.run("pipeline", &["ingest"]);
    let dir = world.artifact("functions");
    let mut rows = BTreeMap::new();
    for split in ["train", "valid", "test"] {
        for file in files(&dir.join(split)) {
            for batch in table::read(&file, &[]).unwrap() {
                let batch = batch.unwrap();
                let text = |name: &str| table::texts(&batch, name).unwrap();
                let (ids, names, docstrings) = (text("id"), text("func_name"), text("docstring"));
                for row in 0..batch.num_rows() {
                    let own = (split.to_owned(), names.value(row).to_owned(), docstrings.value(row).to_owned());
                    assert!(rows.insert(ids.value(row).to_owned(), own).is_none());
                }
            }
        }
    }
    rows
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn lines<'a>(records: impl IntoIterator<Item = &'a Value>) -> String {
    records.into_iter().map(|record| record.to_string() + "\n").collect()
}

#[test]
fn every_layout_gives_the_same_functions() {
    let world = World::new();
    let records = records(&world);
    copy_tree(&world.artifact("raw"), &world.path("tree"));
    fs::remove_file(world.path("tree/manifest.json")).unwrap();
    let expected = functions(&world, &world.path("tree"));
    assert!(expected.len() > 20);

    // The zips of Zenodo: one a language, the tree inside, pickles beside it.
    for language in records.keys().map(|(language, _)| language) {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let own = world.path("tree").join(language);
        for file in files(&own) {
            let name = format!("{language}/{}", file.strip_prefix(&own).unwrap().display());
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&fs::read(file).unwrap()).unwrap();
        }
        zip.start_file(format!("{language}_licenses.pkl"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        write(&world.path("zips").join(format!("{language}.zip")), zip.finish().unwrap().into_inner());
    }
    assert_eq!(functions(&world, &world.path("zips")), expected, "zips");
    let report = &world.manifest("functions")["report"];
    let languages = records.keys().map(|(language, _)| language).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(report["reasons"]["unknown file type"], languages, "a pickle is counted, not read: {report}");

    // The Hub's Parquet, as other tools write it: large lists, other names, `validation`.
    for ((language, split), rows) in &records {
        hub(&world.path("hub").join(language).join(format!("{split}-00000-of-00001.parquet")), rows, split == "train");
    }
    assert_eq!(functions(&world, &world.path("hub")), expected, "hub");

    // CodeXGLUE: one file a split; what the place says is not in the rows.
    for ((language, split), rows) in &records {
        let rows: Vec<Value> = rows.iter().cloned().map(|row| without(row, &["language", "partition"])).collect();
        write(&world.path("glue/dataset").join(language).join(format!("{split}.jsonl")), lines(&rows));
    }
    assert_eq!(functions(&world, &world.path("glue")), expected, "codexglue");

    // GraphCodeBERT: queries without code, a codebase without documentation, joined by url.
    for ((language, split), rows) in &records {
        let folder = world.path("graph/dataset").join(language);
        let blank = |row: &Value, fields: &[(&str, Value)]| {
            let mut row = row.clone();
            fields.iter().for_each(|(field, value)| row[field] = value.clone());
            row
        };
        if split == "train" {
            write(&folder.join("train.jsonl"), lines(rows));
            continue;
        }
        let queries: Vec<Value> =
            rows.iter().map(|row| blank(row, &[("code", json!("")), ("original_string", json!("")), ("code_tokens", json!([]))])).collect();
        write(&folder.join(format!("{split}.jsonl")), lines(&queries));
        let codes: Vec<Value> = rows.iter().map(|row| blank(row, &[("docstring", json!("")), ("docstring_tokens", json!([]))])).collect();
        let path = folder.join("codebase.jsonl");
        let before = fs::read_to_string(&path).unwrap_or_default();
        write(&path, before + &lines(&codes));
    }
    assert_eq!(functions(&world, &world.path("graph")), expected, "graphcodebert");
    let report = &world.manifest("functions")["report"];
    let held_out: usize = records.iter().filter(|((_, split), _)| split != "train").map(|(_, rows)| rows.len()).sum();
    assert_eq!(report["joined"], held_out, "{report}");
    assert_eq!(report["rejected"], 0);
}

#[test]
fn a_broken_zip_or_parquet_is_counted_and_the_rest_is_read() {
    let world = World::new();
    let records = records(&world);
    let rows: Vec<Value> = records.values().flatten().cloned().collect();
    write(&world.path("mixed/all.jsonl"), lines(&rows));
    hub(&world.path("mixed/hub.parquet"), &rows[..1], true);
    let whole = fs::read(world.path("mixed/hub.parquet")).unwrap();
    fs::remove_file(world.path("mixed/hub.parquet")).unwrap();
    write(&world.path("mixed/cut.parquet"), &whole[..whole.len() / 2]);
    write(&world.path("mixed/text.parquet"), "no parquet");
    write(&world.path("mixed/text.zip"), "no zip");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("python/train.jsonl", plain).unwrap();
    zip.write_all(lines(&rows).as_bytes()).unwrap();
    let mut zip = zip.finish().unwrap().into_inner();
    zip[2000] ^= 1;
    write(&world.path("mixed/flipped.zip"), &zip);
    world.configure(&format!(
        "harvest.source = null\nharvest.source {{ kind = csn, path = \"{}\" }}\ningest.max-reject-fraction = 0.5",
        world.path("mixed").display()
    ));
    world.run("pipeline", &["harvest"]);
    world.run("pipeline", &["ingest"]);
    let report = &world.manifest("functions")["report"];
    assert_eq!(report["reasons"]["truncated or corrupt parquet"], 2, "{report}");
    assert_eq!(report["reasons"]["truncated or corrupt zip"], 2, "{report}");
    assert!(report["written"].as_u64().unwrap() > 20, "{report}");
}

fn without(mut row: Value, fields: &[&str]) -> Value {
    fields.iter().for_each(|field| drop(row.as_object_mut().unwrap().remove(*field)));
    row
}

fn hub(path: &Path, rows: &[Value], large: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = |field: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| match row[field].as_str().unwrap() {
            "valid" => "validation",
            text => text,
        })))
    };
    let list = |field: &str| -> ArrayRef {
        let texts =
            |row: &Value| row[field].as_array().unwrap().iter().map(|text| Some(text.as_str().unwrap().to_owned())).collect::<Vec<_>>();
        if large {
            let mut builder = LargeListBuilder::new(StringBuilder::new());
            rows.iter().for_each(|row| builder.append_value(texts(row)));
            Arc::new(builder.finish())
        } else {
            let mut builder = ListBuilder::new(StringBuilder::new());
            rows.iter().for_each(|row| builder.append_value(texts(row)));
            Arc::new(builder.finish())
        }
    };
    let batch = RecordBatch::try_from_iter([
        ("repository_name", text("repo")),
        ("func_path_in_repository", text("path")),
        ("func_name", text("func_name")),
        ("whole_func_string", text("original_string")),
        ("language", text("language")),
        ("func_code_string", text("code")),
        ("func_code_tokens", list("code_tokens")),
        ("func_documentation_string", text("docstring")),
        ("func_documentation_tokens", list("docstring_tokens")),
        ("split_name", text("partition")),
        ("func_code_url", text("url")),
    ])
    .unwrap();
    let mut writer = TableWriter::create(path, batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
}
