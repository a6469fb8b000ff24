//! Rows of `syntax` to documents of the lexical index, in segments over fixed ranges of rows.

use std::{fs, ops::Range, path::Path};

use arrow::array::{Array, RecordBatch, StringArray};
use bundle::lexical::{Document, tokenizer};
use ledger::{Shard, table, words};
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

const COLUMNS: [&str; 14] = [
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
        let (signatures, name_words, code_words, doc_words) =
            (text("signature")?, text("name_words")?, text("code_words")?, text("doc_words")?);
        for row in 0..batch.num_rows() {
            if range.contains(&number) {
                let [id, repo, path, name, url] = [0, 1, 2, 3, 4].map(|column| stored[column].value(row).to_owned());
                let lines = if first.is_valid(row) { format!("{}-{}", first.value(row), last.value(row)) } else { String::new() };
                take(Document {
                    row: number,
                    language: languages.value(row).to_owned(),
                    split: shard.split.to_string(),
                    words: [
                        name_words.value(row).to_owned(),
                        words::joined(signatures.value(row)),
                        words::joined(&path),
                        code_words.value(row).to_owned(),
                        doc_words.value(row).to_owned(),
                    ],
                    stored: [id, repo, path, name, url, lines, summaries.value(row).to_owned(), codes.value(row).to_owned()],
                })?;
            }
            number += 1;
        }
    }
    Ok(())
}

/// Summaries of the documentation: CodeSearchNet's docstring tokens, joined by spaces.
pub fn summaries(batch: &RecordBatch) -> Result<StringArray> {
    let tokens = table::text_lists(batch, "docstring_tokens")?;
    Ok(StringArray::from_iter_values((0..batch.num_rows()).map(|row| tokens.row(row).collect::<Vec<_>>().join(" "))))
}
