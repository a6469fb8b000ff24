//! `export`: a checkpoint as ONNX, tokenizer and `encoder.json`, checked on real rows against the trainer's own forward.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use ledger::{Artifact, Checkpoint, Encoder, EncoderSpec, Report, Rows, Run, Stage, Tokens};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    config,
    data::samples::Samples,
    encoders::Extent,
    model::{Model, Side},
    onnx::{self, Precision},
    ops::fused::{Cpu, Fused},
    parameters::Parameters,
    tape::Packed,
    train::{self, Context},
    validation,
    vocabulary::{Frame, Specials},
};

/// The stage.
#[derive(Debug)]
pub struct Export;

/// Section `export`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub opset: i64,
    pub precision: Precision,
    /// Largest difference that passes, with precision f32.
    pub tolerance: f64,
    /// Real rows (query and code each) that are compared.
    pub rows: usize,
    /// Largest loss of mrr@in-batch(1000) that passes, with another precision.
    pub max_mrr_loss: f64,
}

/// The parity check.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportReport {
    pub rows: u64,
    pub max_difference: f64,
    pub bytes: u64,
    /// mrr of up to 1000 validation pairs by the trainer, and by the graph.
    pub mrr: f64,
    pub graph_mrr: f64,
}

impl Report for ExportReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

/// Pairs whose mrr is compared.
const RANKED: usize = 1000;
/// Rows in one call of the graph.
const CALL: usize = 50;

impl Stage for Export {
    const NAME: &'static str = "export";
    const ABOUT: &'static str = "Export the encoder as ONNX and check it against the trainer";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = (Artifact<Checkpoint>, Artifact<Tokens>);
    type Output = Encoder;
    type Report = ExportReport;
    type Error = anyhow::Error;

    fn run(config: &Config, (checkpoint, tokens): &Self::Inputs, run: &Run<'_>) -> Result<ExportReport> {
        ensure!(config.opset == 20, "export.opset {} is not supported: the graph is written for 20", config.opset);
        let checkpoint = checkpoint.open()?;
        let specials = Specials::read(&checkpoint.tokenizer)?;
        let bytes = fs::read(&checkpoint.context).with_context(|| format!("reading {}", checkpoint.context.display()))?;
        let context: Context =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is no training context", checkpoint.context.display()))?;
        context.shape.check().with_context(|| format!("{}", checkpoint.context.display()))?;
        let model = Model::new(&context.shape, Extent::of(specials.size, &checkpoint.spec));
        ensure!(model.width() == checkpoint.spec.dimension, "encoder.json and the training context differ in dimension");
        let parameters = Parameters::load(&checkpoint.weights, &model.specs())?;
        let mut graphs = BTreeMap::new();
        let mut size = 0;
        for tower in &model.towers {
            let name = graph_name(&tower.scope);
            let graph = onnx::write(tower, model.pooler, &parameters, config.precision, config.opset)?;
            size += graph.len() as u64;
            fs::write(run.out.join(&name), &graph)?;
            graphs.insert(tower.scope.clone(), open(&run.out.join(&name))?);
        }
        fs::copy(&checkpoint.tokenizer, run.out.join("tokenizer.json"))?;
        let siamese = context.shape.context == config::Context::Siamese;
        let spec = EncoderSpec {
            query_graph: if siamese { "encoder.onnx" } else { "query.onnx" }.to_owned(),
            code_graph: match context.shape.context {
                config::Context::Siamese => "encoder.onnx",
                config::Context::Query1Code1 => "code.onnx",
                config::Context::Query1CodeN => "code.{language}.onnx",
            }
            .to_owned(),
            ..checkpoint.spec.clone()
        };
        fs::write(run.out.join("encoder.json"), serde_json::to_vec_pretty(&spec)?)?;

        let tables = tokens.open()?;
        let (_, valid) = tables.for_training();
        let frame = Frame::of(&specials)?;
        let mut samples = Samples::read(&valid, &frame, &specials, run.out)?;
        samples.renumber(&context.shape.languages);
        ensure!(samples.len() > 0, "no validation rows to check the export on");
        ensure!(
            samples.languages.len() == context.shape.languages.len(),
            "the tokens have rows in {:?}, the checkpoint learnt {:?}: run `make train` again",
            samples.languages,
            context.shape.languages
        );
        train::require_same_vocabulary(tokens, &context.vocabulary)?;
        let (query, code) = samples.lengths.iter().fold((0, 0), |(query, code), lengths| (query.max(lengths.0), code.max(lengths.1)));
        ensure!(
            usize::from(query) <= spec.query_tokens && usize::from(code) <= spec.code_tokens,
            "the tokens have rows of {query} and {code} ids, the checkpoint reads {} and {}: run `make train` again",
            spec.query_tokens,
            spec.code_tokens
        );
        let pad = i64::from(specials.id(&frame.pad)?);
        let ranked = samples.len().min(RANKED);
        let mut compared = Compared { model: &model, parameters: &parameters, graphs, samples: &samples, pad };
        let (query, query_difference) = compared.side(Side::Query, ranked)?;
        let (code, code_difference) = compared.side(Side::Code, ranked)?;
        let rows = ranked.min(config.rows);
        let worst = |differences: &[f64]| differences[..rows].iter().copied().fold(0.0, f64::max);
        let max_difference = worst(&query_difference).max(worst(&code_difference));
        let (mrr, graph_mrr) = (mrr(&query.0, &code.0, ranked), mrr(&query.1, &code.1, ranked));
        if config.precision == Precision::F32 {
            ensure!(
                max_difference <= config.tolerance,
                "the exported graph differs from the trainer by {max_difference:.2e}, more than export.tolerance {:.0e}",
                config.tolerance
            );
        }
        ensure!(
            mrr - graph_mrr <= config.max_mrr_loss,
            "the exported graph ranks with mrr {graph_mrr:.4}, the trainer with {mrr:.4}: more is lost than export.max-mrr-loss {}",
            config.max_mrr_loss
        );
        run.progress.message(&format!("export    differs by {max_difference:.1e}, mrr {graph_mrr:.4} (the trainer {mrr:.4})"));
        Ok(ExportReport { rows: 2 * rows as u64, max_difference, bytes: size, mrr, graph_mrr })
    }
}

/// `encoder.` is written to `encoder.onnx`, `code.python.` to `code.python.onnx`.
fn graph_name(scope: &str) -> String {
    format!("{scope}onnx")
}

fn open(path: &Path) -> Result<Session> {
    let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
    Session::builder(inference::environment()?).map_err(error)?.commit_from_file(path).map_err(error).context("loading the exported graph")
}

/// Mean reciprocal rank of each query's own code among all; ties against us.
fn mrr(query: &[f32], code: &[f32], count: usize) -> f64 {
    let width = query.len() / count;
    let cosines: Vec<f32> = query
        .chunks_exact(width)
        .flat_map(|query| code.chunks_exact(width).map(move |code| query.iter().zip(code).map(|(a, b)| a * b).sum()))
        .collect();
    validation::ranks(&cosines, count).map(|rank| 1.0 / rank as f64).sum::<f64>() / count as f64
}

/// The trainer's vectors and the graph's.
type Both = (Vec<f32>, Vec<f32>);

struct Compared<'a> {
    model: &'a Model,
    parameters: &'a Parameters,
    graphs: BTreeMap<String, Session>,
    samples: &'a Samples,
    pad: i64,
}

impl Compared<'_> {
    /// Vectors of the first rows by the trainer and by the graph, and the largest difference in each row.
    fn side(&mut self, side: Side, count: usize) -> Result<(Both, Vec<f64>)> {
        let width = self.model.width();
        let ours = validation::vectors::<Cpu>(self.model, self.parameters, &Fused, &Default::default(), side, self.samples, 0..count)?;
        let mut theirs = vec![0.0; count * width];
        let mut by_scope: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in 0..count {
            let tower = self.model.tower(side, self.samples.language[row]);
            by_scope.entry(self.model.towers[tower].scope.clone()).or_default().push(row);
        }
        for (scope, rows) in by_scope {
            let session = self.graphs.get_mut(&scope).context("every encoder was written")?;
            for rows in rows.chunks(CALL) {
                let ids = rows
                    .iter()
                    .map(|&row| self.samples.read_one(row).map(|sample| if side == Side::Query { sample.query } else { sample.code }))
                    .collect::<Result<Vec<_>>>()?;
                let vectors = call(session, &Packed::of_rows(ids), self.pad)?;
                ensure!(vectors.len() == rows.len() * width, "the graph gave {} numbers for {} rows", vectors.len(), rows.len());
                for (&row, vector) in rows.iter().zip(vectors.chunks_exact(width)) {
                    theirs[row * width..][..width].copy_from_slice(vector);
                }
            }
        }
        ensure!(theirs.iter().all(|value| value.is_finite()), "the graph gave a number that is not finite");
        let difference = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let differences = ours.chunks_exact(width).zip(theirs.chunks_exact(width)).map(difference).collect();
        Ok(((ours, theirs), differences))
    }
}

/// Runs a graph on rows, padded.
fn call(session: &mut Session, rows: &Packed, pad: i64) -> Result<Vec<f32>> {
    let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
    let (count, longest) = (rows.layout.sequences(), rows.layout.longest().max(1));
    let (mut ids, mut mask) = (vec![pad; count * longest], vec![0i64; count * longest]);
    for (row, range) in rows.layout.ranges().enumerate() {
        for (place, token) in range.enumerate() {
            ids[row * longest + place] = i64::from(rows.ids[token]);
            mask[row * longest + place] = 1;
        }
    }
    let ids = Tensor::from_array(([count, longest], ids)).map_err(error)?;
    let mask = Tensor::from_array(([count, longest], mask)).map_err(error)?;
    let outputs = session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).map_err(error)?;
    let (_, vectors) = outputs["embedding"].try_extract_tensor::<f32>().map_err(error)?;
    Ok(vectors.to_vec())
}
