//! CodeSearchNet's records and folder layout, written:
//! `<language>/final/jsonl/<split>/<language>_<split>_<n>.jsonl.gz`.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use ledger::{Language, Split};
use serde::Serialize;

/// One record, its fields in CodeSearchNet's order.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    pub repo: &'a str,
    pub path: &'a str,
    pub func_name: &'a str,
    pub original_string: &'a str,
    pub language: Language,
    pub code: &'a str,
    pub code_tokens: &'a [String],
    pub docstring: &'a str,
    pub docstring_tokens: &'a [String],
    pub sha: &'a str,
    pub url: &'a str,
    pub partition: Split,
}

/// Keeps one open file per language and split.
pub struct Writer {
    root: PathBuf,
    records_per_file: usize,
    /// Number of the first file of each language and split.
    first: usize,
    open: HashMap<(Language, Split), Open>,
}

struct Open {
    encoder: GzEncoder<BufWriter<File>>,
    records: usize,
    number: usize,
}

impl Writer {
    pub fn new(root: &Path, records_per_file: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: records_per_file.max(1), first: 0, open: HashMap::new() }
    }

    /// One file a language and split, all with this number.
    pub fn numbered(root: &Path, number: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: usize::MAX, first: number, open: HashMap::new() }
    }

    pub fn write(&mut self, language: Language, split: Split, record: &Record<'_>) -> Result<()> {
        let full = self.open.get(&(language, split)).filter(|open| open.records >= self.records_per_file);
        let number = full.map(|open| open.number + 1);
        if let Some(number) = number {
            if let Some(open) = self.open.remove(&(language, split)) {
                close(open)?;
            }
            self.open.insert((language, split), create(&self.root, language, split, number)?);
        }
        let open = match self.open.entry((language, split)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(create(&self.root, language, split, self.first)?),
        };
        serde_json::to_writer(&mut open.encoder, record)?;
        open.encoder.write_all(b"\n")?;
        open.records += 1;
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        self.open.into_values().try_for_each(close)
    }
}

fn create(root: &Path, language: Language, split: Split, number: usize) -> Result<Open> {
    let folder = root.join(language.name()).join("final/jsonl").join(split.name());
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{language}_{split}_{number}.jsonl.gz"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    // No file name and no time in the header: equal records give equal bytes.
    let encoder = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::fast());
    Ok(Open { encoder, records: 0, number })
}

fn close(open: Open) -> Result<()> {
    open.encoder.finish()?.flush()?;
    Ok(())
}
