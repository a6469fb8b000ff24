//! `index`: columns, vectors and the encoder to a bundle.

pub mod format;
mod learning;
pub mod segments;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use ledger::{
    Artifact, Bundle, Digest, Embeddings, Encoder, Report, Rows, Run, Shard, Stage, Syntax,
    table::{self, TableWriter, text_field, u32_field},
};
use serde::{Deserialize, Serialize};

use crate::{
    embed::EmbedReport,
    fusion::{self, FUSION, Fusion},
    lexical::{self, Bm25, Boosts},
    retract::write_tombstones,
    vectors::{GraphFacts, Hnsw, MatrixWriter, Vectors, build_graphs, graph_recall},
};
use format::{BUNDLE_FORMAT, BundleManifest, LexicalFacts, MANIFEST, VectorFacts, schema_page, write_checksums};
use segments::{Segmented, summaries};

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

impl Config {
    fn settings(&self) -> lexical::Settings {
        lexical::Settings { bm25: self.bm25, boosts: self.boosts, stop_words: self.stop_words.clone() }
    }
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
    const ABOUT: &'static str = "Build the bundle: lexical index, vector index, fusion, encoder";
    const REVISION: u32 = 5;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Embeddings>, Artifact<Encoder>);
    type Output = Bundle;
    type Report = IndexReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        let fusion::Config::Learned(fusion::Learned { from: Some(path), .. }) = &config.fusion else { return Ok(Vec::new()) };
        let digest = Digest::of_file(path).with_context(|| format!("reading {}: see index.fusion.from", path.display()))?;
        Ok(vec![("fusion".to_owned(), digest)])
    }

    fn run(config: &Config, (syntax, embeddings, encoder): &Self::Inputs, run: &Run<'_>) -> Result<IndexReport> {
        ensure!(config.segment_rows > 0 && config.candidates > 0, "index.segment-rows and index.candidates must be positive");
        let Bm25 { k1, b } = config.bm25;
        ensure!(
            k1.is_finite() && k1 >= 0.0 && (0.0..=1.0).contains(&b),
            "index.bm25: k1 is {k1}, expected 0 or more; b is {b}, expected 0 to 1"
        );
        config.hnsw.check()?;
        let fusion = fusion_of(&config.fusion)?;
        let bundle = run.out.join("bundle");
        fs::create_dir_all(&bundle)?;
        let tables = syntax.open()?;
        let shards: Vec<&Shard> = tables.shards.iter().collect();
        let rows = tables.shards.rows()?;
        ensure!(rows > 0, "there are no functions to index: see what harvest and ingest said");
        let opened = encoder.open()?;
        let spec = opened.spec;
        let bar = run.progress.bar("index", rows, "functions");
        let segmented = Segmented { rows: config.segment_rows, megabytes: config.writer_megabytes, stemming: config.stemming };
        let segments = segments::write(&segmented, &shards, rows, &bundle.join("tantivy"), &run.out.join("segments"), || bar.add(1))?;
        lexical::check(&bundle.join("tantivy"), config.settings(), rows)?;
        let languages = write_docs(&shards, &bundle.join("docs.parquet"))?;
        write_vectors(&embeddings.open()?, &shards, rows, spec.dimension, &bundle.join("vectors"))?;
        bar.finish();
        let graphs = write_graphs(&config.hnsw, rows, spec.dimension, &bundle.join("vectors"), run)?;
        write_tombstones(&bundle, &[])?;
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
            fusion,
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
            learnt = report;
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

/// The fusion that is asked for; for one that is still to be learnt, what stands in its place.
fn fusion_of(config: &fusion::Config) -> Result<Fusion> {
    let fusion = match config {
        fusion::Config::MinMax { weight } => Fusion::MinMax { weight: *weight },
        fusion::Config::Sum { weight } => Fusion::Sum { weight: *weight },
        fusion::Config::Rrf { k } => Fusion::Rrf { k: *k },
        fusion::Config::Learned(fusion::Learned { from: Some(path), .. }) => Fusion::read(path)?,
        fusion::Config::Learned(learned) => {
            learned.check()?;
            Fusion::MinMax { weight: learned.otherwise }
        }
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
    let mut facts = build_graphs(&vectors, hnsw, dir, || bar.add(1))?;
    bar.finish();
    facts.recall_at_10 = graph_recall(&vectors.with_graphs(dir, &facts, run.threads)?)?;
    Ok(Some(facts))
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
