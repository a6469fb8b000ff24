//! Stage `embed`: encodes every function as a vector with ONNX Runtime.
//!
//! A function whose text (the columns that the encoder reads) was in the previous version of the shard keeps its vector, where the new one
//! would have the same bits. Each thread then holds the vectors of one previous shard in memory.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field},
};
use inference::{Provider, TextEncoder};
use ledger::{
    Artifact, Embeddings, Encoder, Report, Rows, Run, Stage, Syntax, ensure,
    table::{self, TableWriter, text_field, vector_field},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, error::Context};

/// The stage.
#[derive(Debug)]
pub struct Embed;

/// Section `embed`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where the encoder runs.
    pub provider: Provider,
    /// ONNX Runtime sessions that share the threads; null: one session a thread.
    pub sessions: Option<usize>,
    /// Largest number of padded token ids in one call of the encoder.
    pub batch_tokens: usize,
    /// Does the encoder read the documentation, between name and code?
    pub documentation: bool,
}

/// Report of the stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct EmbedReport {
    pub rows: u64,
    pub dimension: u64,
    /// ONNX Runtime's name of the execution provider.
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
    const ABOUT: &'static str = "Encode functions as vectors with ONNX Runtime";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Encoder>);
    type Output = Embeddings;
    type Report = EmbedReport;
    type Error = crate::Error;

    fn run(config: &Config, (syntax, encoder): &Self::Inputs, run: &Run<'_>) -> Result<EmbedReport> {
        let sessions = config.sessions.unwrap_or(run.threads);
        ensure!(sessions > 0 && config.batch_tokens > 0, "embed.sessions and embed.batch-tokens must be positive");
        let encoder = TextEncoder::open_with(encoder.dir(), config.provider, sessions, (run.threads / sessions).max(1))?;
        let dimension = encoder.spec().dimension;
        let schema = table::schema(vec![text_field("id", false), text_field("text", false), vector_field("embedding", dimension)]);
        let columns = columns(&encoder);
        let text_columns: Vec<&str> =
            columns.into_iter().filter(|name| *name != "id" && (config.documentation || *name != "doc_words")).collect();
        let read = AtomicU64::new(0);
        let rows = run.map_shards("embed", syntax, &syntax.open()?.shards, |shard, last, target, bar| -> Result<u64> {
            let known = last.filter(|_| encoder.is_batch_invariant()).map(|last| KnownVectors::read(last, dimension)).transpose()?;
            let known = known.unwrap_or_default();
            let mut writer = TableWriter::create(target, schema.clone())?;
            let mut rows = 0u64;
            for batch in table::read(&shard.path, &columns)? {
                let batch = batch?;
                let digests = digests(&batch, &text_columns)?;
                let new: UInt32Array =
                    (0..).zip(&digests).filter(|(_, digest)| known.vector(digest).is_none()).map(|(row, _)| row).collect();
                read.fetch_add(new.len() as u64, Ordering::Relaxed);
                let encoded = vectors_of(&encoder, &take_record_batch(&batch, &new)?, config.documentation, config.batch_tokens)?;
                let mut encoded = encoded.chunks_exact(dimension);
                let mut vectors = Vec::with_capacity(digests.len() * dimension);
                for digest in &digests {
                    vectors.extend_from_slice(
                        known.vector(digest).or_else(|| encoded.next()).context("the encoder gave fewer vectors than texts")?,
                    );
                }
                let item = Arc::new(Field::new_list_field(DataType::Float32, false));
                let vectors = FixedSizeListArray::try_new(item, i32::try_from(dimension)?, Arc::new(Float32Array::from(vectors)), None)?;
                let arrays: Vec<ArrayRef> =
                    vec![Arc::new(table::texts(&batch, "id")?), Arc::new(StringArray::from_iter_values(&digests)), Arc::new(vectors)];
                writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
                rows += batch.num_rows() as u64;
                bar.add(batch.num_rows() as u64);
            }
            writer.finish()?;
            Ok(rows)
        })?;
        run.progress.message(&format!(
            "embed     {} texts of {} were new, encoded by {} in {sessions} sessions",
            read.into_inner(),
            rows.iter().sum::<u64>(),
            config.provider
        ));
        Ok(EmbedReport {
            rows: rows.iter().sum(),
            dimension: dimension as u64,
            provider: config.provider.name().to_owned(),
            documentation: config.documentation,
        })
    }
}

/// Columns of `syntax` that [`vectors_of`] reads, and the id.
pub fn columns(encoder: &TextEncoder) -> [&'static str; 6] {
    ["id", "language", "name_words", "doc_words", "code_words", encoder.spec().code_text.token_column()]
}

/// Vectors of the functions of a batch with [`columns`], `[rows, dimension]` flat, with or without their documentation.
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
        .collect::<inference::Result<Vec<_>>>()?;
    let languages: Vec<&str> = (0..batch.num_rows()).map(|row| languages.value(row)).collect();
    Ok(encoder.encode_codes(&languages, &ids, batch_tokens)?)
}

/// Digests of what the encoder reads of each row, and of the language, which selects the graph.
fn digests(batch: &RecordBatch, columns: &[&str]) -> Result<Vec<String>> {
    Ok(table::row_digests(batch, columns, "")?.iter().map(|digest| format!("{:032x}", u128::from_be_bytes(*digest))).collect())
}

/// The vectors of the previous version of a shard, by digest of the text.
#[derive(Default)]
struct KnownVectors {
    rows: HashMap<String, usize>,
    vectors: Vec<f32>,
    dimension: usize,
}

impl KnownVectors {
    fn read(last: &Path, dimension: usize) -> Result<Self> {
        let rows = usize::try_from(table::row_count(last)?)?;
        let vectors = Vec::with_capacity(rows * dimension);
        let mut known = Self { rows: HashMap::with_capacity(rows), vectors, dimension };
        for batch in table::read(last, &["text", "embedding"])? {
            let batch = batch?;
            let (values, width) = table::vectors(&batch, "embedding")?;
            ensure!(width == dimension, "{} holds vectors of {width} numbers, the encoder gives {dimension}", last.display());
            let start = known.vectors.len() / dimension;
            known.vectors.extend_from_slice(values.values());
            let texts = table::texts(&batch, "text")?;
            known.rows.extend(texts.iter().flatten().enumerate().map(|(row, text)| (text.to_owned(), start + row)));
        }
        Ok(known)
    }

    fn vector(&self, text: &str) -> Option<&[f32]> {
        self.rows.get(text).map(|row| &self.vectors[row * self.dimension..][..self.dimension])
    }
}
