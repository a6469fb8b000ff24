//! The lexical side of a bundle: rows to documents, and segments over fixed ranges of rows.

use std::{fs, ops::Range, path::Path};

use anyhow::Result;
use arrow::array::{Array, RecordBatch, StringArray};
use ledger::{Shard, table, words};
use rayon::prelude::*;

use crate::lexical::{self, Document, SegmentWriter};

/// How rows become segments.
#[derive(Debug, Clone, Copy)]
pub struct Segmented {
    /// Rows a segment; segments are built in parallel.
    pub rows: u64,
    /// Memory of a segment's writer.
    pub megabytes: usize,
    pub stemming: bool,
}

/// Writes the first `rows` rows of the shards as one index into `target`; gives the number of its segments.
pub fn write(how: &Segmented, shards: &[&Shard], rows: u64, target: &Path, scratch: &Path, done: impl Fn() + Sync) -> Result<u64> {
    let count = rows.div_ceil(how.rows);
    let segments = (0..count)
        .into_par_iter()
        .map(|segment| {
            let range = segment * how.rows..((segment + 1) * how.rows).min(rows);
            let dir = scratch.join(segment.to_string());
            let mut writer = SegmentWriter::create(&dir, lexical::tokenizer(how.stemming), how.megabytes * 1_000_000)?;
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

/// Hands over the documents of a range of rows, in their order.
pub fn documents(shards: &[&Shard], range: Range<u64>, mut take: impl FnMut(Document) -> Result<()>) -> Result<()> {
    let mut start = 0;
    for shard in shards {
        let end = start + table::row_count(&shard.path)?;
        if start < range.end && end > range.start {
            of_shard(shard, start, &range, &mut take)?;
        }
        start = end;
    }
    Ok(())
}

fn of_shard(shard: &Shard, start: u64, range: &Range<u64>, take: &mut impl FnMut(Document) -> Result<()>) -> Result<()> {
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

/// The documentation's summary: CodeSearchNet's docstring tokens, joined.
pub fn summaries(batch: &RecordBatch) -> Result<StringArray> {
    let tokens = table::text_lists(batch, "docstring_tokens")?;
    Ok(StringArray::from_iter_values((0..batch.num_rows()).map(|row| tokens.row(row).collect::<Vec<_>>().join(" "))))
}
