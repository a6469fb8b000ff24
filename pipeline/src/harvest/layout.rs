//! Writes records in CodeSearchNet's folder layout:
//! `<language>/final/jsonl/<split>/<language>_<split>_<n>.jsonl.gz`.
//!
//! A file is a sequence of gzip members, which every reader of gzip reads as one text. Equal records give equal members, whatever stands
//! before them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};
use ledger::{Language, Split};
use serde::Serialize;

use crate::error::{Context, Result};

/// Bytes of the records that [`Writer::write`] collects for a member.
const MEMBER_BYTES: usize = 256 << 10;

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
    /// Relative to the root.
    name: String,
    file: BufWriter<File>,
    /// Bytes that are written.
    bytes: u64,
    records: usize,
    number: usize,
    /// Lines of the next member.
    lines: Vec<u8>,
}

/// Where a member is.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Relative to the root of the writer.
    pub file: String,
    /// Byte in the file.
    pub offset: u64,
}

/// The gzip member of some lines. The header has no file name and no time, so that equal lines give equal bytes.
pub fn member(lines: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::with_capacity(lines.len() / 3), Compression::fast());
    encoder.write_all(lines)?;
    encoder.finish()
}

impl Writer {
    /// A writer that starts a new file after `records_per_file` records. A member is never divided.
    pub fn new(root: &Path, records_per_file: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: records_per_file.max(1), first: 0, open: HashMap::new() }
    }

    /// A writer of one file per language and split; all files have this number.
    pub fn numbered(root: &Path, number: usize) -> Self {
        Self { root: root.to_owned(), records_per_file: usize::MAX, first: number, open: HashMap::new() }
    }

    /// Writes a record to the file of its language and split.
    pub fn write(&mut self, language: Language, split: Split, record: &Record<'_>) -> Result<()> {
        let open = self.file(language, split)?;
        serde_json::to_writer(&mut open.lines, record)?;
        open.lines.push(b'\n');
        open.records += 1;
        if open.lines.len() >= MEMBER_BYTES {
            open.flush_lines()?;
        }
        Ok(())
    }

    /// Writes a member with this number of records to the file of its language and split.
    pub fn append(&mut self, language: Language, split: Split, member: &[u8], records: usize) -> Result<Place> {
        let open = self.file(language, split)?;
        open.flush_lines()?;
        let place = Place { file: open.name.clone(), offset: open.bytes };
        open.append(member)?;
        open.records += records;
        Ok(place)
    }

    /// Closes all files.
    pub fn finish(self) -> Result<()> {
        self.open.into_values().try_for_each(Open::close)
    }

    /// The file that the next record of a language and split is written to.
    fn file(&mut self, language: Language, split: Split) -> Result<&mut Open> {
        let key = (language, split);
        let number = match self.open.get(&key) {
            Some(open) if open.records < self.records_per_file => None,
            Some(open) => Some(open.number + 1),
            None => Some(self.first),
        };
        if let Some(number) = number {
            self.open.remove(&key).map_or(Ok(()), Open::close)?;
            self.open.insert(key, Open::create(&self.root, language, split, number)?);
        }
        self.open.get_mut(&key).context("the file was opened above")
    }
}

impl Open {
    fn create(root: &Path, language: Language, split: Split, number: usize) -> Result<Self> {
        let folder = format!("{}/final/jsonl/{}", language.name(), split.name());
        fs::create_dir_all(root.join(&folder))?;
        let name = format!("{folder}/{language}_{split}_{number}.jsonl.gz");
        let path = root.join(&name);
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { name, file: BufWriter::new(file), bytes: 0, records: 0, number, lines: Vec::new() })
    }

    fn flush_lines(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            let member = member(&self.lines)?;
            self.lines.clear();
            self.append(&member)?;
        }
        Ok(())
    }

    fn append(&mut self, member: &[u8]) -> Result<()> {
        self.file.write_all(member)?;
        self.bytes += member.len() as u64;
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        self.flush_lines()?;
        Ok(self.file.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn members_and_records_of_one_file_are_read_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path(), 3);
        let record = |name: &'static str| Record {
            repo: "r",
            path: "p",
            func_name: name,
            original_string: "",
            language: Language::Go,
            code: "",
            code_tokens: &[],
            docstring: "",
            docstring_tokens: &[],
            sha: "",
            url: "",
            partition: Split::Test,
        };
        let lines = |name: &'static str| [serde_json::to_vec(&record(name)).unwrap(), b"\n".to_vec()].concat();
        writer.write(Language::Go, Split::Test, &record("a")).unwrap();
        let of_a = member(&lines("a")).unwrap();
        let place = writer.append(Language::Go, Split::Test, &member(&lines("b")).unwrap(), 2).unwrap();
        let file = "go/final/jsonl/test/go_test_0.jsonl.gz".to_owned();
        assert_eq!(place, Place { file: file.clone(), offset: of_a.len() as u64 });
        let place = writer.append(Language::Go, Split::Test, &of_a, 1).unwrap();
        assert_eq!(place, Place { file: "go/final/jsonl/test/go_test_1.jsonl.gz".to_owned(), offset: 0 }, "the first file has 3 records");
        writer.finish().unwrap();
        let mut text = Vec::new();
        MultiGzDecoder::new(File::open(dir.path().join(file)).unwrap()).read_to_end(&mut text).unwrap();
        assert_eq!(text, [lines("a"), lines("b")].concat());
    }
}
