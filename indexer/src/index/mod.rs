//! Stage `index`: columns, vectors and the encoder to a bundle.

mod bm25f;
pub mod checksums;
mod config;
mod content;
pub mod documents;
mod graphs;
mod groups;
mod learning;
mod names;
mod plan;
mod row_digests;
mod rows;
mod schema_page;
pub mod segments;

use std::{collections::BTreeMap, fs, path::Path};

use bundle::{
    BundleManifest, FORMAT, LexicalInfo, VectorInfo,
    fusion::{FUSION, Fusion},
    manifest::{DOCS, MANIFEST},
    reranking::RERANKER,
    vectors::{HnswInfo, VECTORS},
};
use ledger::{Artifact, Bundle, Digest, Embeddings, Encoder, EncoderSpec, Report, Rows, Run, Shard, Stage, Syntax, ensure};
use serde::{Deserialize, Serialize};

pub use self::{
    config::Config,
    learning::{LearningReport, write_examples},
    plan::Plan,
};
use self::{
    plan::{Earlier, require_intact},
    row_digests::RowDigests,
    rows::{EarlierRows, write_docs, write_vectors},
    schema_page::schema_page,
    segments::SegmentOptions,
};
use crate::{Result, embed::EmbedReport, error::Context, fusion, lexical, reranking, tombstones};

/// The stage.
#[derive(Debug)]
pub struct Index;

/// Report of the stage.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexReport {
    pub rows: u64,
    pub segments: u64,
    pub dimension: u64,
    pub languages: BTreeMap<String, u64>,
    /// Share of the ten nearest rows of an exact search that the HNSW graphs find, where there are graphs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_recall_at_10: Option<f64>,
    /// Present where the fusion was learned from this bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<LearningReport>,
    /// Present where the reranking model was learned from this bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranking: Option<LearningReport>,
}

impl Report for IndexReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

impl Stage for Index {
    const NAME: &'static str = "index";
    const ABOUT: &'static str = "Build the bundle: lexical index, vector index, fusion, encoder";
    const REVISION: u32 = 12;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Embeddings>, Artifact<Encoder>);
    type Output = Bundle;
    type Report = IndexReport;
    type Error = crate::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        let mut inputs = Vec::new();
        if let fusion::Config::Learned(fusion::Learned { from: Some(path), .. }) = &config.fusion {
            inputs.push((
                "fusion".to_owned(),
                Digest::of_file(path).with_context(|| format!("reading index.fusion.from = {}", path.display()))?,
            ));
        }
        if let reranking::Config::Learned(learned) = &config.reranking
            && let Some(path) = &learned.from
        {
            let digest = Digest::of_file(path).with_context(|| format!("reading index.reranking.from = {}", path.display()))?;
            inputs.push(("reranking".to_owned(), digest));
        }
        Ok(inputs)
    }

    fn run(config: &Config, (syntax, embeddings, encoder): &Self::Inputs, run: &Run<'_>) -> Result<IndexReport> {
        config.check()?;
        let fusion = config.fusion.fusion(&encoder.digest())?;
        let reranker = config.reranking.reranker(&encoder.digest())?;
        let dir = run.out.join("bundle");
        fs::create_dir_all(&dir)?;
        let tables = syntax.open()?;
        let shards: Vec<&Shard> = tables.shards.iter().collect();
        let rows = tables.shards.rows()?;
        ensure!(rows > 0, "there are no functions to index: run `codenets files` to see what harvest reads");
        let opened = encoder.open()?;
        let dimension = opened.spec.dimension;
        let bar = run.progress.bar("index", rows, "functions");
        let earlier = earlier_bundle(config, run)?;
        let (lexical_info, earlier_rows) = write_lexical(config, syntax, &shards, (&dir, earlier.as_ref()), run, || bar.add(1))?;
        let opened_lexical = lexical::open_checked(&dir, lexical_info.settings(), rows)?;
        let languages = write_docs(&shards, &dir, earlier_rows.as_ref(), &run.out.join("docs"))?;
        let aliases = groups::write(&dir, rows)?;
        let names = names::write(&dir, rows, &opened_lexical)?;
        write_vectors(&embeddings.open()?, &shards, rows, dimension, &dir.join(VECTORS))?;
        bar.finish();
        let hnsw = graphs::write_graphs(&config.hnsw, rows, dimension, &dir.join(VECTORS), earlier.as_ref(), run)?;
        tombstones::write(&dir, &[])?;
        copy_encoder(encoder, &opened, &dir.join("encoder"))?;
        let digests = [("syntax", syntax.digest()), ("embeddings", embeddings.digest()), ("encoder", encoder.digest())];
        let mut manifest = BundleManifest {
            format: FORMAT,
            rows,
            languages,
            lexical: lexical_info,
            vectors: vector_info(embeddings, dimension, hnsw)?,
            encoder: opened.spec,
            adopted_encoder: encoder.manifest().stage == ADOPT,
            fusion,
            candidates: config.candidates,
            diversity: Some(config.diversity),
            aliases: Some(aliases),
            names: Some(names),
            reranker,
            inputs: digests.into_iter().map(|(kind, digest)| (kind.to_owned(), digest)).collect(),
            parent: None,
            published: None,
        };
        let (fusion, reranking) = write_manifest(config, &mut manifest, &dir, &tables, run)?;
        fs::write(dir.join("schema.md"), schema_page(&manifest))?;
        checksums::write(&dir)?;
        let graph_recall_at_10 = manifest.vectors.hnsw.map(|hnsw| hnsw.recall_at_10);
        Ok(IndexReport {
            rows,
            segments: manifest.lexical.segments,
            dimension: dimension as u64,
            languages: manifest.languages,
            graph_recall_at_10,
            fusion,
            reranking,
        })
    }
}

/// The bundle that the configuration names, if this version would write it in the same way.
fn earlier_bundle(config: &Config, run: &Run<'_>) -> Result<Option<Artifact<Bundle>>> {
    let Some(key) = &config.earlier else { return Ok(None) };
    let artifact = run.recorded::<Bundle>(key).with_context(|| format!("index.earlier = {key}"))?;
    let (stage, revision) = (&artifact.manifest().stage, artifact.manifest().revision);
    if (stage.as_str(), revision) != (Index::NAME, Index::REVISION) {
        run.progress
            .message(&format!("index     nothing is kept of {key}: another version of codenets wrote it (revision {revision} of {stage})"));
        return Ok(None);
    }
    Ok(Some(artifact))
}

/// Writes the lexical index into the folder of a bundle: what is kept of an earlier bundle, and new segments. Returns the rows of the earlier
/// bundle too, where they can be copied.
fn write_lexical(
    config: &Config,
    syntax: &Artifact<Syntax>,
    shards: &[&Shard],
    (dir, earlier): (&Path, Option<&Artifact<Bundle>>),
    run: &Run<'_>,
    done: impl Fn() + Sync,
) -> Result<(LexicalInfo, Option<EarlierRows>)> {
    let opened = earlier.and_then(|artifact| {
        let opened = Earlier::open(artifact, config.stemming);
        opened.unwrap_or_else(|error| {
            run.progress
                .message(&format!("index     every segment is written anew: the bundle {} is damaged: {error}", artifact.dir().display()));
            None
        })
    });
    let digests = RowDigests::of(syntax, shards, opened.as_ref().map(|earlier| &earlier.digests))?;
    digests.write(run.out)?;
    let mut plan = Plan::all_rows(u32::try_from(digests.rows.len())?);
    if let (Some(artifact), Some(opened)) = (earlier, &opened) {
        plan = Plan::extending(opened, &digests.rows, config.segment_rows)?;
        for name in plan.without_damaged(artifact) {
            run.progress.message(&format!("index     the segment {name} of {} is damaged: it is written anew", artifact.dir().display()));
        }
        let (kept, new) = (plan.kept.len(), plan.new_rows.len());
        run.progress.message(&format!("index     {kept} segments are kept, {new} functions of {} are written", digests.rows.len()));
    }
    let options = SegmentOptions { rows: config.segment_rows, megabytes: config.writer_megabytes, stemming: config.stemming };
    let segments = segments::write(&options, shards, &plan, (dir, &run.out.join("segments")), done)?;
    let document_rows = plan.document_rows();
    let statistics = lexical::write_lengths(dir, &document_rows)?;
    let mut info = config.lexical_info(segments, document_rows.len() as u64, &statistics);
    info.counts = Some(lexical::write_counts(dir, &info.scoring)?);
    let rows = earlier
        .zip(opened.as_ref())
        .map(|(artifact, opened)| EarlierRows { bundle: artifact.dir().join("bundle"), of_shards: digests.earlier_rows(&opened.digests) });
    let is_intact = |rows: &EarlierRows| earlier.is_some_and(|artifact| require_intact(artifact, &rows.bundle.join(DOCS)).is_ok());
    Ok((info, rows.filter(is_intact)))
}

/// Name of the stage that records an encoder from another source.
const ADOPT: &str = "adopt";

fn copy_encoder(encoder: &Artifact<Encoder>, opened: &Encoder, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for name in opened.graphs.iter().map(String::as_str).chain(["tokenizer.json", EncoderSpec::FILE]) {
        fs::copy(encoder.dir().join(name), target.join(name))?;
    }
    Ok(())
}

fn vector_info(embeddings: &Artifact<Embeddings>, dimension: usize, hnsw: Option<HnswInfo>) -> Result<VectorInfo> {
    let embedded: EmbedReport = serde_json::from_value(embeddings.manifest().report.clone())?;
    Ok(VectorInfo {
        index: if hnsw.is_some() { "hnsw" } else { "exact" }.to_owned(),
        hnsw,
        metric: "inner product of unit vectors".to_owned(),
        dimension,
        dtype: "f32".to_owned(),
        documentation: embedded.documentation,
        execution_provider: embedded.provider,
    })
}

/// Writes the manifest, with the fusion and the reranking model learned where the configuration learns them.
fn write_manifest(
    config: &Config,
    manifest: &mut BundleManifest,
    dir: &Path,
    syntax: &Syntax,
    run: &Run<'_>,
) -> Result<(Option<LearningReport>, Option<LearningReport>)> {
    // Learning opens the bundle, which needs a manifest.
    let write = |manifest: &BundleManifest| -> Result<()> { Ok(fs::write(dir.join(MANIFEST), serde_json::to_vec_pretty(manifest)?)?) };
    let encoder = *manifest.inputs.get("encoder").context("the manifest names no encoder")?;
    write(manifest)?;
    let (mut fusion, mut reranking) = (None, None);
    if let fusion::Config::Learned(learned @ fusion::Learned { from: None, .. }) = &config.fusion {
        (manifest.fusion, fusion) = learning::learn_fusion(learned, dir, syntax, &encoder, run)?;
        write(manifest)?;
    }
    if matches!(manifest.fusion, Fusion::Learned { .. }) {
        fs::write(dir.join(FUSION), serde_json::to_vec_pretty(&manifest.fusion)?)?;
    }
    if let reranking::Config::Learned(learned) = &config.reranking
        && learned.from.is_none()
    {
        let (reranker, report) = learning::learn_reranker(learned, dir, syntax, &encoder, run)?;
        (manifest.reranker, reranking) = (Some(reranker), report);
        write(manifest)?;
    }
    if let Some(reranker) = &manifest.reranker {
        fs::write(dir.join(RERANKER), serde_json::to_vec_pretty(reranker)?)?;
    }
    Ok((fusion, reranking))
}
