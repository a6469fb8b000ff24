//! Stage `adopt`: records an encoder from a folder, instead of training one.

use std::{fs, path::Path};

use inference::{Graph, GraphOptions, PaddedRows};
use ledger::{Digest, Encoder, EncoderSpec, Language, Recordable, Report, Rows, Run, Stage, conf::Adopted, ensure};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// The stage.
#[derive(Debug)]
pub struct Adopt;

/// Files of the encoder.
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

/// Files that every encoder has, besides its graphs.
const FILES: [&str; 2] = [EncoderSpec::FILE, "tokenizer.json"];

/// Ids that every graph is run with.
const PROBE: [u32; 3] = [1, 2, 3];

impl Stage for Adopt {
    const NAME: &'static str = "adopt";
    const ABOUT: &'static str = "Record the encoder that adopt.from names, instead of training one";
    const REVISION: u32 = 1;
    type Config = Adopted;
    type Inputs = ();
    type Output = Encoder;
    type Report = AdoptReport;
    type Error = crate::Error;

    fn external_inputs(config: &Adopted) -> Result<Vec<(String, Digest)>> {
        let Some(from) = &config.from else { return Ok(Vec::new()) };
        let encoder = Encoder::open(from).with_context(|| format!("adopt.from = {} is not an encoder", from.display()))?;
        let files = encoder.graphs.iter().map(String::as_str).chain(FILES);
        files.map(|file| Ok((format!("adopt:{file}"), Digest::of_file(&from.join(file))?))).collect()
    }

    fn run(config: &Adopted, (): &(), run: &Run<'_>) -> Result<AdoptReport> {
        let from =
            config.from.as_ref().context("adopt.from is null: set it to the folder of the encoder, or run `codenets adopt FOLDER`")?;
        let encoder = Encoder::open(from)?;
        let mut bytes = 0;
        for file in encoder.graphs.iter().map(String::as_str).chain(FILES) {
            bytes += fs::copy(from.join(file), run.out.join(file)).with_context(|| format!("copying {file} of {}", from.display()))?;
        }
        for graph in &encoder.graphs {
            let width = probe(&run.out.join(graph), &encoder.spec).with_context(|| format!("running {graph} of {}", from.display()))?;
            ensure!(
                width == encoder.spec.dimension,
                "{graph} of {} has vectors of width {width}, its encoder.json has dimension {}: correct encoder.json",
                from.display(),
                encoder.spec.dimension
            );
        }
        let name = |language: Language| language.name();
        let missing: Vec<&str> = Language::ALL
            .into_iter()
            .filter(|&language| !encoder.graphs.contains(&encoder.spec.code_graph.replace("{language}", name(language))))
            .map(name)
            .collect();
        if !missing.is_empty() {
            run.progress.message(&format!("adopt     has no graph for {}", missing.join(", ")));
        }
        Ok(AdoptReport { graphs: encoder.graphs.len() as u64, dimension: encoder.spec.dimension as u64, bytes })
    }
}

/// Width of the vector that a graph computes for one row.
fn probe(graph: &Path, spec: &EncoderSpec) -> Result<usize> {
    let rows = PaddedRows::new(&[PROBE], 0);
    let vector = Graph::open(graph, GraphOptions::default())?.encode(&rows, &spec.graph, spec.dimension)?;
    ensure!(vector.iter().all(|value| value.is_finite()), "its vector has a value that is not finite");
    Ok(vector.len())
}
