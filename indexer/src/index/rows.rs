//! Files of a bundle with one entry a row: `docs.parquet` and the vectors.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use bundle::manifest::{CONTENT, DOCS};
use ledger::{
    Embeddings, Shard, ensure,
    table::{self, TableWriter, text_field, u32_field},
};

use super::{content::content, documents::summaries};
use crate::{Result, error::Context, vectors::MatrixWriter};

fn schema() -> SchemaRef {
    let text = |name: &str| text_field(name, false);
    let line = |name: &str| u32_field(name, true);
    table::schema(vec![
        text("id"),
        text("split"),
        text("language"),
        text("repo"),
        text("path"),
        text("func_name"),
        line("line_start"),
        line("line_end"),
        text("url"),
        text_field("licence", true),
        text("summary"),
        text("docstring"),
        text("code"),
        text_field("duplicate_of", true),
        text_field("alias_of", true),
        text(CONTENT),
    ])
}

/// Writes `docs.parquet` in row order; returns the number of rows by language.
pub fn write_docs(shards: &[&Shard], dir: &Path) -> Result<BTreeMap<String, u64>> {
    let mut writer = TableWriter::create(&dir.join(DOCS), schema())?;
    let mut languages = BTreeMap::new();
    let columns = [
        "id",
        "language",
        "repo",
        "path",
        "func_name",
        "line_start",
        "line_end",
        "url",
        "licence",
        "docstring",
        "docstring_tokens",
        "code",
        "duplicate_of",
        "alias_of",
        "code_tokens",
    ];
    for shard in shards {
        for batch in table::read(&shard.path, &columns)? {
            let batch = batch?;
            let split: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(shard.split.name(), batch.num_rows())));
            let arrays = schema()
                .fields()
                .iter()
                .map(|field| match field.name().as_str() {
                    "split" => Ok(split.clone()),
                    CONTENT => contents(&batch),
                    "summary" => Ok(Arc::new(summaries(&batch)?) as ArrayRef),
                    name => batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`")),
                })
                .collect::<Result<Vec<_>>>()?;
            writer.write(&RecordBatch::try_new(schema(), arrays)?)?;
            for language in table::texts(&batch, "language")?.iter().flatten() {
                *languages.entry(language.to_owned()).or_default() += 1;
            }
        }
    }
    writer.finish()?;
    Ok(languages)
}

fn contents(batch: &RecordBatch) -> Result<ArrayRef> {
    let (languages, codes) = (table::texts(batch, "language")?, table::texts(batch, "code")?);
    let tokens = table::text_lists(batch, "code_tokens")?;
    let of_row = |row: usize| {
        let language = languages.value(row).parse().ok().with_context(|| format!("{} is no supported language", languages.value(row)))?;
        Ok(content(language, tokens.row(row), codes.value(row)))
    };
    let contents = (0..batch.num_rows()).map(of_row).collect::<Result<Vec<String>>>()?;
    Ok(Arc::new(StringArray::from(contents)))
}

/// Writes the vectors in row order, and checks that each has the id of its row.
pub fn write_vectors(embeddings: &Embeddings, shards: &[&Shard], rows: u64, dimension: usize, dir: &Path) -> Result<()> {
    let mut writer = MatrixWriter::create(dir, usize::try_from(rows)?, dimension)?;
    let by_name: BTreeMap<&str, &Shard> = embeddings.shards.iter().map(|shard| (shard.name.as_str(), shard)).collect();
    for shard in shards {
        let vectors = by_name.get(shard.name.as_str()).with_context(|| format!("no embeddings of shard {}", shard.name))?;
        let ids = table::read(&shard.path, &["id"])?;
        let mut embedded = table::read(&vectors.path, &["id", "embedding"])?;
        for batch in ids {
            let batch = batch?;
            let other = embedded.next().with_context(|| format!("embeddings of shard {} are cut short", shard.name))??;
            let same = table::texts(&batch, "id")? == table::texts(&other, "id")?;
            ensure!(same, "embeddings of shard {} belong to other rows: run `codenets run --only embed`", shard.name);
            let (values, width) = table::vectors(&other, "embedding")?;
            for row in values.values().chunks(width) {
                writer.write(row)?;
            }
        }
    }
    writer.finish()
}
