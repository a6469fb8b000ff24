//! `train`: token columns to a checkpoint, a training context saved whole.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::backend::AutodiffBackend;
use ledger::{Artifact, Checkpoint, CodeText, Digest, EncoderSpec, Manifest, Mrr, Report, Rows, Run, Stage, Tokens, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoints::{self, Checkpoints, Epoch, Progress, State},
    config::{Config, Device, Kernels},
    data::{
        batches::{Framing, Source},
        plan,
        samples::Samples,
    },
    encoders::{EncoderConfig, Extent},
    fit::{Fit, Stepper, Timing},
    losses::LossConfig,
    model::{LOG_SCALE, Model, ModelShape, Side},
    ops::{Ops, fused::Fused, stock::Stock},
    optimizer::AdamW,
    parameters::Parameters,
    teacher::Teacher,
    tracking::{Tracker, write_curve, write_projector},
    validation,
    vocabulary::{Frame, Specials},
};

/// The stage.
#[derive(Debug)]
pub struct Train;

/// The learning curve, and what it cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainReport {
    pub pairs: u64,
    pub valid_pairs: u64,
    pub steps: u64,
    pub parameters: u64,
    pub best_epoch: u64,
    pub best_valid_mrr: Mrr,
    /// Of this process: a resumed one did a part.
    pub samples_per_s: f64,
    pub training_s: f64,
    pub validation_s: f64,
    /// Share of the training time in which a step waited for its batch.
    pub wait_share: f64,
    /// Share of a padded rectangle that would be padding, of queries and of code: drawn at random, and as configured.
    pub padding_drawn: (f64, f64),
    pub padding: (f64, f64),
    pub epochs: Vec<Epoch>,
}

impl Report for TrainReport {
    fn rows(&self) -> Rows {
        Rows { read: self.pairs, written: self.pairs, rejected: 0 }
    }
}

/// `context.json`: all that the weights came from, without a time or a host.
#[derive(Debug, Serialize, Deserialize)]
pub struct Context {
    pub config: Config,
    pub shape: ModelShape,
    pub tokens: String,
    pub vocabulary: String,
    pub parameters: usize,
    pub best_epoch: u64,
    pub epochs: Vec<Epoch>,
}

/// What the loop is given, whichever device it runs on.
struct Prepared<'a> {
    config: &'a Config,
    model: &'a Model,
    source: Source<'a>,
    valid: &'a Samples,
    tokenizer: &'a Path,
    /// What the weights come from, for those who watch.
    tags: BTreeMap<String, String>,
}

impl Stage for Train {
    const NAME: &'static str = "train";
    const ABOUT: &'static str = "Train an encoder on pairs of query and code";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = (Artifact<Tokens>, Artifact<Vocabulary>);
    type Output = Checkpoint;
    type Report = TrainReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.check()?;
        config.external_inputs()
    }

    fn run(config: &Config, (tokens, vocabulary): &Self::Inputs, run: &Run<'_>) -> Result<TrainReport> {
        let (encoder, query_encoder) = config.architectures()?;
        let tokenizer = vocabulary.open()?.tokenizer;
        let specials = Specials::read(&tokenizer)?;
        let frame = Frame::of(&specials)?;
        require_same_vocabulary(tokens, &vocabulary.digest().to_string())?;
        for encoder in [Some(&config.encoder), config.query_encoder.as_ref()].into_iter().flatten() {
            if let EncoderConfig::Pretrained(pretrained) = encoder {
                pretrained.require_vocabulary(&specials)?;
            }
        }
        let tables = tokens.open()?;
        let (train_shards, valid_shards) = tables.for_training();
        let train = Samples::read(&train_shards, &frame, &specials, run.out)?;
        let mut valid = Samples::read(&valid_shards, &frame, &specials, run.out)?;
        require(&train, &valid)?;
        valid.renumber(&train.languages);
        if config.context == crate::config::Context::Query1CodeN && valid.languages.len() > train.languages.len() {
            bail!(
                "no training rows in {:?}, which query-1-code-n would need an encoder of: harvest more of it, or leave it out of harvest.languages",
                &valid.languages[train.languages.len()..]
            );
        }
        let shape = ModelShape {
            context: config.context,
            encoder,
            query_encoder,
            pooler: config.pooler,
            languages: valid.languages.clone(),
            scale: config.loss.scale().0,
        };
        let spec = spec(&shape, tokens.manifest(), &frame)?;
        let model = Model::new(&shape, Extent::of(specials.size, &spec));
        let raw = matches!(config.loss, LossConfig::Distillation { .. });
        let teacher = match &config.teacher {
            Some(teacher) => Some(Teacher::make(teacher, &train, &tokenizer, raw, run)?),
            None => None,
        };
        let common = train.common_query_ids(config.options.common_tokens);
        let framing = Framing {
            query: (frame.query.0.len(), frame.query.1.len()),
            code: (frame.code.0.len(), frame.code.1.len()),
            query_tokens: spec.query_tokens,
        };
        let mean_weight = config.options.mean_weight(&train);
        ensure!(mean_weight > 0.0, "train.options.language-weights are 0 for every language that has rows");
        let count: usize = model.specs().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        ensure!(count <= MOST_PARAMETERS, "the encoders have {count} parameters, more than {MOST_PARAMETERS}");
        let (teacher, seed) = (teacher.as_ref(), config.seed);
        let source = Source { samples: &train, options: &config.options, common: &common, framing, teacher, mean_weight, seed };
        if let Some(restore) = &config.restore {
            restore.require_vocabulary(&tokenizer)?;
        }
        let tags = [("codenets.tokens", tokens.digest()), ("codenets.vocabulary", vocabulary.digest())];
        let tags = tags.into_iter().map(|(kind, digest)| (kind.to_owned(), digest.to_string())).collect();
        let prepared = Prepared { config, model: &model, source, valid: &valid, tokenizer: &tokenizer, tags };
        let clock = Instant::now();
        let (state, timing, checkpoints) = fit_on_device(&prepared, run)?;
        let progress = &state.progress;
        leave(config, &state, &checkpoints, run)?;
        fs::copy(&tokenizer, run.out.join("tokenizer.json"))?;
        fs::write(run.out.join("encoder.json"), serde_json::to_vec_pretty(&spec)?)?;
        let best_epoch = progress.best_epoch(config.stop.metric);
        let context = Context {
            config: config.clone(),
            shape,
            tokens: tokens.digest().to_string(),
            vocabulary: vocabulary.digest().to_string(),
            parameters: state.parameters.count(),
            best_epoch,
            epochs: progress.curve.clone(),
        };
        fs::write(run.out.join("context.json"), serde_json::to_vec_pretty(&context)?)?;
        let title = format!("{} training pairs, {} validation pairs", train.len(), valid.len());
        write_curve(&run.out.join("report.html"), &title, &progress.curve, best_epoch)?;
        checkpoints.remove()?;
        let best = progress.curve.iter().find(|epoch| epoch.epoch == best_epoch).map_or(0.0, |epoch| epoch.valid.mrr);
        let drawn = crate::config::BatchConfig { bucket: 1, ..config.batch.clone() };
        Ok(TrainReport {
            pairs: train.len() as u64,
            valid_pairs: valid.len() as u64,
            steps: progress.step,
            parameters: state.parameters.count() as u64,
            best_epoch,
            best_valid_mrr: Mrr::try_from(best)?,
            samples_per_s: timing.pairs as f64 / timing.step_s.max(f64::MIN_POSITIVE),
            training_s: clock.elapsed().as_secs_f64(),
            validation_s: timing.validation_s,
            wait_share: timing.wait_s / timing.step_s.max(f64::MIN_POSITIVE),
            padding_drawn: plan::padding(&train, &plan::epoch(&train, &drawn, config.seed, 0)),
            padding: plan::padding(&train, &plan::epoch(&train, &config.batch, config.seed, 0)),
            epochs: progress.curve.clone(),
        })
    }
}

/// Parameters of all encoders together, at most: with their moments 24 GiB.
const MOST_PARAMETERS: usize = 1 << 31;

/// Ids mean nothing under another vocabulary than the one they were made with.
pub fn require_same_vocabulary(tokens: &Artifact<Tokens>, vocabulary: &str) -> Result<()> {
    let made_with = tokens.manifest().inputs.get("vocabulary").map(|input| input.digest.to_string());
    ensure!(
        made_with.as_deref() == Some(vocabulary),
        "the tokens were made with another vocabulary than the one that is recorded now: run `make tokenize` (and then `make train`) again"
    );
    Ok(())
}

/// Checks that there is something to learn from and something to choose the best epoch by.
fn require(train: &Samples, valid: &Samples) -> Result<()> {
    for (samples, what) in [(train, "training"), (valid, "validation")] {
        ensure!(
            samples.len() > 1,
            "{} documented rows in the {what} split: harvest more repositories, or change harvest.split",
            samples.len()
        );
    }
    Ok(())
}

/// What the encoder will be told of its input comes from the record of the tokens.
fn spec(shape: &ModelShape, tokens: &Manifest, frame: &Frame) -> Result<EncoderSpec> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Tokenized {
        code_text: CodeText,
        code_tokens: usize,
        query_tokens: usize,
    }
    use crate::encoders::Encoder;
    let tokenized: Tokenized = serde_json::from_value(tokens.config.clone()).context("the record of the tokens")?;
    Ok(EncoderSpec {
        dimension: shape.encoder.width(),
        pooling: shape.pooler.name().to_owned(),
        normalised: true,
        pad_token: frame.pad.clone(),
        query_tokens: tokenized.query_tokens + frame.query.0.len() + frame.query.1.len(),
        code_tokens: tokenized.code_tokens + frame.code.0.len() + frame.code.1.len(),
        query_prefix: frame.query.0.clone(),
        query_suffix: frame.query.1.clone(),
        code_prefix: frame.code.0.clone(),
        code_suffix: frame.code.1.clone(),
        code_text: tokenized.code_text,
        // Named by the export.
        query_graph: "encoder.onnx".to_owned(),
        code_graph: "encoder.onnx".to_owned(),
        graph: Default::default(),
    })
}

fn fit_on_device(prepared: &Prepared<'_>, run: &Run<'_>) -> Result<(State, Timing, Checkpoints)> {
    match (prepared.config.device, prepared.config.kernels) {
        (Device::Cpu, Kernels::Fused) => fit(prepared, &Fused, Default::default(), run),
        (Device::Cpu, Kernels::Stock) => fit::<crate::ops::fused::Cpu>(prepared, &Stock, Default::default(), run),
        (Device::Cuda, _) => crate::cuda::with_device(|device| fit::<crate::cuda::Cuda>(prepared, &Stock, device, run)),
    }
}

/// Starts or goes on, and trains to the end.
fn fit<B: AutodiffBackend>(
    prepared: &Prepared<'_>,
    ops: &dyn Ops<B>,
    device: B::Device,
    run: &Run<'_>,
) -> Result<(State, Timing, Checkpoints)> {
    let config = prepared.config;
    let checkpoints = Checkpoints::new(run.work_dir.join("checkpoints"), config.checkpoints.keep, config.seed)?;
    let specs = prepared.model.specs();
    let mut damaged = Vec::new();
    let found = checkpoints.newest(&specs, &config.optimizer, &mut damaged);
    for reason in damaged {
        run.progress.message(&format!("train     passes over a checkpoint: {reason}"));
    }
    let mut state = match found {
        Some(state) => {
            run.progress.message(&format!(
                "train     goes on from step {} of epoch {}/{}",
                state.progress.step,
                state.progress.epoch + 1,
                config.epochs
            ));
            state
        }
        None => begin(prepared, run.progress)?,
    };
    let begins = state.progress.step == 0;
    let mut tracker = Tracker::start(run, &serde_json::to_value(config)?, &prepared.tags, begins)?;
    let stepper = Stepper { config, model: prepared.model, ops, device };
    let fit = Fit { stepper, source: prepared.source, valid: prepared.valid, run };
    let timing = fit.run(&mut state, &checkpoints, &mut tracker);
    tracker.finish(timing.is_ok())?;
    let timing = timing?;
    project(prepared, &state, &fit, run)?;
    Ok((state, timing, checkpoints))
}

/// Fresh weights, the user's pretrained ones, or those of a checkpoint.
fn begin(prepared: &Prepared<'_>, bars: &ledger::Progress) -> Result<State> {
    let config = prepared.config;
    let specs = prepared.model.specs();
    if let Some(restore) = &config.restore {
        let mut parameters = Parameters::load(&restore.weights(), &specs)?;
        if let (scale, false) = config.loss.scale()
            && let Some(log_scale) = parameters.0.get_mut(LOG_SCALE)
        {
            // The record's may have been learnt by another loss.
            log_scale.values[0] = scale.ln() as f32;
        }
        let optimizer = if restore.optimizer {
            AdamW::load(&config.optimizer, &parameters, &restore.optimizer())?
        } else {
            AdamW::new(&config.optimizer, &parameters)
        };
        return Ok(State { parameters, optimizer, progress: Progress::default() });
    }
    let mut parameters = Parameters::initialise(&specs, config.seed);
    for (index, tower) in prepared.model.towers.iter().enumerate() {
        let is_query = index == 0 && prepared.model.towers.len() > 1;
        let encoder = if is_query { config.query_encoder.as_ref().unwrap_or(&config.encoder) } else { &config.encoder };
        if let EncoderConfig::Pretrained(pretrained) = encoder {
            pretrained.load(&tower.scope, prepared.model.extent, &mut parameters)?;
        }
        if let Some(start) = &config.token_start {
            let name = format!("{}tokens", tower.scope);
            let table = parameters.0.get_mut(&name).with_context(|| format!("the encoder has no parameter {name}"))?;
            start.fill(table, prepared.model.width(), prepared.tokenizer, bars)?;
        }
    }
    let optimizer = AdamW::new(&config.optimizer, &parameters);
    Ok(State { parameters, optimizer, progress: Progress::default() })
}

/// The artifact's weights: the best by `stop.metric`, those by the other metrics, and where training stopped.
fn leave(config: &Config, state: &State, kept: &Checkpoints, run: &Run<'_>) -> Result<()> {
    let copy = |from: std::path::PathBuf, to: std::path::PathBuf| -> Result<()> {
        fs::copy(&from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(())
    };
    copy(kept.best(config.stop.metric), run.out.join("model.safetensors"))?;
    for &metric in config.checkpoints.best_by.iter().filter(|&&metric| metric != config.stop.metric) {
        copy(kept.best(metric), run.out.join(format!("best-{}.safetensors", checkpoints::name(metric))))?;
    }
    checkpoints::write(&run.out.join("last"), state, config.seed)
}

/// The first validation pairs for TensorBoard's projector.
fn project<B: AutodiffBackend>(prepared: &Prepared<'_>, state: &State, fit: &Fit<'_, B>, run: &Run<'_>) -> Result<()> {
    let rows = 0..prepared.valid.len().min(500);
    let (mut vectors, mut lines) = (Vec::new(), Vec::new());
    for (side, name) in [(Side::Query, "query"), (Side::Code, "code")] {
        vectors.extend(validation::vectors(
            prepared.model,
            &state.parameters,
            fit.stepper.ops,
            &fit.stepper.device,
            side,
            prepared.valid,
            rows.clone(),
        )?);
        for row in rows.clone() {
            let language = prepared.valid.languages[usize::from(prepared.valid.language[row])].clone();
            lines.push((name.to_owned(), language, format!("pair {row}")));
        }
    }
    write_projector(&run.work_dir.join("tensorboard"), &vectors, prepared.model.width(), &lines)
}
