//! Training steps on random ids of given lengths, timed; `benches/train.py` runs PyTorch on the same lengths.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;
use serde::Deserialize;
use serde_json::json;
use trainer::{
    config::{Config, Device, Kernels},
    data::{batches::Batch, plan::generator},
    encoders::encoder::InputSize,
    graph::{
        fused::Fused,
        model::{Model, ModelShape, Rows},
        ops::Ops,
        parameters::Parameters,
        stock::Stock,
        tape::Packed,
    },
    training::{checkpoints::State, cuda, optimizer::AdamW, progress::Progress, retained_pages::RetainedPages, stepper::Stepper},
};

/// The file of batches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lengths {
    /// Number of ids.
    vocabulary: usize,
    batches: Vec<BatchLengths>,
}

/// Numbers of ids of the rows of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLengths {
    query: Vec<usize>,
    code: Vec<usize>,
}

/// Trains `steps` steps over the batches of a file, in turn, and prints one line of JSON.
pub fn run(config: &Config, lengths: &Path, steps: usize) -> Result<()> {
    config.check()?;
    let bytes = std::fs::read(lengths).with_context(|| format!("reading {}", lengths.display()))?;
    let lengths: Lengths = serde_json::from_slice(&bytes).with_context(|| format!("{} is not a file of lengths", lengths.display()))?;
    ensure!(!lengths.batches.is_empty() && lengths.vocabulary > 1, "there are no batches to time");
    for batch in &lengths.batches {
        let ids = batch.query.iter().chain(&batch.code).try_fold(0usize, |sum, &length| sum.checked_add(length));
        ensure!(
            batch.query.len() > 1 && batch.query.len() == batch.code.len() && ids.is_some_and(|ids| ids < 1 << 28),
            "a batch needs at least two queries, as many codes, and less than 2^28 ids"
        );
    }
    let _pages = RetainedPages::start();
    match (config.device, config.kernels) {
        (Device::Cpu, Kernels::Fused) => time_steps(config, &lengths, steps, &Fused, Default::default()),
        (Device::Cpu, Kernels::Stock) => time_steps::<trainer::graph::fused::Cpu>(config, &lengths, steps, &Stock, Default::default()),
        (Device::Cuda, _) => {
            // The device accepts errors of the trainer only.
            let mut timed = Ok(());
            cuda::with_device(|device| {
                timed = time_steps::<cuda::Cuda>(config, &lengths, steps, &Stock, device);
                Ok(())
            })?;
            timed
        }
    }
}

fn time_steps<B: AutodiffBackend>(config: &Config, lengths: &Lengths, steps: usize, ops: &dyn Ops<B>, device: B::Device) -> Result<()> {
    let longest = lengths.batches.iter().flat_map(|batch| batch.query.iter().chain(&batch.code)).max().copied().unwrap_or(1);
    let (encoder, query_encoder) = config.architectures()?;
    let shape = ModelShape {
        context: config.context,
        encoder,
        query_encoder,
        pooler: config.pooler,
        languages: vec!["python".to_owned()],
        scale: config.loss.scale().0,
    };
    let model = Model::new(&shape, InputSize { vocabulary: lengths.vocabulary, length: longest });
    let parameters = Parameters::initialise(&model.specs(), config.seed);
    let optimizer = AdamW::new(&config.optimizer, &parameters);
    let mut state = State { parameters, optimizer, progress: Progress::default() };
    let batches = random_batches(config, lengths);
    let stepper = Stepper { config, model: &model, ops, device };
    let (mut seconds, mut samples, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps {
        let batch = &batches[step % batches.len()];
        let clock = Instant::now();
        let (gradients, result) = stepper.gradients(&state, batch, step as u64)?;
        stepper.step(&mut state, gradients, 1, steps as u64)?;
        seconds.push(clock.elapsed().as_secs_f64());
        samples.push(batch.weights.len());
        loss = result.loss;
    }
    println!("{}", json!({"seconds": seconds, "samples": samples, "loss": loss, "peak_mib": ledger::peak_rss_mib()}));
    Ok(())
}

fn random_batches(config: &Config, lengths: &Lengths) -> Vec<Batch> {
    let mut rng = generator(config.seed, 2, 0, 0);
    let mut rows = |rows: &[usize]| {
        let mut row = |&length: &usize| (0..length).map(|_| rng.random_range(0..lengths.vocabulary as u32)).collect::<Vec<u32>>();
        let ids: Vec<Vec<u32>> = rows.iter().map(&mut row).collect();
        Rows { packed: Packed::of_rows(&ids), languages: vec![0; ids.len()] }
    };
    let batch = |batch: &BatchLengths| Batch {
        query: rows(&batch.query),
        code: rows(&batch.code),
        weights: vec![1.0; batch.query.len()],
        grades: None,
    };
    lengths.batches.iter().map(batch).collect()
}
