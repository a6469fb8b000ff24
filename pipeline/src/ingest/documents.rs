//! What a raw file holds: jsonl, packed or not; a zip of them (CodeSearchNet's own form); or the Hub's Parquet.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch, StringArray};
use ledger::table;

use super::{
    lines::Lines,
    record::{FIELDS, Fields, Hints, Record, Reject},
    texts::Texts,
};

/// How much of a rejected line is kept.
pub const HEAD_BYTES: usize = 200;

/// Rows of a Parquet file that are unpacked at once: of one at the limit there may be many.
const ROWS_AT_ONCE: usize = 64;

/// A line or row and where it stands: number from 1, byte offset in the unpacked text.
#[derive(Debug)]
pub struct Item {
    pub number: u64,
    pub offset: u64,
    pub content: Content,
}

/// What stands there.
#[derive(Debug)]
pub enum Content {
    Line(Vec<u8>),
    Row(Box<Record>),
    /// With the first bytes of what was there.
    Rejected(Reject, Vec<u8>),
}

type Take<'a> = &'a mut dyn FnMut(&str, &mut dyn Iterator<Item = Item>) -> Result<()>;

/// Offers the items of every document in a file, which is called `name`: a zip gives one a member, called
/// `name!/member`.
pub fn read(path: &Path, name: &str, max_line_bytes: usize, take: Take<'_>) -> Result<()> {
    let open = || File::open(path).with_context(|| format!("reading {}", path.display()));
    match kind(name) {
        Some(Kind::Jsonl { packed }) => {
            let mut file = Watched { file: open()?, error: None };
            take(name, &mut Lines::new(&mut file, packed, Reject::CorruptGzip, max_line_bytes))?;
            // A packed stream may be bad; a disk that cannot be read is no fault of the data.
            file.error.map_or(Ok(()), |error| Err(error).with_context(|| format!("reading {}", path.display())))
        }
        Some(Kind::Zip) => read_zip(open()?, name, max_line_bytes, take),
        Some(Kind::Parquet) => {
            open()?;
            take(name, &mut Rows::open(path, name, max_line_bytes))
        }
        None => take(name, &mut rejected(Reject::UnknownFileType)),
    }
}

/// A file that remembers whether it could be read.
struct Watched {
    file: File,
    error: Option<io::Error>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| self.error = Some(error.kind().into()))
    }
}

enum Kind {
    Jsonl { packed: bool },
    Zip,
    Parquet,
}

fn kind(name: &str) -> Option<Kind> {
    let name = name.to_lowercase();
    [
        (".jsonl", Kind::Jsonl { packed: false }),
        (".jsonl.gz", Kind::Jsonl { packed: true }),
        (".zip", Kind::Zip),
        (".parquet", Kind::Parquet),
    ]
    .into_iter()
    .find_map(|(end, kind)| name.ends_with(end).then_some(kind))
}

fn rejected(reject: Reject) -> impl Iterator<Item = Item> {
    std::iter::once(Item { number: 0, offset: 0, content: Content::Rejected(reject, Vec::new()) })
}

/// Members are read as streams, in their order: nothing is unpacked to disk.
fn read_zip(file: File, name: &str, max_line_bytes: usize, take: Take<'_>) -> Result<()> {
    let Ok(mut zip) = zip::ZipArchive::new(file) else { return take(name, &mut rejected(Reject::CorruptZip)) };
    for index in 0..zip.len() {
        let Ok(member) = zip.by_index(index) else {
            take(&format!("{name}!/{index}"), &mut rejected(Reject::CorruptZip))?;
            continue;
        };
        if !member.is_file() {
            continue;
        }
        let own = member.name().map_or_else(|_| index.to_string(), |own| own.into_owned());
        let name = format!("{name}!/{own}");
        match kind(&own) {
            Some(Kind::Jsonl { packed }) => take(&name, &mut Lines::new(member, packed, Reject::CorruptZip, max_line_bytes))?,
            _ => take(&name, &mut rejected(Reject::UnknownFileType))?,
        }
    }
    Ok(())
}

/// The rows of a Parquet file whose columns have names that are known ([`FIELDS`]).
struct Rows<'a> {
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>,
    hints: Hints,
    ready: std::vec::IntoIter<Content>,
    number: u64,
    max_row_bytes: usize,
}

/// The parquet library panics on some damaged files, where it means to be sure of what it reads: that is the file's
/// fault, and an error like others.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|_| Err(anyhow::anyhow!("the parquet library gave up")))
}

impl Rows<'_> {
    fn open(path: &Path, name: &str, max_row_bytes: usize) -> Self {
        let batches = guarded(|| {
            let names = table::column_names(path)?;
            let known: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| FIELDS.iter().any(|(_, names)| names.contains(name))).collect();
            anyhow::ensure!(!known.is_empty(), "no column of a known name");
            table::read_batches(path, &known, ROWS_AT_ONCE)
        });
        let batches: Box<dyn Iterator<Item = Result<RecordBatch>>> = match batches {
            Ok(batches) => Box::new(batches),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        Self { batches, hints: Hints::of(name), ready: Vec::new().into_iter(), number: 0, max_row_bytes }
    }
}

impl Iterator for Rows<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(content) = self.ready.next() {
                self.number += 1;
                return Some(Item { number: self.number, offset: 0, content });
            }
            let rows =
                guarded(|| self.batches.next().transpose()).transpose()?.and_then(|batch| rows(&batch, self.hints, self.max_row_bytes));
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
        FIELDS[field].1.iter().find(has).map(|name| table::texts(batch, name)).transpose()
    };
    let lists = |field: usize| FIELDS[field].1.iter().find(has).map(|name| table::text_lists(batch, name)).transpose();
    let columns = [0, 1, 2, 3, 4, 6, 8, 9].into_iter().map(texts).collect::<Result<Vec<_>>>()?;
    let tokens = [lists(5)?, lists(7)?];
    let row = |row: usize| {
        let text = |column: usize| {
            columns[column].as_ref().filter(|texts| !texts.is_null(row)).map(|texts| std::borrow::Cow::Borrowed(texts.value(row)))
        };
        let list =
            |column: usize| tokens[column].as_ref().filter(|lists| !lists.is_null(row)).map(|lists| lists.row(row).collect::<Texts>());
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
        };
        let head = fields.func_name.as_ref().map(|name| name.as_bytes()[..name.len().min(HEAD_BYTES)].to_vec());
        let bytes = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        if bytes(&fields.code) + bytes(&fields.docstring) > max_row_bytes {
            return Content::Rejected(Reject::LineTooLong, head.unwrap_or_default());
        }
        match fields.check(hints) {
            Ok(record) => Content::Row(Box::new(record)),
            Err(reject) => Content::Rejected(reject, head.unwrap_or_default()),
        }
    };
    Ok((0..batch.num_rows()).map(row).collect())
}
