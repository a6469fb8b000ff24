//! Files of a bundle with one entry a row: `docs.parquet` and the vectors.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{Field, SchemaRef},
};
use bundle::manifest::{CONTENT, DOCS};
use ledger::{
    Embeddings, Shard, ensure,
    row_groups::{self, RowGroups},
    table::{self, TableWriter, text_field, u32_field},
};
use rayon::prelude::*;

use super::{content::content, documents::summaries};
use crate::{Result, error::Context, vectors::MatrixWriter};

/// The rows of an earlier bundle whose files with an entry a row are intact.
pub struct EarlierRows {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// For each shard the rows that it has there, if it has not changed.
    pub of_shards: Vec<Option<Range<usize>>>,
}

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

/// Columns of `syntax` that the columns of `docs.parquet` are made of.
const COLUMNS: [&str; 15] = [
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

/// Writes `docs.parquet` in row order, with row groups for each shard; returns the number of rows by language. The row groups of a shard that
/// an earlier bundle has are copied. `scratch`: a folder that is created and deleted.
pub fn write_docs(shards: &[&Shard], dir: &Path, earlier: Option<&EarlierRows>, scratch: &Path) -> Result<BTreeMap<String, u64>> {
    fs::create_dir(scratch)?;
    let groups = earlier.map(|earlier| RowGroups::open(&earlier.bundle.join(DOCS))).transpose()?;
    let part = |(number, shard): (usize, &&Shard)| -> Result<Option<(RowGroups, Range<usize>)>> {
        if copied(groups.as_ref(), earlier, number).is_some() {
            return Ok(None);
        }
        let path = scratch.join(format!("{number}.parquet"));
        write_part(shard, &path)?;
        let part = RowGroups::open(&path)?;
        let all = part.all();
        Ok(Some((part, all)))
    };
    let parts = shards.par_iter().enumerate().map(part).collect::<Result<Vec<_>>>()?;
    let copied = |number: usize| groups.as_ref().zip(copied(groups.as_ref(), earlier, number));
    let parts = parts.iter().enumerate().filter_map(|(number, part)| match part {
        Some((part, all)) => Some((part, all.clone())),
        None => copied(number),
    });
    let docs = dir.join(DOCS);
    row_groups::write(&docs, parts)?;
    fs::remove_dir_all(scratch)?;
    let mut languages = BTreeMap::new();
    for batch in table::read(&docs, &["language"])? {
        for language in table::texts(&batch?, "language")?.iter().flatten() {
            *languages.entry(language.to_owned()).or_default() += 1;
        }
    }
    Ok(languages)
}

/// The row groups of an earlier bundle that a shard has.
fn copied(groups: Option<&RowGroups>, earlier: Option<&EarlierRows>, shard: usize) -> Option<Range<usize>> {
    let rows = earlier?.of_shards[shard].clone()?;
    groups?.of_rows(rows.start as u64..rows.end as u64)
}

/// Writes the rows of a shard.
fn write_part(shard: &Shard, path: &Path) -> Result<()> {
    let mut writer = TableWriter::create(path, schema())?;
    for batch in table::read(&shard.path, &COLUMNS)? {
        let batch = batch?;
        let split: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(shard.split.name(), batch.num_rows())));
        let column = |field: &Arc<Field>| match field.name().as_str() {
            "split" => Ok(split.clone()),
            CONTENT => contents(&batch),
            "summary" => Ok(Arc::new(summaries(&batch)?) as ArrayRef),
            name => batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`")),
        };
        let arrays = schema().fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        writer.write(&RecordBatch::try_new(schema(), arrays)?)?;
    }
    Ok(writer.finish()?)
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
