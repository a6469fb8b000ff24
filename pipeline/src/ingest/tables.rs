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
    buckets::{Buckets, ShardKey},
    row_id::RowId,
    sketches::{RowSketch, SketchWriter, table_name},
};
use crate::{
    error::{Error, Result},
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
