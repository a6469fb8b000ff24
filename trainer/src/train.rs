//! `train`: the loop. Leaves a checkpoint: weights of the best epoch, configuration and metrics.

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
    optim::{AdamWConfig, GradientsParams, Optimizer},
    tensor::backend::Backend,
};
use ledger::{Artifact, Checkpoint, CodeText, EncoderSpec, Manifest, Mrr, Report, Rows, Run, Stage, Tokens, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::{
    batches::{self, Padded, Pairs, Ragged, TrainingContext, Variants},
    loss::softmax_cross_entropy,
    nbow::{Nbow, Weights},
    schedule::learning_rate,
    vocabulary::Specials,
};

/// Training runs on the CPU, with burn's flex backend.
type Cpu = Autodiff<Flex>;

/// The stage.
#[derive(Debug)]
pub struct Train;

/// Section `train`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub context: TrainingContext,
    pub encoder: EncoderConfig,
    pub loss: LossConfig,
    pub epochs: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub warmup_steps: usize,
    pub weight_decay: f64,
    pub name_as_query: f64,
    pub token_dropout: f64,
    /// Epochs without a better validation score before training stops.
    pub patience: u64,
    pub seed: u64,
}

/// Which encoder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum EncoderConfig {
    Nbow { dimension: usize },
}

/// Which loss.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum LossConfig {
    SoftmaxCrossEntropy { symmetric: bool, initial_scale: f64 },
}

/// What an epoch gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: u64,
    pub loss: f64,
    /// mrr@in-batch(1000) on the validation split: batches of up to 1000 in file order, ties against us.
    pub valid_mrr: Mrr,
    pub learning_rate: f64,
}

/// The learning curve.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainReport {
    pub pairs: u64,
    pub valid_pairs: u64,
    pub steps: u64,
    pub parameters: u64,
    pub best_epoch: u64,
    pub best_valid_mrr: Mrr,
    pub samples_per_s: f64,
    pub epochs: Vec<Epoch>,
}

impl Report for TrainReport {
    fn rows(&self) -> Rows {
        Rows { read: self.pairs, written: self.pairs, rejected: 0 }
    }
}

/// `context.json`: all that the weights came from, without a time or a host.
#[derive(Debug, Serialize)]
struct Context<'a> {
    config: &'a Config,
    tokens: String,
    vocabulary: String,
    parameters: usize,
    best_epoch: u64,
    epochs: &'a [Epoch],
}

impl Stage for Train {
    const NAME: &'static str = "train";
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = (Artifact<Tokens>, Artifact<Vocabulary>);
    type Output = Checkpoint;
    type Report = TrainReport;

    fn run(config: &Config, (tokens, vocabulary): &Self::Inputs, run: &Run<'_>) -> Result<TrainReport> {
        let tokenizer = vocabulary.open()?.tokenizer;
        let specials = Specials::read(&tokenizer)?;
        let tables = tokens.open()?;
        let (train_shards, valid_shards) = tables.for_training();
        let train = Pairs::read(&train_shards, config.context, &specials)?;
        let valid = Pairs::read(&valid_shards, config.context, &specials)?;
        batches::require(&train, &valid)?;
        let clock = Instant::now();
        let (weights, epochs, steps) = fit(config, &train, &valid, &specials, run)?;
        let best = best_of(&epochs);
        weights.save(&run.out.join("model.safetensors"))?;
        fs::copy(&tokenizer, run.out.join("tokenizer.json"))?;
        fs::write(run.out.join("encoder.json"), serde_json::to_vec_pretty(&spec(config, tokens.manifest(), &weights)?)?)?;
        let parameters = weights.embedding.len() + weights.weigher.len() + 2;
        let context = Context {
            config,
            tokens: tokens.digest().to_string(),
            vocabulary: vocabulary.digest().to_string(),
            parameters,
            best_epoch: best.epoch,
            epochs: &epochs,
        };
        fs::write(run.out.join("context.json"), serde_json::to_vec_pretty(&context)?)?;
        Ok(TrainReport {
            pairs: train.len() as u64,
            valid_pairs: valid.len() as u64,
            steps,
            parameters: parameters as u64,
            best_epoch: best.epoch,
            best_valid_mrr: best.valid_mrr,
            samples_per_s: (train.len() * epochs.len()) as f64 / clock.elapsed().as_secs_f64(),
            epochs,
        })
    }
}

fn best_of(epochs: &[Epoch]) -> Epoch {
    let mut best = epochs[0].clone();
    for epoch in epochs {
        if epoch.valid_mrr > best.valid_mrr {
            best = epoch.clone();
        }
    }
    best
}

/// What the encoder will be told of its input comes from the record of the tokens.
fn spec(config: &Config, tokens: &Manifest, weights: &Weights) -> Result<EncoderSpec> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Tokenized {
        code_text: CodeText,
        code_tokens: usize,
        query_tokens: usize,
    }
    let tokenized: Tokenized = serde_json::from_value(tokens.config.clone())?;
    let (query_prefix, code_prefix) = batches::prefixes(config.context);
    Ok(EncoderSpec {
        dimension: weights.dimension,
        pooling: "weighted-mean".to_owned(),
        normalised: true,
        pad_token: "<pad>".to_owned(),
        query_tokens: tokenized.query_tokens + query_prefix.len(),
        code_tokens: tokenized.code_tokens + code_prefix.len(),
        query_prefix,
        code_prefix,
        code_text: tokenized.code_text,
    })
}

/// Trains and returns the weights of the best epoch, the curve and the number of steps.
fn fit(config: &Config, train: &Pairs, valid: &Pairs, specials: &Specials, run: &Run<'_>) -> Result<(Weights, Vec<Epoch>, u64)> {
    let EncoderConfig::Nbow { dimension } = config.encoder;
    let LossConfig::SoftmaxCrossEntropy { symmetric, initial_scale } = config.loss;
    ensure!(config.epochs > 0 && config.batch_size > 1, "train.epochs must be at least 1 and train.batch-size at least 2");
    ensure!(dimension > 0 && initial_scale > 0.0, "train.encoder.dimension and train.loss.initial-scale must be positive");
    for (key, probability) in [("name-as-query", config.name_as_query), ("token-dropout", config.token_dropout)] {
        ensure!((0.0..1.0).contains(&probability), "train.{key} is a probability below 1, got {probability}");
    }
    let device = Default::default();
    Cpu::seed(&device, config.seed);
    let pad = specials.id("<pad>")?;
    let variants = Variants { name_as_query: config.name_as_query, token_dropout: config.token_dropout };
    let mut model = Nbow::<Cpu>::new(specials.size, dimension, initial_scale, &device);
    let mut optimizer = AdamWConfig::new().with_weight_decay(config.weight_decay as f32).init::<Cpu, Nbow<Cpu>>();
    let steps_per_epoch = train.len().div_ceil(config.batch_size);
    let total = steps_per_epoch * usize::try_from(config.epochs)?;
    let bar = run.progress.bar("train", (train.len() as u64) * config.epochs, "pairs");
    let mut curve: Vec<Epoch> = Vec::new();
    let mut best = model.weights()?;
    let (mut step, mut stale) = (0, 0);
    for epoch in 0..config.epochs {
        let (mut sum, mut rate) = (0.0, 0.0);
        for (query, code) in train.epoch(config.seed, epoch, config.batch_size, variants, pad) {
            let loss = softmax_cross_entropy(model.forward(&query), model.forward(&code), model.scale(), symmetric);
            let value = f64::from(loss.clone().into_scalar());
            ensure!(value.is_finite(), "the loss is {value} at step {step}: lower train.learning-rate");
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            rate = learning_rate(config.learning_rate, config.warmup_steps, total, step);
            model = optimizer.step(rate, model, gradients);
            sum += value * query.rows as f64;
            step += 1;
            bar.add(query.rows as u64);
            bar.note(format!("epoch {}/{} loss {value:.3}", epoch + 1, config.epochs));
        }
        let plain = model.valid();
        let valid_mrr = Mrr::try_from(validation_mrr(&plain, valid, pad)?)?;
        let loss = sum / train.len() as f64;
        run.progress.say(&format!("train     epoch {}/{}: loss {loss:.4}, valid mrr@in-batch(1000) {valid_mrr}", epoch + 1, config.epochs));
        let is_best = curve.iter().all(|earlier| valid_mrr > earlier.valid_mrr);
        curve.push(Epoch { epoch, loss, valid_mrr, learning_rate: rate });
        if is_best {
            best = model.weights()?;
            stale = 0;
        } else {
            stale += 1;
            if stale >= config.patience {
                run.progress.say(&format!("train     stops: no better epoch for {stale}"));
                break;
            }
        }
    }
    bar.finish();
    Ok((best, curve, step as u64))
}

/// mrr@in-batch(1000): each query among the codes of its batch of up to 1000, in file order, the last partial one
/// kept (so not CodeSearchNet's mrr@1000); ties against us.
fn validation_mrr(model: &Nbow<Flex>, pairs: &Pairs, pad: u32) -> Result<f64> {
    let mut reciprocal = 0.0;
    for start in (0..pairs.len()).step_by(1000) {
        let end = pairs.len().min(start + 1000);
        let vectors = |ragged: &Ragged| {
            let rows: Vec<&[u32]> = (start..end).map(|row| ragged.row(row)).collect();
            let blocks: Vec<_> = rows.chunks(250).map(|rows| model.forward(&Padded::new(rows, pad))).collect();
            burn::tensor::Tensor::cat(blocks, 0)
        };
        let count = end - start;
        let scores = vectors(&pairs.query).matmul(vectors(&pairs.code).transpose());
        let scores: Vec<f32> = scores.into_data().to_vec().map_err(|error| anyhow::anyhow!("{error:?}"))?;
        ensure!(scores.iter().all(|score| score.is_finite()), "the weights are no longer finite: lower train.learning-rate");
        for (row, scores) in scores.chunks(count).enumerate() {
            let rank = scores.iter().filter(|&&score| score >= scores[row]).count();
            reciprocal += 1.0 / rank.max(1) as f64;
        }
    }
    Ok(reciprocal / pairs.len().max(1) as f64)
}
