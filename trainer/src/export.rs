//! `export`: a checkpoint as ONNX, tokenizer and `encoder.json`, checked on real rows against the
//! trainer's own forward.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use ledger::{Artifact, Checkpoint, Encoder, Report, Rows, Run, Stage, Tokens};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    batches::{Padded, Pairs, TrainingContext},
    nbow::Weights,
    onnx, runtime,
    vocabulary::Specials,
};

/// The stage.
#[derive(Debug)]
pub struct Export;

/// Section `export`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub opset: i64,
    /// Largest difference that passes.
    pub tolerance: f64,
    /// Real rows (query and code each) that are compared.
    pub rows: usize,
}

/// The parity check.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportReport {
    pub rows: u64,
    pub max_difference: f64,
    pub bytes: u64,
}

impl Report for ExportReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

impl Stage for Export {
    const NAME: &'static str = "export";
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = (Artifact<Checkpoint>, Artifact<Tokens>);
    type Output = Encoder;
    type Report = ExportReport;

    fn run(config: &Config, (checkpoint, tokens): &Self::Inputs, run: &Run<'_>) -> Result<ExportReport> {
        ensure!(config.opset == 20, "export.opset {} is not supported: the graph is written for 20", config.opset);
        let checkpoint = checkpoint.open()?;
        let weights = Weights::load(&checkpoint.weights)?;
        ensure!(weights.dimension == checkpoint.spec.dimension, "encoder.json and the weights differ in dimension");
        let graph = onnx::nbow(&weights, config.opset);
        let path = run.out.join("encoder.onnx");
        fs::write(&path, &graph)?;
        fs::copy(&checkpoint.tokenizer, run.out.join("tokenizer.json"))?;
        fs::write(run.out.join("encoder.json"), serde_json::to_vec_pretty(&checkpoint.spec)?)?;

        let specials = Specials::read(&checkpoint.tokenizer)?;
        ensure!(specials.size == weights.vocabulary, "the tokenizer has {} tokens, the weights {}", specials.size, weights.vocabulary);
        let tables = tokens.open()?;
        let (_, valid) = tables.for_training();
        let pairs = Pairs::read(&valid, TrainingContext::Siamese, &specials)?;
        let rows: Vec<&[u32]> = (0..pairs.len().min(config.rows)).flat_map(|row| [pairs.query.row(row), pairs.code.row(row)]).collect();
        ensure!(!rows.is_empty(), "no validation rows to check the export on");
        let max_difference = compare(&path, &weights, &rows, specials.id("<pad>")?)?;
        ensure!(
            max_difference <= config.tolerance,
            "the exported graph differs from the trainer by {max_difference:.2e}, more than export.tolerance {:.0e}",
            config.tolerance
        );
        Ok(ExportReport { rows: rows.len() as u64, max_difference, bytes: graph.len() as u64 })
    }
}

/// Runs the graph by onnxruntime on all rows as one padded batch; the largest absolute difference.
fn compare(path: &Path, weights: &Weights, rows: &[&[u32]], pad: u32) -> Result<f64> {
    let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
    let mut session = Session::builder(runtime::environment()?)
        .map_err(error)?
        .commit_from_file(path)
        .map_err(error)
        .context("loading the exported graph")?;
    let padded = Padded::new(rows, pad);
    let shape = [padded.rows, padded.width];
    let mask: Vec<i64> = padded.mask.iter().map(|&value| value as i64).collect();
    let ids = Tensor::from_array((shape, padded.ids)).map_err(error)?;
    let mask = Tensor::from_array((shape, mask)).map_err(error)?;
    let outputs = session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).map_err(error)?;
    let (_, vectors) = outputs["embedding"].try_extract_tensor::<f32>().map_err(error)?;
    ensure!(vectors.len() == rows.len() * weights.dimension, "the graph gave {} numbers for {} rows", vectors.len(), rows.len());
    let difference =
        |(row, vector): (&&[u32], &[f32])| weights.embed(row).iter().zip(vector).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let worst = rows.iter().zip(vectors.chunks(weights.dimension)).map(difference).fold(0.0, f64::max);
    ensure!(vectors.iter().all(|value| value.is_finite()), "the graph gave a number that is not finite");
    Ok(worst)
}
