//! `embed`: every function to a vector, by onnxruntime.

use std::sync::Arc;

use anyhow::Result;
use arrow::{
    array::{FixedSizeListArray, Float32Array, RecordBatch},
    datatypes::{DataType, Field},
};
use ledger::{
    Artifact, Embeddings, Encoder, Report, Rows, Run, Stage, Syntax,
    table::{self, TableWriter, text_field, vector_field},
};
use serde::{Deserialize, Serialize};

use crate::encoder::{Provider, TextEncoder};

/// The stage.
#[derive(Debug)]
pub struct Embed;

/// Section `embed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub provider: Provider,
    /// Padded ids in one call of the encoder.
    pub batch_tokens: usize,
    /// Does the encoder read the documentation, between name and code?
    pub documentation: bool,
}

/// Rows and the provider that was really used.
#[derive(Debug, Serialize, Deserialize)]
pub struct EmbedReport {
    pub rows: u64,
    pub dimension: u64,
    pub provider: String,
    #[serde(default)]
    pub documentation: bool,
}

impl Report for EmbedReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

impl Stage for Embed {
    const NAME: &'static str = "embed";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Encoder>);
    type Output = Embeddings;
    type Report = EmbedReport;

    fn run(config: &Config, (syntax, encoder): &Self::Inputs, run: &Run<'_>) -> Result<EmbedReport> {
        let encoder = TextEncoder::open(encoder.dir(), config.provider, run.threads)?;
        let dimension = encoder.spec().dimension;
        let schema = table::schema(vec![text_field("id", false), vector_field("embedding", dimension)]);
        let columns = columns(&encoder);
        let rows = run.map_shards("embed", syntax, &syntax.open()?.shards, |shard, target, bar| {
            let mut writer = TableWriter::create(target, schema.clone())?;
            let mut rows = 0u64;
            for batch in table::read(&shard.path, &columns)? {
                let batch = batch?;
                let vectors = vectors_of(&encoder, &batch, config.documentation, config.batch_tokens)?;
                let item = Arc::new(Field::new_list_field(DataType::Float32, false));
                let vectors = FixedSizeListArray::try_new(item, i32::try_from(dimension)?, Arc::new(Float32Array::from(vectors)), None)?;
                writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(table::texts(&batch, "id")?), Arc::new(vectors)])?)?;
                rows += batch.num_rows() as u64;
                bar.add(batch.num_rows() as u64);
            }
            writer.finish()?;
            Ok(rows)
        })?;
        Ok(EmbedReport {
            rows: rows.iter().sum(),
            dimension: dimension as u64,
            provider: config.provider.name().to_owned(),
            documentation: config.documentation,
        })
    }
}

/// What [`vectors_of`] reads of `syntax`, and the id.
pub fn columns(encoder: &TextEncoder) -> [&'static str; 6] {
    ["id", "language", "name_words", "doc_words", "code_words", encoder.spec().code_text.token_column()]
}

/// Vectors of the functions of a batch, `[rows, dimension]` flat, of their documentation too or without it.
pub fn vectors_of(encoder: &TextEncoder, batch: &RecordBatch, documentation: bool, batch_tokens: usize) -> Result<Vec<f32>> {
    let code_text = encoder.spec().code_text;
    let text = |name: &str| table::texts(batch, name);
    let (languages, names, docs, codes) = (text("language")?, text("name_words")?, text("doc_words")?, text("code_words")?);
    let tokens = table::text_lists(batch, code_text.token_column())?;
    let ids = (0..batch.num_rows())
        .map(|row| {
            let docs = if documentation { docs.value(row) } else { "" };
            encoder.code_ids(languages.value(row), &code_text.of_row(names.value(row), docs, codes.value(row), tokens.row(row)))
        })
        .collect::<Result<Vec<_>>>()?;
    let of_rows: Vec<&str> = (0..batch.num_rows()).map(|row| languages.value(row)).collect();
    encoder.encode_codes(&of_rows, &ids, batch_tokens)
}
