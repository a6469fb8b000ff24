//! Rows of `syntax` to documents of the lexical index.

use arrow::array::{Array, RecordBatch, StringArray};
use bundle::lexical::{Document, TEXT_FIELDS, name_parts, symbol_keys};
use ledger::{
    Shard,
    table::{self, Lists},
    words,
};

use crate::Result;

/// Columns of `syntax` that a document is made of.
pub const COLUMNS: [&str; 17] = [
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

/// Calls `take` with the documents of some rows, which are in ascending order.
pub fn documents(shards: &[&Shard], rows: &[u32], mut take: impl FnMut(Document) -> Result<()>) -> Result<()> {
    let (mut start, mut rest) = (0, rows);
    for shard in shards {
        let end = start + u32::try_from(table::row_count(&shard.path)?)?;
        let (of_shard, others) = rest.split_at(rest.partition_point(|row| *row < end));
        if !of_shard.is_empty() {
            documents_of_shard(shard, start, of_shard, &mut take)?;
        }
        (start, rest) = (end, others);
    }
    Ok(())
}

fn documents_of_shard(shard: &Shard, start: u32, rows: &[u32], take: &mut impl FnMut(Document) -> Result<()>) -> Result<()> {
    let (mut start, mut rest) = (start, rows);
    for batch in table::read(&shard.path, &COLUMNS)? {
        let batch = batch?;
        let end = start + u32::try_from(batch.num_rows())?;
        let (of_batch, others) = rest.split_at(rest.partition_point(|row| *row < end));
        if !of_batch.is_empty() {
            let indices: Vec<usize> = of_batch.iter().map(|row| (row - start) as usize).collect();
            documents_of_batch(&batch, &indices, shard, take)?;
        }
        if others.is_empty() {
            break;
        }
        (start, rest) = (end, others);
    }
    Ok(())
}

fn documents_of_batch(batch: &RecordBatch, rows: &[usize], shard: &Shard, take: &mut impl FnMut(Document) -> Result<()>) -> Result<()> {
    let text = |name: &str| table::texts(batch, name);
    let stored = [text("id")?, text("repo")?, text("path")?, text("func_name")?, text("url")?];
    let (languages, codes) = (text("language")?, text("code")?);
    let (first, last) = (table::u32s(batch, "line_start")?, table::u32s(batch, "line_end")?);
    let summaries = summaries(batch)?;
    let texts = RowTexts::of(batch)?;
    for &row in rows {
        let [id, repo, path, name, url] = [0, 1, 2, 3, 4].map(|column| stored[column].value(row).to_owned());
        let lines = if first.is_valid(row) { format!("{}-{}", first.value(row), last.value(row)) } else { String::new() };
        take(Document {
            language: languages.value(row).to_owned(),
            split: shard.split.to_string(),
            words: texts.words(row, &name, &path),
            symbols: symbol_keys(&name, &path),
            stored: [id, repo, path, name, url, lines, summaries.value(row).to_owned(), codes.value(row).to_owned()],
        })?;
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
