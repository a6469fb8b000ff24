//! The tables that `ingest` writes: `functions` shard by shard, rejects and duplicates beside them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::Result;
use arrow::{
    array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder},
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Shards, Split,
    table::{BATCH_ROWS, TableWriter, schema, text_field, texts_field, u32_field},
};

use super::record::Record;

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
    ])
}

/// Routes rows to their shards. Holds at most one batch a shard.
pub struct FunctionsWriter<'a> {
    root: &'a Path,
    buckets: usize,
    licences: &'a BTreeMap<String, String>,
    open: BTreeMap<(Split, usize), OpenShard>,
}

struct OpenShard {
    writer: TableWriter,
    pending: Vec<(String, Record)>,
    pending_bytes: usize,
}

/// Bytes of code that a shard holds before it writes a batch.
const PENDING_BYTES: usize = 16 << 20;

impl<'a> FunctionsWriter<'a> {
    pub fn new(root: &'a Path, buckets: usize, licences: &'a BTreeMap<String, String>) -> Result<Self> {
        for split in Split::ALL {
            fs::create_dir_all(root.join(split.name()))?;
        }
        Ok(Self { root, buckets: buckets.max(1), licences, open: BTreeMap::new() })
    }

    /// The shard of a row depends on its repository and path only.
    fn bucket(&self, record: &Record) -> usize {
        let hash = blake3::hash(format!("{}\n{}", record.repo, record.path).as_bytes());
        let bytes: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        usize::try_from(u64::from_le_bytes(bytes) % self.buckets as u64).unwrap_or_default()
    }

    pub fn write(&mut self, id: String, record: Record) -> Result<()> {
        let key = (record.split, self.bucket(&record));
        let shard = match self.open.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let path = self.root.join(Shards::name(key.0, key.1));
                entry.insert(OpenShard { writer: TableWriter::create(&path, functions_schema())?, pending: Vec::new(), pending_bytes: 0 })
            }
        };
        shard.pending_bytes += record.code.len() + record.docstring.len();
        shard.pending.push((id, record));
        if shard.pending.len() >= BATCH_ROWS || shard.pending_bytes >= PENDING_BYTES {
            shard.flush(self.licences)?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        for mut shard in self.open.into_values() {
            shard.flush(self.licences)?;
            shard.writer.finish()?;
        }
        Ok(())
    }
}

impl OpenShard {
    fn flush(&mut self, licences: &BTreeMap<String, String>) -> Result<()> {
        let rows = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let text = |value: &dyn Fn(&(String, Record)) -> String| -> ArrayRef {
            let mut builder = StringBuilder::new();
            rows.iter().for_each(|row| builder.append_value(value(row)));
            Arc::new(builder.finish())
        };
        let list = |value: &dyn Fn(&Record) -> &[String]| -> ArrayRef {
            let mut builder = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false));
            for (_, record) in &rows {
                value(record).iter().for_each(|token| builder.values().append_value(token));
                builder.append(true);
            }
            Arc::new(builder.finish())
        };
        let line = |value: &dyn Fn((u32, u32)) -> u32| -> ArrayRef {
            let mut builder = UInt32Builder::new();
            rows.iter().for_each(|(_, record)| builder.append_option(record.lines.map(value)));
            Arc::new(builder.finish())
        };
        let mut licence = StringBuilder::new();
        rows.iter().for_each(|(_, record)| licence.append_option(licences.get(&record.repo)));
        let batch = RecordBatch::try_new(
            functions_schema(),
            vec![
                text(&|(id, _)| id.clone()),
                text(&|(_, record)| record.language.to_string()),
                text(&|(_, record)| record.repo.clone()),
                text(&|(_, record)| record.path.clone()),
                text(&|(_, record)| record.func_name.clone()),
                text(&|(_, record)| record.code.clone()),
                list(&|record| &record.code_tokens),
                text(&|(_, record)| record.docstring.clone()),
                list(&|record| &record.docstring_tokens),
                text(&|(_, record)| record.url.clone()),
                line(&|(first, _)| first),
                line(&|(_, last)| last),
                Arc::new(licence.finish()),
            ],
        )?;
        self.writer.write(&batch)
    }
}

/// `rejects.parquet`: file, line, byte offset, reason, first bytes (as text).
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
        self.writer.write(&batch)
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.writer.finish()
    }
}

/// `duplicates.parquet`: the row left out, and the kept row that it duplicates.
pub struct DuplicatesWriter {
    writer: TableWriter,
    schema: SchemaRef,
    pairs: Vec<[String; 3]>,
}

impl DuplicatesWriter {
    pub fn create(path: &Path) -> Result<Self> {
        let schema = schema(vec![text_field("id", false), text_field("kept_id", false), text_field("url", false)]);
        Ok(Self { writer: TableWriter::create(path, schema.clone())?, schema, pairs: Vec::new() })
    }

    pub fn write(&mut self, id: String, kept: String, url: String) -> Result<()> {
        self.pairs.push([id, kept, url]);
        if self.pairs.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let pairs = std::mem::take(&mut self.pairs);
        let column =
            |index: usize| -> ArrayRef { Arc::new(arrow::array::StringArray::from_iter_values(pairs.iter().map(|pair| &pair[index]))) };
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), vec![column(0), column(1), column(2)])?)
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.writer.finish()
    }
}
