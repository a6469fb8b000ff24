//! Rows of a Parquet file as records.

use std::{borrow::Cow, path::Path};

use arrow::array::{Array, RecordBatch, StringArray};
use ledger::{ensure, table};

use super::{
    fields::{FIELDS, Fields},
    hints::Hints,
    item::{Content, HEAD_BYTES, Item},
    record::Record,
    reject::Reject,
    text_list::TextList,
};
use crate::error::Result;

/// Rows that are unpacked at once: rows near the size limit need much memory.
const ROWS_AT_ONCE: usize = 64;

type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>;

/// The rows of a Parquet file. Columns with unknown names ([`FIELDS`]) are ignored.
pub struct ParquetRows<'a> {
    batches: Batches<'a>,
    hints: Hints,
    ready: std::vec::IntoIter<Content>,
    number: u64,
    max_row_bytes: usize,
}

/// Turns a panic into an error: the parquet library panics on some damaged files.
fn catch_panic<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    result.unwrap_or_else(|_| Err(ledger::Invalid("the parquet library panicked".to_owned()).into()))
}

impl ParquetRows<'_> {
    /// Opens a file. A file that cannot be read gives one reject. `name`: the name of the file in the artifact.
    pub fn open(path: &Path, name: &str, max_row_bytes: usize) -> Self {
        let batches = catch_panic(|| {
            let names = table::column_names(path)?;
            let known: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| FIELDS.iter().any(|(_, names)| names.contains(name))).collect();
            ensure!(!known.is_empty(), "no column has a known name");
            let batches: Batches<'_> = Box::new(table::read_batches(path, &known, ROWS_AT_ONCE)?.map(|batch| Ok(batch?)));
            Ok(batches)
        });
        let batches = batches.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        Self { batches, hints: Hints::of(name), ready: Vec::new().into_iter(), number: 0, max_row_bytes }
    }
}

impl Iterator for ParquetRows<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(content) = self.ready.next() {
                self.number += 1;
                return Some(Item { number: self.number, offset: 0, content });
            }
            let rows =
                catch_panic(|| self.batches.next().transpose()).transpose()?.and_then(|batch| rows(&batch, self.hints, self.max_row_bytes));
            let rows = rows.unwrap_or_else(|_| {
                self.batches = Box::new(std::iter::empty());
                vec![Content::Rejected(Reject::CorruptParquet, Vec::new())]
            });
            self.ready = rows.into_iter();
        }
    }
}

fn rows(batch: &RecordBatch, hints: Hints, max_row_bytes: usize) -> Result<Vec<Content>> {
    let has = |name: &&&str| batch.column_by_name(name).is_some();
    let texts = |field: usize| -> Result<Option<StringArray>> {
        Ok(FIELDS[field].1.iter().find(has).map(|name| table::texts(batch, name)).transpose()?)
    };
    let lists = |field: usize| FIELDS[field].1.iter().find(has).map(|name| table::text_lists(batch, name)).transpose();
    let columns = [0, 1, 2, 3, 4, 6, 8, 9].into_iter().map(texts).collect::<Result<Vec<_>>>()?;
    let tokens = [lists(5)?, lists(7)?];
    let named = FIELDS.map(|(_, names)| names.iter().any(|name| has(&name)));
    let row = |row: usize| {
        let text =
            |column: usize| columns[column].as_ref().filter(|texts| !texts.is_null(row)).map(|texts| Cow::Borrowed(texts.value(row)));
        let list =
            |column: usize| tokens[column].as_ref().filter(|lists| !lists.is_null(row)).map(|lists| lists.row(row).collect::<TextList>());
        let fields = Fields {
            repo: text(0),
            path: text(1),
            func_name: text(2),
            language: text(3),
            code: text(4),
            code_tokens: list(0),
            docstring: text(5),
            docstring_tokens: list(1),
            url: text(6),
            split: text(7),
            named,
        };
        let head = fields.func_name.as_ref().map(|name| name.as_bytes()[..name.len().min(HEAD_BYTES)].to_vec());
        let bytes = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        if bytes(&fields.code) + bytes(&fields.docstring) > max_row_bytes {
            return Content::Rejected(Reject::LineTooLong, head.unwrap_or_default());
        }
        match Record::from_fields(fields, hints) {
            Ok(record) => Content::Row(Box::new(record)),
            Err(reject) => Content::Rejected(reject, head.unwrap_or_default()),
        }
    };
    Ok((0..batch.num_rows()).map(row).collect())
}
