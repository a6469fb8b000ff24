//! Stage `embed`: encodes every function as a vector with ONNX Runtime.
//!
//! A function whose text (the columns that the encoder reads) is in the previous artifact keeps its vector, where the new one would have
//! the same bits. Each thread then holds the vectors of the previous version of its shard in memory, and of one other shard: a moved file
//! is in another shard.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field},
};
use inference::{Provider, TextEncoder};
use ledger::{
    Artifact, Bar, EarlierShards, Embeddings, Encoder, Report, Rows, Run, Shard, Stage, Syntax, ensure,
    table::{self, RowDigest, TableWriter, digest_field, text_field, vector_field},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;

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
    const REVISION: u32 = 5;
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
        let embedding = Embedding { config, encoder: &encoder, dimension, encoded: AtomicU64::new(0) };
        let rows = run.map_shards("embed", syntax, &syntax.open()?.shards, |shard, earlier, target, bar| {
            let earlier = encoder.is_batch_invariant().then_some(earlier);
            embedding.embed_shard(shard, earlier, target, bar)
        })?;
        run.progress.message(&format!(
            "embed     {} texts of {} were new, encoded by {} in {sessions} sessions",
            embedding.encoded.into_inner(),
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

/// What is equal for all shards.
struct Embedding<'a> {
    config: &'a Config,
    encoder: &'a TextEncoder,
    dimension: usize,
    /// Number of encoded texts.
    encoded: AtomicU64,
}

impl Embedding<'_> {
    /// Writes the vectors of a shard, and returns its number of rows. `earlier`: shards whose vectors may be taken.
    fn embed_shard(&self, shard: &Shard, earlier: Option<&EarlierShards<'_>>, target: &Path, bar: &Bar) -> Result<u64> {
        let mut known = earlier.map(|earlier| KnownVectors::of(earlier, shard, self.dimension)).transpose()?;
        let columns = columns(self.encoder);
        let is_read = |name: &&str| *name != "id" && (self.config.documentation || *name != "doc_words");
        let text_columns: Vec<&str> = columns.into_iter().filter(is_read).collect();
        let schema = table::schema(vec![text_field("id", false), digest_field(), vector_field("embedding", self.dimension)]);
        let mut writer = TableWriter::create(target, schema.clone())?;
        let mut rows = 0;
        for batch in table::read(&shard.path, &columns)? {
            let batch = batch?;
            let digests = table::row_digests(&batch, &text_columns, "")?;
            let vectors = self.vectors(&batch, &digests, known.as_mut())?;
            let item = Arc::new(Field::new_list_field(DataType::Float32, false));
            let vectors = FixedSizeListArray::try_new(item, i32::try_from(self.dimension)?, Arc::new(Float32Array::from(vectors)), None)?;
            let arrays: Vec<ArrayRef> = vec![Arc::new(table::texts(&batch, "id")?), table::digest_column(&digests)?, Arc::new(vectors)];
            writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
            rows += batch.num_rows() as u64;
            bar.add(batch.num_rows() as u64);
        }
        writer.finish()?;
        Ok(rows)
    }

    /// The vectors of a batch, `[rows, dimension]` flat: known ones, and the others from the encoder.
    fn vectors(&self, batch: &RecordBatch, digests: &[RowDigest], known: Option<&mut KnownVectors<'_>>) -> Result<Vec<f32>> {
        let mut vectors = vec![0.0; digests.len() * self.dimension];
        let new = match known {
            Some(known) => known.fill(digests, &mut vectors)?,
            None => (0..digests.len()).collect(),
        };
        self.encoded.fetch_add(new.len() as u64, Ordering::Relaxed);
        let rows: UInt32Array = new.iter().map(|&row| u32::try_from(row)).collect::<std::result::Result<Vec<_>, _>>()?.into();
        let encoded = vectors_of(self.encoder, &take_record_batch(batch, &rows)?, self.config.documentation, self.config.batch_tokens)?;
        ensure!(encoded.len() == new.len() * self.dimension, "the encoder gave {} numbers for {} texts", encoded.len(), new.len());
        for (row, vector) in new.into_iter().zip(encoded.chunks_exact(self.dimension)) {
            vectors[row * self.dimension..][..self.dimension].copy_from_slice(vector);
        }
        Ok(vectors)
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

/// The vectors of the previous artifact.
struct KnownVectors<'a> {
    earlier: &'a EarlierShards<'a>,
    own: ShardVectors,
    /// The other shard that was read last, and its name.
    other: Option<(&'a str, ShardVectors)>,
    /// Rows of other shards that may still be read.
    budget: u64,
    dimension: usize,
}

/// Rows of other shards that are read at most, for each row of a shard and in any case: reading many shards for a few rows each takes longer
/// than encoding.
const OTHER_ROWS: (u64, u64) = (8, 4096);

impl<'a> KnownVectors<'a> {
    /// With the vectors of the previous version of a shard.
    fn of(earlier: &'a EarlierShards<'a>, shard: &Shard, dimension: usize) -> Result<Self> {
        let budget = OTHER_ROWS.0 * table::row_count(&shard.path)? + OTHER_ROWS.1;
        let own = earlier.get(&shard.name).map(|path| ShardVectors::read(path, dimension)).transpose()?.unwrap_or_default();
        Ok(Self { earlier, own, other: None, budget, dimension })
    }

    /// Writes the vectors of known texts into `[rows, dimension]` numbers; returns the other rows.
    fn fill(&mut self, digests: &[RowDigest], vectors: &mut [f32]) -> Result<Vec<usize>> {
        let (mut new, mut elsewhere) = (Vec::new(), BTreeMap::<&'a str, Vec<usize>>::new());
        for (row, (digest, target)) in digests.iter().zip(vectors.chunks_exact_mut(self.dimension)).enumerate() {
            match self.own.vector(digest, self.dimension) {
                Some(vector) => target.copy_from_slice(vector),
                None => match self.earlier.place_of(digest) {
                    Some((shard, _)) => elsewhere.entry(shard).or_default().push(row),
                    None => new.push(row),
                },
            }
        }
        for (shard, rows) in elsewhere {
            if self.other.as_ref().is_none_or(|(name, _)| *name != shard) {
                let path = self.earlier.get(shard);
                let rows_of_other = path.map(table::row_count).transpose()?;
                let Some((path, left)) = path.zip(rows_of_other.and_then(|rows| self.budget.checked_sub(rows))) else {
                    new.extend(rows);
                    continue;
                };
                (self.budget, self.other) = (left, Some((shard, ShardVectors::read(path, self.dimension)?)));
            }
            for row in rows {
                match self.other.as_ref().and_then(|(_, other)| other.vector(&digests[row], self.dimension)) {
                    Some(vector) => vectors[row * self.dimension..][..self.dimension].copy_from_slice(vector),
                    None => new.push(row),
                }
            }
        }
        new.sort_unstable();
        Ok(new)
    }
}

/// The vectors of a shard by digest of the text.
#[derive(Default)]
struct ShardVectors {
    rows: HashMap<RowDigest, usize>,
    vectors: Vec<f32>,
}

impl ShardVectors {
    fn read(path: &Path, dimension: usize) -> Result<Self> {
        let digests = table::digests(path)?;
        let mut vectors = Vec::with_capacity(digests.len() * dimension);
        for batch in table::read(path, &["embedding"])? {
            let (values, width) = table::vectors(&batch?, "embedding")?;
            ensure!(width == dimension, "{} holds vectors of {width} numbers, the encoder gives {dimension}", path.display());
            vectors.extend_from_slice(values.values());
        }
        Ok(Self { rows: digests.into_iter().zip(0..).collect(), vectors })
    }

    fn vector(&self, digest: &RowDigest, dimension: usize) -> Option<&[f32]> {
        self.vectors.get(self.rows.get(digest)? * dimension..)?.get(..dimension)
    }
}
