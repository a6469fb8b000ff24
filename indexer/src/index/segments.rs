//! Rows of `syntax` to documents of the lexical index, in segments over fixed ranges of rows.

use std::{fs, ops::Range, path::Path};

use arrow::array::{Array, RecordBatch, StringArray};
use bundle::lexical::{Document, TEXT_FIELDS, name_parts, symbol_keys, tokenizer};
use ledger::{
    Shard,
    table::{self, Lists},
    words,
};
use rayon::prelude::*;

use crate::{
    Result,
    lexical::{self, SegmentWriter},
};

/// Size of the segments and tokenizer of the index.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions {
    /// Rows in a segment; segments are built in parallel.
    pub rows: u64,
    /// Buffer of each segment's writer, in megabytes.
    pub megabytes: usize,
    /// Do words of one stem match each other?
    pub stemming: bool,
}

/// Writes the first `rows` rows of the shards as one index into `target`, by way of the folder `scratch`; calls `done` after each row.
/// Returns the number of segments.
pub fn write(options: &SegmentOptions, shards: &[&Shard], rows: u64, target: &Path, scratch: &Path, done: impl Fn() + Sync) -> Result<u64> {
    let count = rows.div_ceil(options.rows);
    let segments = (0..count)
        .into_par_iter()
        .map(|segment| {
            let range = segment * options.rows..((segment + 1) * options.rows).min(rows);
            let dir = scratch.join(segment.to_string());
            let mut writer = SegmentWriter::create(&dir, tokenizer(options.stemming), options.megabytes * 1_000_000)?;
            documents(shards, range, |document| {
                done();
                writer.write(&document)
            })?;
            Ok((dir, writer.finish()?))
        })
        .collect::<Result<Vec<_>>>()?;
    lexical::assemble(&segments, target)?;
    fs::remove_dir_all(scratch)?;
    Ok(count)
}

const COLUMNS: [&str; 17] = [
    "id",
    "language",
    "repo",
    "path",
    "func_name",
    "url",
    "line_start",
    "line_end",
    "docstring_tokens",
    "code",
    "signature",
    "name_words",
    "code_words",
    "doc_words",
    "query_words",
    "comments",
    "strings",
];

/// Calls `take` with the documents of a range of rows, in order.
pub fn documents(shards: &[&Shard], range: Range<u64>, mut take: impl FnMut(Document) -> Result<()>) -> Result<()> {
    let mut start = 0;
    for shard in shards {
        let end = start + table::row_count(&shard.path)?;
        if start < range.end && end > range.start {
            documents_of_shard(shard, start, &range, &mut take)?;
        }
        start = end;
    }
    Ok(())
}

fn documents_of_shard(shard: &Shard, start: u64, range: &Range<u64>, take: &mut impl FnMut(Document) -> Result<()>) -> Result<()> {
    let mut number = start;
    for batch in table::read(&shard.path, &COLUMNS)? {
        let batch = batch?;
        if number >= range.end {
            break;
        }
        let text = |name: &str| table::texts(&batch, name);
        let stored = [text("id")?, text("repo")?, text("path")?, text("func_name")?, text("url")?];
        let (languages, codes) = (text("language")?, text("code")?);
        let (first, last) = (table::u32s(&batch, "line_start")?, table::u32s(&batch, "line_end")?);
        let summaries = summaries(&batch)?;
        let texts = RowTexts::of(&batch)?;
        for row in 0..batch.num_rows() {
            if range.contains(&number) {
                let [id, repo, path, name, url] = [0, 1, 2, 3, 4].map(|column| stored[column].value(row).to_owned());
                let lines = if first.is_valid(row) { format!("{}-{}", first.value(row), last.value(row)) } else { String::new() };
                take(Document {
                    row: number,
                    language: languages.value(row).to_owned(),
                    split: shard.split.to_string(),
                    words: texts.words(row, &name, &path),
                    symbols: symbol_keys(&name, &path),
                    stored: [id, repo, path, name, url, lines, summaries.value(row).to_owned(), codes.value(row).to_owned()],
                })?;
            }
            number += 1;
        }
    }
    Ok(())
}

/// Columns of a batch that the text fields are made of.
struct RowTexts {
    signature: StringArray,
    code_words: StringArray,
    doc_words: StringArray,
    query_words: StringArray,
    comments: Lists<StringArray>,
    strings: Lists<StringArray>,
}

impl RowTexts {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let text = |name: &str| table::texts(batch, name);
        Ok(Self {
            signature: text("signature")?,
            code_words: text("code_words")?,
            doc_words: text("doc_words")?,
            query_words: text("query_words")?,
            comments: table::text_lists(batch, "comments")?,
            strings: table::text_lists(batch, "strings")?,
        })
    }

    /// The words of [`TEXT_FIELDS`] of a row.
    fn words(&self, row: usize, name: &str, path: &str) -> [String; TEXT_FIELDS.len()] {
        let parts = name_parts(name);
        let (last, classes) = parts.split_last().map_or((name, &[][..]), |(last, classes)| (*last, classes));
        let (documentation, brief) = (self.doc_words.value(row), self.query_words.value(row));
        let rest = documentation.strip_prefix(brief).filter(|rest| rest.is_empty() || rest.starts_with(' ')).unwrap_or(documentation);
        [
            words::joined(last),
            words::joined(&classes.join(" ")),
            words::compounds(name).join(" "),
            words::joined(self.signature.value(row)),
            brief.to_owned(),
            rest.trim_start().to_owned(),
            self.code_words.value(row).to_owned(),
            joined(self.comments.row(row)),
            joined(self.strings.row(row)),
            words::joined(path),
        ]
    }
}

fn joined<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut found = Vec::new();
    texts.for_each(|text| words::subtokens(text, &mut found));
    found.join(" ")
}

/// Summaries of the documentation: CodeSearchNet's docstring tokens, joined by spaces.
pub fn summaries(batch: &RecordBatch) -> Result<StringArray> {
    let tokens = table::text_lists(batch, "docstring_tokens")?;
    Ok(StringArray::from_iter_values((0..batch.num_rows()).map(|row| tokens.row(row).collect::<Vec<_>>().join(" "))))
}
