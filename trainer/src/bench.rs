//! `trainer bench`: training steps on random ids of given lengths, timed. For `make bench-train`, which runs a peer on
//! the same lengths beside it.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;
use serde::Deserialize;
use serde_json::json;

use crate::{
    checkpoints::{Progress, State},
    config::{Config, Device, Kernels},
    cuda,
    data::{batches::Batch, plan::generator},
    encoders::Extent,
    fit::Stepper,
    model::{Model, ModelShape, Rows},
    ops::{
        Ops,
        fused::{Cpu, Fused},
        stock::Stock,
    },
    optimizer::AdamW,
    parameters::Parameters,
    tape::Packed,
};

/// The file of batches: how many ids a vocabulary has, and the lengths of each batch's rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lengths {
    vocabulary: usize,
    batches: Vec<BatchLengths>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLengths {
    query: Vec<usize>,
    code: Vec<usize>,
}

/// Trains `steps` steps over the file's batches, in turn, and prints one line of JSON.
pub fn bench(config: &Config, lengths: &Path, steps: usize) -> Result<()> {
    config.check()?;
    let bytes = std::fs::read(lengths).with_context(|| format!("reading {}", lengths.display()))?;
    let lengths: Lengths = serde_json::from_slice(&bytes).with_context(|| format!("{} holds no lengths", lengths.display()))?;
    ensure!(!lengths.batches.is_empty() && lengths.vocabulary > 1, "there are no batches to time");
    for batch in &lengths.batches {
        let (rows, ids) =
            (batch.query.len(), batch.query.iter().chain(&batch.code).try_fold(0usize, |sum, &length| sum.checked_add(length)));
        ensure!(
            rows > 1 && rows == batch.code.len() && ids.is_some_and(|ids| ids < 1 << 28),
            "a batch needs at least two queries, as many codes, and less than 2^28 ids"
        );
    }
    match (config.device, config.kernels) {
        (Device::Cpu, Kernels::Fused) => timed::<Cpu>(config, &lengths, steps, &Fused, Default::default()),
        (Device::Cpu, Kernels::Stock) => timed::<Cpu>(config, &lengths, steps, &Stock, Default::default()),
        (Device::Cuda, _) => cuda::with_device(|device| timed::<cuda::Cuda>(config, &lengths, steps, &Stock, device)),
    }
}

fn timed<B: AutodiffBackend>(config: &Config, lengths: &Lengths, steps: usize, ops: &dyn Ops<B>, device: B::Device) -> Result<()> {
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
    let model = Model::new(&shape, Extent { vocabulary: lengths.vocabulary, length: longest });
    let parameters = Parameters::initialise(&model.specs(), config.seed);
    let optimizer = AdamW::new(&config.optimizer, &parameters);
    let mut state = State { parameters, optimizer, progress: Progress::default() };
    let mut rng = generator(config.seed, 2, 0, 0);
    let mut rows = |lengths: &[usize], vocabulary: usize| {
        let ids: Vec<Vec<u32>> =
            lengths.iter().map(|&length| (0..length).map(|_| rng.random_range(0..vocabulary as u32)).collect()).collect();
        Rows { packed: Packed::of_rows(&ids), languages: vec![0; ids.len()] }
    };
    let batches: Vec<Batch> = lengths
        .batches
        .iter()
        .map(|batch| Batch {
            query: rows(&batch.query, lengths.vocabulary),
            code: rows(&batch.code, lengths.vocabulary),
            weights: vec![1.0; batch.query.len()],
            grades: None,
        })
        .collect();
    let stepper = Stepper { config, model: &model, ops, device };
    let (mut seconds, mut samples, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps {
        let batch = &batches[step % batches.len()];
        let clock = Instant::now();
        let (gradients, part) = stepper.gradients(&state, batch, step as u64)?;
        stepper.step(&mut state, gradients, 1, steps as u64)?;
        seconds.push(clock.elapsed().as_secs_f64());
        samples.push(batch.weights.len());
        loss = part.loss;
    }
    println!("{}", json!({"seconds": seconds, "samples": samples, "loss": loss, "peak_mib": ledger::peak_rss_mib()}));
    Ok(())
}
