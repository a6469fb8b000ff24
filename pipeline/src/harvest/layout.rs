//! Writes records in CodeSearchNet's folder layout:
//! `<language>/final/jsonl/<split>/<language>_<split>_<n>.jsonl.gz`.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use ledger::{Language, Split};
use serde::Serialize;

use crate::error::{Context, Result};

/// A record; the fields are in CodeSearchNet's order.
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

/// Writes records. One file per language and split is open.
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
    /// A writer that starts a new file after `records_per_file` records.
    pub fn new(root: &Path, records_per_file: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: records_per_file.max(1), first: 0, open: HashMap::new() }
    }

    /// A writer of one file per language and split; all files have this number.
    pub fn numbered(root: &Path, number: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: usize::MAX, first: number, open: HashMap::new() }
    }

    /// Writes a record to the file of its language and split.
    pub fn write(&mut self, language: Language, split: Split, record: &Record<'_>) -> Result<()> {
        let full_file = self.open.get(&(language, split)).filter(|open| open.records >= self.records_per_file);
        let number = full_file.map(|open| open.number + 1);
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

    /// Closes all files.
    pub fn finish(self) -> Result<()> {
        self.open.into_values().try_for_each(close)
    }
}

fn create(root: &Path, language: Language, split: Split, number: usize) -> Result<Open> {
    let folder = root.join(language.name()).join("final/jsonl").join(split.name());
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{language}_{split}_{number}.jsonl.gz"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    // The header has no file name and no time, so that equal records give equal bytes.
    let encoder = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::fast());
    Ok(Open { encoder, records: 0, number })
}

fn close(open: Open) -> Result<()> {
    open.encoder.finish()?.flush()?;
    Ok(())
}
