//! Stage `export`: writes a checkpoint as ONNX graphs, `tokenizer.json` and `encoder.json`, and compares the graphs with the trainer on real
//! rows.

use std::{collections::BTreeMap, fs};

use inference::{Graph, GraphOptions};
use ledger::{Artifact, Checkpoint, Encoder, EncoderSpec, Quantisation, Report, Rows, Run, Stage, Tokens, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    parity::{Comparison, Parity},
    train::require_same_vocabulary,
    training_context::TrainingContext,
};
use crate::{
    config::EncoderContext,
    data::{
        samples::Samples,
        vocabulary::{Frame, Specials},
    },
    encoders::encoder::InputSize,
    error::{Context, Result},
    graph::{model::Model, parameters::Parameters},
    onnx::{precision::Precision, writer},
};

/// The stage.
#[derive(Debug)]
pub struct Export;

/// Section `export`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Version of the ONNX operators; 20 is supported.
    pub opset: i64,
    /// Number format of the weights.
    pub precision: Precision,
    /// Maximum difference between the vectors of graph and trainer, with precision f32.
    pub tolerance: f64,
    /// Number of pairs whose vectors are compared.
    pub rows: usize,
    /// Maximum loss of mrr@in-batch(1000).
    pub max_mrr_loss: f64,
}

/// Result of the comparison with the trainer.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportReport {
    pub rows: u64,
    pub max_difference: f64,
    pub bytes: u64,
    /// mrr of up to 1000 validation pairs, by the trainer.
    pub mrr: f64,
    /// mrr of the same pairs, by the graph.
    pub graph_mrr: f64,
}

impl Report for ExportReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

/// Pairs whose mrr is compared.
const RANKED: usize = 1000;

impl Stage for Export {
    const NAME: &'static str = "export";
    const ABOUT: &'static str = "Export the encoder as ONNX and check it against the trainer";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = (Artifact<Checkpoint>, Artifact<Tokens>);
    type Output = Encoder;
    type Report = ExportReport;
    type Error = crate::Error;

    fn run(config: &Config, (checkpoint, tokens): &Self::Inputs, run: &Run<'_>) -> Result<ExportReport> {
        ensure!(config.opset == 20, "export.opset is {}: only 20 is supported", config.opset);
        let checkpoint = checkpoint.open()?;
        let specials = Specials::read(&checkpoint.tokenizer)?;
        let context = TrainingContext::read(&checkpoint.context)?;
        context.shape.check().with_context(|| format!("{}", checkpoint.context.display()))?;
        let model = Model::new(&context.shape, InputSize::of(specials.size, &checkpoint.spec));
        ensure!(
            model.width() == checkpoint.spec.dimension,
            "encoder.json of the checkpoint has dimension {}, its context.json {}",
            checkpoint.spec.dimension,
            model.width()
        );
        let parameters = Parameters::load(&checkpoint.weights, &model.specs())?;
        let (graphs, bytes) = write_graphs(config, &model, &parameters, run)?;
        fs::copy(&checkpoint.tokenizer, run.out.join("tokenizer.json"))?;
        let spec = spec(&checkpoint.spec, context.shape.context, config.precision);
        fs::write(run.out.join(EncoderSpec::FILE), serde_json::to_vec_pretty(&spec)?)?;
        let frame = Frame::of(&specials)?;
        let samples = read_samples(tokens, &context, &spec, &frame, &specials, run)?;
        let pad = specials.id(&frame.pad)?;
        let ranked = samples.len().min(RANKED);
        let rows = ranked.min(config.rows);
        let compared = Parity { model: &model, parameters: &parameters, graphs, samples: &samples, pad }.compare(ranked, rows)?;
        check(config, compared)?;
        let Comparison { max_difference, mrr, graph_mrr } = compared;
        run.progress.message(&format!("export    differs by {max_difference:.1e}, mrr {graph_mrr:.4} (trainer {mrr:.4})"));
        Ok(ExportReport { rows: 2 * rows as u64, max_difference, bytes, mrr, graph_mrr })
    }
}

/// Writes the graph of each encoder and opens it; returns the graphs by prefix of the parameters, and the bytes written.
fn write_graphs(config: &Config, model: &Model, parameters: &Parameters, run: &Run<'_>) -> Result<(BTreeMap<String, Graph>, u64)> {
    let (mut graphs, mut bytes) = (BTreeMap::new(), 0);
    for tower in &model.towers {
        let path = run.out.join(graph_name(&tower.scope));
        let graph = writer::write(tower, model.pooler, parameters, config.precision, config.opset);
        bytes += graph.len() as u64;
        fs::write(&path, &graph)?;
        graphs.insert(tower.scope.clone(), Graph::open(&path, GraphOptions::default())?);
    }
    Ok((graphs, bytes))
}

/// The graph file of an encoder: `encoder.onnx` for the prefix `encoder.`, `code.python.onnx` for `code.python.`.
fn graph_name(scope: &str) -> String {
    format!("{scope}onnx")
}

fn spec(checkpoint: &EncoderSpec, context: EncoderContext, precision: Precision) -> EncoderSpec {
    let (query_graph, code_graph) = match context {
        EncoderContext::Siamese => ("encoder.onnx", "encoder.onnx"),
        EncoderContext::Query1Code1 => ("query.onnx", "code.onnx"),
        EncoderContext::Query1CodeN => ("query.onnx", "code.{language}.onnx"),
    };
    let quantisation = (precision == Precision::Int8).then_some(Quantisation::Dynamic);
    EncoderSpec { query_graph: query_graph.to_owned(), code_graph: code_graph.to_owned(), quantisation, ..checkpoint.clone() }
}

/// Validation pairs, after checks that they match the checkpoint.
fn read_samples(
    tokens: &Artifact<Tokens>,
    context: &TrainingContext,
    spec: &EncoderSpec,
    frame: &Frame,
    specials: &Specials,
    run: &Run<'_>,
) -> Result<Samples> {
    let tables = tokens.open()?;
    let (_, valid) = tables.for_training();
    let mut samples = Samples::read(&valid, frame, specials, run.out)?;
    samples.renumber(&context.shape.languages);
    ensure!(!samples.is_empty(), "the tokens have no validation rows to check the export with: harvest more repositories");
    ensure!(
        samples.languages.len() == context.shape.languages.len(),
        "the tokens have the languages {:?}, the checkpoint {:?}: run `codenets run`",
        samples.languages,
        context.shape.languages
    );
    require_same_vocabulary(tokens, &context.vocabulary)?;
    let (query, code) = samples.lengths.iter().fold((0, 0), |(query, code), lengths| (query.max(lengths.0), code.max(lengths.1)));
    ensure!(
        usize::from(query) <= spec.query_tokens && usize::from(code) <= spec.code_tokens,
        "the tokens have queries of {query} and code of {code} ids, the checkpoint reads {} and {}: run `codenets run`",
        spec.query_tokens,
        spec.code_tokens
    );
    Ok(samples)
}

fn check(config: &Config, compared: Comparison) -> Result<()> {
    let Comparison { max_difference, mrr, graph_mrr } = compared;
    if config.precision == Precision::F32 {
        ensure!(
            max_difference <= config.tolerance,
            "the exported graph differs from the trainer by {max_difference:.2e}, more than export.tolerance = {:.0e}",
            config.tolerance
        );
    }
    ensure!(
        mrr - graph_mrr <= config.max_mrr_loss,
        "the exported graph has mrr {graph_mrr:.4}, the trainer {mrr:.4}: the loss is larger than export.max-mrr-loss = {}",
        config.max_mrr_loss
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_with_a_lower_score_than_allowed_is_refused_and_a_better_one_is_not() {
        let config = |max_mrr_loss: f64| -> Config {
            serde_json::from_value(serde_json::json!({
                "opset": 20, "rows": 8, "tolerance": 1e-4, "precision": "int8", "max-mrr-loss": max_mrr_loss
            }))
            .unwrap()
        };
        let checked = |graph_mrr: f64| check(&config(0.1), Comparison { max_difference: 0.0, mrr: 0.5, graph_mrr });
        checked(0.45).unwrap();
        checked(0.9).unwrap();
        assert!(checked(0.35).unwrap_err().to_string().contains("larger than export.max-mrr-loss = 0.1"));
    }
}
