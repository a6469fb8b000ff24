//! `index`: columns, vectors and the encoder to a bundle.

pub mod format;
mod learning;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use ledger::{
    Artifact, Bar, Bundle, Digest, Embeddings, Encoder, Report, Rows, Run, Shard, Stage, Syntax,
    table::{self, TableWriter, text_field, u32_field},
    words,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    embed::EmbedReport,
    fusion::{self, FUSION, Fusion},
    lexical::{self, Bm25, Boosts, Document, SegmentWriter},
    vectors::{GraphFacts, Hnsw, MatrixWriter, Vectors, build_graphs},
};
use format::{BUNDLE_FORMAT, BundleManifest, LexicalFacts, MANIFEST, VectorFacts, schema_page, write_checksums};

/// The stage.
#[derive(Debug)]
pub struct Index;

/// Section `index`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Functions a tantivy segment; segments are built in parallel.
    pub segment_rows: u64,
    pub writer_megabytes: usize,
    pub boosts: Boosts,
    pub bm25: Bm25,
    /// Do words of one stem match each other?
    pub stemming: bool,
    /// Words that a query is not scored by, unless it has no others.
    pub stop_words: BTreeSet<String>,
    pub hnsw: Hnsw,
    pub fusion: fusion::Config,
    pub candidates: usize,
}

/// What went into the bundle.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexReport {
    pub rows: u64,
    pub segments: u64,
    pub dimension: u64,
    pub languages: BTreeMap<String, u64>,
    /// Share of the exact ten nearest that the graphs find, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_recall_at_10: Option<f64>,
    /// Where the fusion was learnt here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<learning::LearningReport>,
}

impl Report for IndexReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

impl Stage for Index {
    const NAME: &'static str = "index";
    const REVISION: u32 = 5;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Embeddings>, Artifact<Encoder>);
    type Output = Bundle;
    type Report = IndexReport;

    fn outside(config: &Config) -> Result<Vec<(String, Digest)>> {
        let fusion::Config::Learned(fusion::Learned { from: Some(path), .. }) = &config.fusion else { return Ok(Vec::new()) };
        let digest = Digest::of_file(path).with_context(|| format!("reading {}: see index.fusion.from", path.display()))?;
        Ok(vec![("fusion".to_owned(), digest)])
    }

    fn run(config: &Config, (syntax, embeddings, encoder): &Self::Inputs, run: &Run<'_>) -> Result<IndexReport> {
        ensure!(config.segment_rows > 0 && config.candidates > 0, "index.segment-rows and index.candidates must be positive");
        let Bm25 { k1, b } = config.bm25;
        ensure!(k1.is_finite() && k1 >= 0.0 && (0.0..=1.0).contains(&b), "index.bm25: k1 is {k1}, expected 0 or more; b is {b}, expected 0 to 1");
        let bundle = run.out.join("bundle");
        fs::create_dir_all(&bundle)?;
        let tables = syntax.open()?;
        let shards: Vec<&Shard> = tables.shards.iter().collect();
        let mut starts = vec![0u64];
        for shard in &shards {
            starts.push(starts[starts.len() - 1] + table::row_count(&shard.path)?);
        }
        let rows = starts[shards.len()];
        let opened = encoder.open()?;
        let spec = opened.spec;
        let bar = run.progress.bar("index", rows, "functions");
        let segments = write_lexical(config, &shards, &starts, rows, &bundle, run.out, &bar)?;
        let languages = write_docs(&shards, &bundle.join("docs.parquet"))?;
        write_vectors(&embeddings.open()?, &shards, rows, spec.dimension, &bundle.join("vectors"))?;
        bar.finish();
        let graphs = write_graphs(&config.hnsw, rows, spec.dimension, &bundle.join("vectors"), run)?;
        let tombstones = table::schema(vec![text_field("id", false)]);
        TableWriter::create(&bundle.join("tombstones.parquet"), tombstones)?.finish()?;
        fs::create_dir_all(bundle.join("encoder"))?;
        for name in opened.graphs.iter().map(String::as_str).chain(["tokenizer.json", "encoder.json"]) {
            fs::copy(encoder.dir().join(name), bundle.join("encoder").join(name))?;
        }
        let embedded: EmbedReport = serde_json::from_value(embeddings.manifest().report.clone())?;
        let digests: [(&str, Digest); 3] =
            [("syntax", syntax.digest()), ("embeddings", embeddings.digest()), ("encoder", encoder.digest())];
        let mut manifest = BundleManifest {
            bundle_format: BUNDLE_FORMAT,
            rows,
            languages: languages.clone(),
            lexical: LexicalFacts {
                engine: format!("tantivy {}", tantivy::version_string()),
                tokenizer: lexical::tokenizer(config.stemming).to_owned(),
                k1: config.bm25.k1,
                b: config.bm25.b,
                boosts: config.boosts,
                stop_words: config.stop_words.clone(),
                segments,
            },
            vectors: VectorFacts {
                index: if graphs.is_some() { "hnsw" } else { "exact" }.to_owned(),
                graphs,
                metric: "inner product of unit vectors".to_owned(),
                dimension: spec.dimension,
                dtype: "f32".to_owned(),
                documentation: embedded.documentation,
                execution_provider: embedded.provider,
            },
            encoder: spec.clone(),
            fusion: fusion_of(&config.fusion)?,
            candidates: config.candidates,
            inputs: digests.into_iter().map(|(kind, digest)| (kind.to_owned(), digest)).collect(),
            parent: None,
            published: None,
        };
        fs::write(bundle.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
        let mut learnt = None;
        if let fusion::Config::Learned(learned @ fusion::Learned { from: None, .. }) = &config.fusion {
            let (fusion, report) = learning::learn(learned, &bundle, &tables, run)?;
            manifest.fusion = fusion;
            learnt = Some(report);
            fs::write(bundle.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
        }
        if matches!(manifest.fusion, Fusion::Learned { .. }) {
            fs::write(bundle.join(FUSION), serde_json::to_vec_pretty(&manifest.fusion)?)?;
        }
        fs::write(bundle.join("schema.md"), schema_page(&manifest))?;
        write_checksums(&bundle)?;
        let graph_recall_at_10 = manifest.vectors.graphs.map(|graphs| graphs.recall_at_10);
        Ok(IndexReport { rows, segments, dimension: spec.dimension as u64, languages, graph_recall_at_10, fusion: learnt })
    }
}

/// The fusion that is asked for; one that is still to be learnt stands as that of the lexical side alone.
fn fusion_of(config: &fusion::Config) -> Result<Fusion> {
    let fusion = match config {
        fusion::Config::MinMax { weight } => Fusion::MinMax { weight: *weight },
        fusion::Config::Sum { weight } => Fusion::Sum { weight: *weight },
        fusion::Config::Rrf { k } => Fusion::Rrf { k: *k },
        fusion::Config::Learned(fusion::Learned { from: Some(path), .. }) => Fusion::read(path)?,
        fusion::Config::Learned(_) => Fusion::MinMax { weight: 0.0 },
    };
    fusion.check().context("index.fusion")?;
    Ok(fusion)
}

/// Graphs over fixed ranges of rows, where there are enough rows.
fn write_graphs(hnsw: &Hnsw, rows: u64, dimension: usize, dir: &Path, run: &Run<'_>) -> Result<Option<GraphFacts>> {
    if rows < hnsw.from_rows.max(1) {
        return Ok(None);
    }
    let vectors = Vectors::open(dir, usize::try_from(rows)?, dimension)?;
    let bar = run.progress.bar("graphs", rows, "vectors");
    let facts = build_graphs(&vectors, hnsw, dir, |done| bar.add(done))?;
    bar.finish();
    Ok(Some(facts))
}

/// Segments over fixed ranges of rows, in parallel; then one index of them.
fn write_lexical(config: &Config, shards: &[&Shard], starts: &[u64], rows: u64, bundle: &Path, scratch: &Path, bar: &Bar) -> Result<u64> {
    let count = rows.div_ceil(config.segment_rows);
    let parts = scratch.join("segments");
    let segments = (0..count)
        .into_par_iter()
        .map(|segment| {
            let range = segment * config.segment_rows..((segment + 1) * config.segment_rows).min(rows);
            let dir = parts.join(segment.to_string());
            let mut writer = SegmentWriter::create(&dir, lexical::tokenizer(config.stemming), config.writer_megabytes * 1_000_000)?;
            for (shard, window) in shards.iter().zip(starts.windows(2)) {
                if window[0] < range.end && window[1] > range.start {
                    write_segment_rows(shard, window[0], &range, &mut writer, bar)?;
                }
            }
            Ok((dir, writer.finish()?))
        })
        .collect::<Result<Vec<_>>>()?;
    lexical::assemble(&segments, &bundle.join("tantivy"))?;
    fs::remove_dir_all(&parts)?;
    let settings = lexical::Settings { bm25: config.bm25, boosts: config.boosts, stop_words: config.stop_words.clone() };
    lexical::check(&bundle.join("tantivy"), settings, rows)?;
    Ok(count)
}

const LEXICAL_COLUMNS: [&str; 14] = [
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

fn write_segment_rows(shard: &Shard, start: u64, range: &std::ops::Range<u64>, writer: &mut SegmentWriter, bar: &Bar) -> Result<()> {
    let mut number = start;
    for batch in table::read(&shard.path, &LEXICAL_COLUMNS)? {
        let batch = batch?;
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
                writer.write(Document {
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
                bar.add(1);
            }
            number += 1;
        }
    }
    Ok(())
}

/// The documentation's summary: CodeSearchNet's docstring tokens, joined.
fn summaries(batch: &RecordBatch) -> Result<StringArray> {
    let tokens = table::text_lists(batch, "docstring_tokens")?;
    Ok(StringArray::from_iter_values((0..batch.num_rows()).map(|row| tokens.row(row).collect::<Vec<_>>().join(" "))))
}

fn docs_schema() -> SchemaRef {
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
    ])
}

/// `docs.parquet` in row order; counts rows by language.
fn write_docs(shards: &[&Shard], path: &Path) -> Result<BTreeMap<String, u64>> {
    let mut writer = TableWriter::create(path, docs_schema())?;
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
    ];
    for shard in shards {
        for batch in table::read(&shard.path, &columns)? {
            let batch = batch?;
            let split: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(shard.split.name(), batch.num_rows())));
            let arrays = docs_schema()
                .fields()
                .iter()
                .map(|field| match field.name().as_str() {
                    "split" => Ok(split.clone()),
                    "summary" => Ok(Arc::new(summaries(&batch)?) as ArrayRef),
                    name => batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`")),
                })
                .collect::<Result<Vec<_>>>()?;
            writer.write(&RecordBatch::try_new(docs_schema(), arrays)?)?;
            for language in table::texts(&batch, "language")?.iter().flatten() {
                *languages.entry(language.to_owned()).or_default() += 1;
            }
        }
    }
    writer.finish()?;
    Ok(languages)
}

/// Copies the vectors in row order, and checks that they belong to the rows.
fn write_vectors(embeddings: &Embeddings, shards: &[&Shard], rows: u64, dimension: usize, dir: &Path) -> Result<()> {
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
            ensure!(same, "embeddings of shard {} belong to other rows: run `make embed` again", shard.name);
            let (values, width) = table::vectors(&other, "embedding")?;
            for row in values.values().chunks(width) {
                writer.write(row)?;
            }
        }
    }
    writer.finish()
}
