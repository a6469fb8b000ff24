//! `adopt`: an encoder that was made elsewhere (another ledger's, or a user's own) in place of one trained here, so that the
//! same road indexes and evaluates with it.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use ledger::{Digest, Encoder, EncoderSpec, Language, Recordable, Report, Rows, Run, Stage, conf::Adopted};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Debug)]
pub struct Adopt;

/// What was taken.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdoptReport {
    pub graphs: u64,
    pub dimension: u64,
    pub bytes: u64,
}

impl Report for AdoptReport {
    fn rows(&self) -> Rows {
        Rows { read: self.graphs, written: self.graphs, rejected: 0 }
    }
}

const FILES: [&str; 2] = ["encoder.json", "tokenizer.json"];

/// Ids that every graph is asked with, and the vector it must give.
const PROBE: [i64; 3] = [1, 2, 3];

impl Stage for Adopt {
    const NAME: &'static str = "adopt";
    const ABOUT: &'static str = "Take over the encoder that adopt.from names, instead of training one";
    const REVISION: u32 = 1;
    type Config = Adopted;
    type Inputs = ();
    type Output = Encoder;
    type Report = AdoptReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Adopted) -> Result<Vec<(String, Digest)>> {
        let Some(from) = &config.from else { return Ok(Vec::new()) };
        let encoder = Encoder::open(from).with_context(|| format!("adopt.from = {} is no encoder", from.display()))?;
        let files = encoder.graphs.iter().map(String::as_str).chain(FILES);
        files.map(|file| Ok((format!("adopt:{file}"), Digest::of_file(&from.join(file))?))).collect()
    }

    fn run(config: &Adopted, (): &(), run: &Run<'_>) -> Result<AdoptReport> {
        let from = config.from.as_ref().context("adopt.from is null: say which folder holds the encoder")?;
        let encoder = Encoder::open(from)?;
        let mut bytes = 0;
        for file in encoder.graphs.iter().map(String::as_str).chain(FILES) {
            bytes += fs::copy(from.join(file), run.out.join(file)).with_context(|| format!("copying {file} of {}", from.display()))?;
        }
        for graph in &encoder.graphs {
            let given = probe(&run.out.join(graph), &encoder.spec).with_context(|| format!("asking {graph} of {}", from.display()))?;
            ensure!(
                given == encoder.spec.dimension,
                "{graph} of {} gives {given} numbers a row, its encoder.json says {}",
                from.display(),
                encoder.spec.dimension
            );
        }
        let of = |language: Language| language.name();
        let lacks: Vec<&str> = Language::ALL
            .into_iter()
            .filter(|&language| !encoder.graphs.contains(&encoder.spec.code_graph.replace("{language}", of(language))))
            .map(of)
            .collect();
        if !lacks.is_empty() {
            run.progress.message(&format!("adopt     has no graph for {}", lacks.join(", ")));
        }
        Ok(AdoptReport { graphs: encoder.graphs.len() as u64, dimension: encoder.spec.dimension as u64, bytes })
    }
}

/// The width of what a graph gives for one row.
fn probe(graph: &Path, spec: &EncoderSpec) -> Result<usize> {
    let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
    let mut session = Session::builder(inference::environment()?).map_err(error)?.commit_from_file(graph).map_err(error)?;
    let mask = vec![1i64; PROBE.len()];
    let input = |values: Vec<i64>| Tensor::from_array(([1, PROBE.len()], values)).map_err(error);
    let mut inputs = ort::inputs!["input_ids" => input(PROBE.to_vec())?, "attention_mask" => input(mask.clone())?];
    if spec.graph.token_types {
        inputs.push(("token_type_ids".into(), input(vec![0; PROBE.len()])?.into()));
    }
    let outputs = session.run(inputs).map_err(error)?;
    let name = spec.graph.output.as_str();
    let output = outputs.get(name).with_context(|| format!("it has no output `{name}`: say in encoder.json which, as graph.output"))?;
    let (_, given) = output.try_extract_tensor::<f32>().map_err(error)?;
    let vector = spec.graph.vectors(given, &mask, PROBE.len(), spec.dimension)?;
    ensure!(vector.iter().all(|value| value.is_finite()), "it gives numbers that are not finite");
    Ok(vector.len())
}
