//! Writers of the tables of `ingest`: `functions` in shards and `rejects.parquet`.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    fs,
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt32Builder, UInt64Builder},
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Shards, Split,
    table::{BATCH_ROWS, RowDigest, TableWriter, schema, text_field, texts_field, u32_field},
};
use rayon::prelude::*;

use super::{
    config::Config,
    members::ShardKey,
    sketches::{RowSketch, SketchWriter, table_name},
};
use crate::{
    error::{Context, Error, Result},
    records::{Record, TextList},
};

/// Columns of `functions`.
pub fn functions_schema() -> SchemaRef {
    schema(vec![
        text_field("id", false),
        text_field("language", false),
        text_field("repo", false),
        text_field("path", false),
        text_field("func_name", false),
        text_field("code", false),
        texts_field("code_tokens"),
        text_field("docstring", false),
        texts_field("docstring_tokens"),
        text_field("url", false),
        u32_field("line_start", true),
        u32_field("line_end", true),
        text_field("licence", true),
        text_field("duplicate_of", true),
        text_field("alias_of", true),
    ])
}

/// Id of a row: 128 bits of blake3 over (language, repo, path, code), and over the number of the row where a file has equal code more than
/// once. Equal in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowId([u8; 16]);

impl RowId {
    /// The id of the first row with this code in its file.
    pub fn of(record: &Record) -> Self {
        Self::digest(&[record.language.name(), &record.repo, &record.path, &record.code])
    }

    /// The id of a later row with the same code in the same file. `number`: how many such rows are before it.
    pub fn repeated(self, number: u32) -> Self {
        if number == 0 { self } else { Self::digest(&[&self.hex(), &number.to_string()]) }
    }

    /// The digest of all that tells a record from another one with the same code in the same file: its lines and its URL.
    pub fn of_place(self, record: &Record) -> Self {
        let (first, last) = record.lines.unwrap_or_default();
        Self::digest(&[&self.hex(), &format!("{first}-{last}"), &record.url])
    }

    /// The digest that all aliases have: language, code tokens and documentation. None for a record without code tokens.
    pub fn of_alias(record: &Record) -> Option<Self> {
        let is_code = !record.code_tokens.is_empty();
        is_code.then(|| {
            let tokens = record.code_tokens.iter();
            let documentation = record.docstring.as_str();
            Self::digest(&[&[record.language.name(), documentation], &tokens.collect::<Vec<_>>()[..]].concat())
        })
    }

    fn digest(parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// The id with these bytes.
    pub fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id with these hex digits.
    pub fn of_hex(text: &str) -> Result<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        Ok(Self(number.with_context(|| format!("{text:?} is no id of a row: run `codenets verify`"))?.to_be_bytes()))
    }

    pub fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A row that is written.
pub struct WrittenRow {
    pub id: RowId,
    pub record: Record,
    /// The earlier row that this row duplicates.
    pub duplicate_of: Option<RowId>,
    /// The first row with equal code tokens and equal documentation, for each later one.
    pub alias_of: Option<RowId>,
    /// Member of a raw file, and what is compared; none where they are not stored.
    pub sketch: Option<(RowDigest, RowSketch)>,
}

/// Writes rows to their shards. A few batches per shard are in memory.
pub struct FunctionsWriter<'a> {
    root: &'a Path,
    buckets: Buckets,
    licences: &'a BTreeMap<String, String>,
    /// Bands of a sketch, where sketches are stored.
    bands: Option<usize>,
    open: BTreeMap<ShardKey, OpenShard>,
    /// Shards without a table of sketches.
    unsketched: BTreeSet<ShardKey>,
}

/// The shards of a split.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    count: usize,
    /// Shards that the rows of one repository are in.
    of_repository: usize,
}

impl Buckets {
    pub fn new(config: &Config) -> Self {
        let count = config.shards.max(1);
        Self { count, of_repository: config.shards_of_repository.unwrap_or(count).clamp(1, count) }
    }

    /// The shard of a row. It depends on the repository and the path only.
    pub fn of(self, repo: &str, path: &str) -> usize {
        let groups = self.count / self.of_repository;
        let group = if groups > 1 { index_of(repo, groups) } else { 0 };
        group * self.of_repository + index_of(&format!("{repo}\n{path}"), self.of_repository)
    }
}

/// A number below `count` by the digest of a text.
fn index_of(text: &str, count: usize) -> usize {
    let bytes: [u8; 8] = blake3::hash(text.as_bytes()).as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    usize::try_from(u64::from_le_bytes(bytes) % count as u64).unwrap_or_default()
}

/// Rows of one shard that are written at once, and their bytes.
const CHUNK_ROWS: usize = 256;
const CHUNK_BYTES: usize = 2 << 20;
/// Bytes of unfinished row groups, of all shards together.
const WRITERS_BYTES: usize = 512 << 20;

/// Divides the rows of a shard into batches. The bytes of a table depend on its batches, which depend on the rows of the shard only: a shard
/// without changes has the bytes that it had.
#[derive(Default)]
pub struct Chunk {
    rows: usize,
    bytes: usize,
}

impl Chunk {
    /// Counts a row with so many bytes of code and documentation. Is it the last one of a batch?
    pub fn add(&mut self, bytes: usize) -> bool {
        (self.rows, self.bytes) = (self.rows + 1, self.bytes + bytes);
        let is_full = self.rows >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES;
        if is_full {
            *self = Self::default();
        }
        is_full
    }
}

struct OpenShard {
    writer: TableWriter,
    sketches: Option<SketchWriter>,
    full: Vec<Vec<WrittenRow>>,
    last: Vec<WrittenRow>,
    chunk: Chunk,
}

impl<'a> FunctionsWriter<'a> {
    /// `licences`: licence by name of the repository. `bands`: bands of the sketches, where they are stored.
    pub fn new(root: &'a Path, buckets: Buckets, licences: &'a BTreeMap<String, String>, bands: Option<usize>) -> Result<Self> {
        for split in Split::ALL {
            fs::create_dir_all(root.join(split.name()))?;
            if bands.is_some() {
                fs::create_dir_all(root.join("sketches").join(split.name()))?;
            }
        }
        Ok(Self { root, buckets, licences, bands, open: BTreeMap::new(), unsketched: BTreeSet::new() })
    }

    /// Bytes of a row group.
    pub fn row_group_bytes(&self) -> usize {
        (WRITERS_BYTES / (self.buckets.count * Split::ALL.len())).clamp(1 << 20, 32 << 20)
    }

    /// Adds a row; [`FunctionsWriter::flush`] writes it.
    pub fn push(&mut self, row: WrittenRow) -> Result<()> {
        let key = (row.record.split, self.buckets.of(&row.record.repo, &row.record.path));
        let row_group_bytes = self.row_group_bytes();
        let shard = match self.open.entry(key) {
            btree_map::Entry::Occupied(entry) => entry.into_mut(),
            btree_map::Entry::Vacant(entry) => {
                let path = self.root.join(Shards::name(key.0, key.1));
                let writer = TableWriter::create(&path, functions_schema())?.with_row_group_bytes(row_group_bytes);
                let table = self.root.join(table_name(key));
                let sketches = self.bands.map(|bands| SketchWriter::create(&table, bands)).transpose()?;
                entry.insert(OpenShard { writer, sketches, full: Vec::new(), last: Vec::new(), chunk: Chunk::default() })
            }
        };
        let is_full = shard.chunk.add(row.record.code.len() + row.record.docstring.len());
        shard.last.push(row);
        if is_full {
            shard.full.push(std::mem::take(&mut shard.last));
        }
        Ok(())
    }

    /// A line of the shard is rejected: a later run has to read its source files again, to reject it again.
    pub fn forget_sketches(&mut self, shard: ShardKey) {
        self.unsketched.insert(shard);
    }

    /// Writes the full batches, in parallel.
    pub fn flush(&mut self) -> Result<()> {
        let licences = self.licences;
        let full_shards: Vec<&mut OpenShard> = self.open.values_mut().filter(|shard| !shard.full.is_empty()).collect();
        full_shards.into_par_iter().try_for_each(|shard| shard.flush(licences))
    }

    /// Writes the remaining rows and closes the shards. Returns their number.
    pub fn finish(self) -> Result<u64> {
        let (licences, root, unsketched) = (self.licences, self.root, self.unsketched);
        let shards: Vec<(ShardKey, OpenShard)> = self.open.into_iter().collect();
        let written = shards.len() as u64;
        shards.into_par_iter().try_for_each(|(key, mut shard)| {
            shard.full.push(std::mem::take(&mut shard.last));
            shard.flush(licences)?;
            shard.sketches.map(SketchWriter::finish).transpose()?;
            if self.bands.is_some() && unsketched.contains(&key) {
                fs::remove_file(root.join(table_name(key)))?;
            }
            Ok::<_, Error>(shard.writer.finish()?)
        })?;
        Ok(written)
    }
}

impl OpenShard {
    fn flush(&mut self, licences: &BTreeMap<String, String>) -> Result<()> {
        for rows in std::mem::take(&mut self.full).into_iter().filter(|rows| !rows.is_empty()) {
            self.writer.write(&batch(&rows, licences)?)?;
            if let Some(sketches) = &mut self.sketches {
                let of_row = |row: WrittenRow| row.sketch;
                rows.into_iter().filter_map(of_row).try_for_each(|(member, sketch)| sketches.push(member, sketch))?;
            }
        }
        Ok(())
    }
}

fn batch(rows: &[WrittenRow], licences: &BTreeMap<String, String>) -> Result<RecordBatch> {
    let text = |value: &dyn for<'r> Fn(&'r Record) -> &'r str| -> ArrayRef {
        let bytes = rows.iter().map(|row| value(&row.record).len()).sum();
        let mut builder = StringBuilder::with_capacity(rows.len(), bytes);
        rows.iter().for_each(|row| builder.append_value(value(&row.record)));
        Arc::new(builder.finish())
    };
    let list = |value: &dyn Fn(&Record) -> &TextList| -> ArrayRef {
        let bytes = rows.iter().map(|row| value(&row.record).joined().len()).sum();
        let texts = StringBuilder::with_capacity(rows.iter().map(|row| value(&row.record).len()).sum(), bytes);
        let mut builder = ListBuilder::new(texts).with_field(Field::new_list_field(DataType::Utf8, false));
        for row in rows {
            value(&row.record).iter().for_each(|token| builder.values().append_value(token));
            builder.append(true);
        }
        Arc::new(builder.finish())
    };
    let line = |value: &dyn Fn((u32, u32)) -> u32| -> ArrayRef {
        let mut builder = UInt32Builder::new();
        rows.iter().for_each(|row| builder.append_option(row.record.lines.map(value)));
        Arc::new(builder.finish())
    };
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.id.hex()));
    let licence: StringArray = rows.iter().map(|row| licences.get(&row.record.repo)).collect();
    let ids_of = |of: &dyn Fn(&WrittenRow) -> Option<RowId>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).map(RowId::hex)).collect::<StringArray>())
    };
    Ok(RecordBatch::try_new(
        functions_schema(),
        vec![
            Arc::new(ids),
            text(&|record| record.language.name()),
            text(&|record| &record.repo),
            text(&|record| &record.path),
            text(&|record| &record.func_name),
            text(&|record| &record.code),
            list(&|record| &record.code_tokens),
            text(&|record| &record.docstring),
            list(&|record| &record.docstring_tokens),
            text(&|record| &record.url),
            line(&|(first, _)| first),
            line(&|(_, last)| last),
            Arc::new(licence),
            ids_of(&|row| row.duplicate_of),
            ids_of(&|row| row.alias_of),
        ],
    )?)
}

/// Writes `rejects.parquet`: file, line, byte offset, reason, first bytes as text.
pub struct RejectsWriter {
    writer: TableWriter,
    schema: SchemaRef,
    columns: (StringBuilder, UInt64Builder, UInt64Builder, StringBuilder, StringBuilder),
    pending: usize,
}

impl RejectsWriter {
    pub fn create(path: &Path) -> Result<Self> {
        let number = |name: &str| Field::new(name, DataType::UInt64, false);
        let schema = schema(vec![
            text_field("file", false),
            number("line"),
            number("offset"),
            text_field("reason", false),
            text_field("head", false),
        ]);
        Ok(Self { writer: TableWriter::create(path, schema.clone())?, schema, columns: Default::default(), pending: 0 })
    }

    pub fn write(&mut self, file: &str, line: u64, offset: u64, reason: &str, head: &[u8]) -> Result<()> {
        let (files, lines, offsets, reasons, heads) = &mut self.columns;
        files.append_value(file);
        lines.append_value(line);
        offsets.append_value(offset);
        reasons.append_value(reason);
        heads.append_value(String::from_utf8_lossy(head));
        self.pending += 1;
        if self.pending >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.pending = 0;
        let (files, lines, offsets, reasons, heads) = &mut self.columns;
        let batch = RecordBatch::try_new(
            self.schema.clone(),
            vec![
                Arc::new(files.finish()),
                Arc::new(lines.finish()),
                Arc::new(offsets.finish()),
                Arc::new(reasons.finish()),
                Arc::new(heads.finish()),
            ],
        )?;
        Ok(self.writer.write(&batch)?)
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        Ok(self.writer.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shards(settings: &str, repositories: u32) -> Vec<BTreeSet<usize>> {
        let all = r#""max-line-bytes": 1, "max-reject-fraction": 1, "split-leaks": "refuse", "duplicates": null"#;
        let buckets = Buckets::new(&serde_json::from_str(&format!("{{ {settings}, {all} }}")).unwrap());
        let shards_of = |repository: u32| (0..200).map(|file| buckets.of(&format!("o/{repository}"), &format!("{file}.py"))).collect();
        (0..repositories).map(shards_of).collect()
    }

    #[test]
    fn the_files_of_a_repository_are_in_so_many_shards_next_to_each_other() {
        let found = shards(r#""shards": 13, "shards-of-repository": 4"#, 40);
        assert!(found.iter().all(|shards| shards.len() == 4 && shards.first().unwrap() % 4 == 0), "{found:?}");
        assert_eq!(found.into_iter().flatten().collect::<BTreeSet<_>>(), (0..12).collect());
    }

    #[test]
    fn without_a_number_the_files_of_a_repository_are_in_all_shards() {
        for settings in [r#""shards": 5"#, r#""shards": 5, "shards-of-repository": 9"#] {
            assert_eq!(shards(settings, 1), [(0..5).collect::<BTreeSet<_>>()]);
        }
        assert_eq!(shards(r#""shards": 0"#, 1), [BTreeSet::from([0])]);
    }
}
