//! The same records in every layout in which CodeSearchNet is distributed give the same functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Cursor, Write},
    path::Path,
    sync::{Arc, LazyLock},
};

use arrow::array::{ArrayRef, LargeListBuilder, ListBuilder, RecordBatch, StringArray, StringBuilder};
use flate2::read::MultiGzDecoder;
use ledger::table::{self, TableWriter};
use serde_json::{Value, json};

use crate::workspace::{Workspace, copy_tree, files_below, source};

/// Records by language and split.
type Records = BTreeMap<(String, String), Vec<Value>>;
/// Rows of `functions`: id to split, name and documentation.
type Functions = BTreeMap<String, (String, String, String)>;

/// The records of the fixture corpus, and the functions that `ingest` makes of them.
static EXPECTED: LazyLock<(Records, Functions)> = LazyLock::new(|| {
    let workspace = Workspace::tokenized();
    copy_tree(&workspace.artifact("raw"), &workspace.path("tree"));
    fs::remove_file(workspace.path("tree/manifest.json")).unwrap();
    let records = records(&workspace);
    let functions = functions(&workspace, "tree");
    assert!(functions.len() > 20);
    (records, functions)
});

fn records(workspace: &Workspace) -> Records {
    let mut all = Records::new();
    for file in files_below(&workspace.artifact("raw")).into_iter().filter(|file| file.to_string_lossy().ends_with(".jsonl.gz")) {
        let text = std::io::read_to_string(MultiGzDecoder::new(fs::File::open(file).unwrap())).unwrap();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            all.entry((text("language"), text("partition"))).or_default().push(record);
        }
    }
    assert!(all.values().map(Vec::len).sum::<usize>() > 20 && all.len() >= 8);
    all
}

/// The functions that `ingest` makes of a folder of a workspace.
fn functions(workspace: &Workspace, folder: &str) -> Functions {
    workspace.configure(&format!("{}ingest.max-reject-fraction = 0.3", source("csn", &format!("path = {folder}"))));
    workspace.run_until("ingest");
    let dir = workspace.artifact("functions");
    let mut rows = Functions::new();
    for split in ["train", "valid", "test"] {
        for file in files_below(&dir.join(split)) {
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

/// Zenodo: one zip a language, the folders inside, and a pickle.
#[test]
fn zips_of_zenodo() {
    let (records, expected) = &*EXPECTED;
    let workspace = Workspace::tokenized();
    let languages: BTreeSet<&String> = records.keys().map(|(language, _)| language).collect();
    for language in &languages {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let own = workspace.artifact("raw").join(language);
        for file in files_below(&own) {
            let name = format!("{language}/{}", file.strip_prefix(&own).unwrap().display());
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&fs::read(file).unwrap()).unwrap();
        }
        zip.start_file(format!("{language}_licenses.pkl"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        write(&workspace.path("zips").join(format!("{language}.zip")), zip.finish().unwrap().into_inner());
    }
    assert_eq!(functions(&workspace, "zips"), *expected);
    let report = &workspace.manifest("functions")["report"];
    assert_eq!(report["reasons"]["unknown file type"], languages.len(), "a pickle is counted, not read: {report}");
}

/// The Hugging Face Hub: Parquet with large lists, other column names, and a split `validation`.
#[test]
fn parquet_of_the_hub() {
    let (records, expected) = &*EXPECTED;
    let workspace = Workspace::empty();
    for ((language, split), rows) in records {
        hub(&workspace.path("hub").join(language).join(format!("{split}-00000-of-00001.parquet")), rows, split == "train");
    }
    assert_eq!(functions(&workspace, "hub"), *expected);
}

/// CodeXGLUE: one file a split; language and split are in the path only.
#[test]
fn files_of_codexglue() {
    let (records, expected) = &*EXPECTED;
    let workspace = Workspace::empty();
    for ((language, split), rows) in records {
        let rows: Vec<Value> = rows.iter().cloned().map(|row| without(row, &["language", "partition"])).collect();
        write(&workspace.path("glue/dataset").join(language).join(format!("{split}.jsonl")), lines(&rows));
    }
    assert_eq!(functions(&workspace, "glue"), *expected);
}

/// GraphCodeBERT: queries without code and a codebase without documentation, joined by url.
#[test]
fn files_of_graphcodebert() {
    let (records, expected) = &*EXPECTED;
    let workspace = Workspace::empty();
    let replace = |row: &Value, fields: &[(&str, Value)]| {
        let mut row = row.clone();
        fields.iter().for_each(|(field, value)| row[field] = value.clone());
        row
    };
    for ((language, split), rows) in records {
        let folder = workspace.path("graph/dataset").join(language);
        if split == "train" {
            write(&folder.join("train.jsonl"), lines(rows));
            continue;
        }
        let no_code = [("code", json!("")), ("original_string", json!("")), ("code_tokens", json!([]))];
        let queries: Vec<Value> = rows.iter().map(|row| replace(row, &no_code)).collect();
        write(&folder.join(format!("{split}.jsonl")), lines(&queries));
        let no_documentation = [("docstring", json!("")), ("docstring_tokens", json!([]))];
        let codes: Vec<Value> = rows.iter().map(|row| replace(row, &no_documentation)).collect();
        let path = folder.join("codebase.jsonl");
        let before = fs::read_to_string(&path).unwrap_or_default();
        write(&path, before + &lines(&codes));
    }
    assert_eq!(functions(&workspace, "graph"), *expected);
    let report = &workspace.manifest("functions")["report"];
    let held_out: usize = records.iter().filter(|((_, split), _)| split != "train").map(|(_, rows)| rows.len()).sum();
    assert_eq!((&report["joined"], &report["rejected"]), (&held_out.into(), &0.into()), "{report}");
}

#[test]
fn a_damaged_zip_or_parquet_is_counted_and_the_rest_is_read() {
    let workspace = Workspace::empty();
    let rows: Vec<Value> = EXPECTED.0.values().flatten().cloned().collect();
    write(&workspace.path("mixed/all.jsonl"), lines(&rows));
    hub(&workspace.path("intact.parquet"), &rows[..1], true);
    let intact = fs::read(workspace.path("intact.parquet")).unwrap();
    write(&workspace.path("mixed/cut.parquet"), &intact[..intact.len() / 2]);
    write(&workspace.path("mixed/text.parquet"), "no parquet");
    write(&workspace.path("mixed/text.zip"), "no zip");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("python/train.jsonl", plain).unwrap();
    zip.write_all(lines(&rows).as_bytes()).unwrap();
    let mut zip = zip.finish().unwrap().into_inner();
    zip[2000] ^= 1;
    write(&workspace.path("mixed/flipped.zip"), &zip);
    workspace.configure(&(source("csn", "path = mixed") + "ingest.max-reject-fraction = 0.5"));
    workspace.run_until("ingest");
    let report = &workspace.manifest("functions")["report"];
    assert_eq!(report["reasons"]["truncated or corrupt parquet"], 2, "{report}");
    assert_eq!(report["reasons"]["truncated or corrupt zip"], 2, "{report}");
    assert!(report["written"].as_u64().unwrap() > 20, "{report}");
}

fn without(mut row: Value, fields: &[&str]) -> Value {
    fields.iter().for_each(|field| drop(row.as_object_mut().unwrap().remove(*field)));
    row
}

/// Writes records as the Hub stores them.
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
