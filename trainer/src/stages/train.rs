//! Stage `train`: token columns to a checkpoint.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::backend::AutodiffBackend;
use ledger::{
    Artifact, Checkpoint, CodeText, Digest, EncoderSpec, Manifest, Mrr, Report, Rows, Run, Stage, Tokens, Vocabulary, bail, ensure,
};
use serde::{Deserialize, Serialize};

use super::training_context::TrainingContext;
use crate::{
    config::{BatchConfig, Config, Device, EncoderContext, Kernels},
    data::{
        batches::{BatchSource, Framing},
        plan,
        samples::Samples,
        vocabulary::{Frame, Specials},
    },
    encoders::{
        architecture::EncoderConfig,
        encoder::{Encoder, InputSize},
    },
    error::{Context, Result},
    graph::{
        fused::Fused,
        model::{LOG_SCALE, Model, ModelShape, Side},
        ops::Ops,
        parameters::Parameters,
        stock::Stock,
    },
    losses::loss::LossConfig,
    teacher::grades::Teacher,
    tracking::{curve::write_curve, projector::write_projector, tracker::Tracker},
    training::{
        checkpoints::{Checkpoints, State, write_state},
        cuda,
        optimizer::AdamW,
        progress::{Epoch, Progress},
        retained_pages::RetainedPages,
        stepper::Stepper,
        train_loop::{Timing, TrainLoop},
        validation::Evaluated,
    },
};

/// The stage.
#[derive(Debug)]
pub struct Train;

/// Learning curve and cost of a training.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainReport {
    pub pairs: u64,
    pub valid_pairs: u64,
    pub steps: u64,
    /// Number of weights.
    pub parameters: u64,
    pub best_epoch: u64,
    pub best_valid_mrr: Mrr,
    /// Pairs a second in this process, which may have resumed the training.
    pub samples_per_s: f64,
    pub training_s: f64,
    pub validation_s: f64,
    /// Share of the training time in which steps waited for batches.
    pub wait_share: f64,
    /// Share of padding in rectangular batches of random pairs: queries, code.
    pub padding_drawn: (f64, f64),
    /// Share of padding in rectangular batches as configured: queries, code.
    pub padding: (f64, f64),
    pub epochs: Vec<Epoch>,
}

impl Report for TrainReport {
    fn rows(&self) -> Rows {
        Rows { read: self.pairs, written: self.pairs, rejected: 0 }
    }
}

/// Maximum number of weights of all encoders; with the moments of the optimizer they need 24 GiB.
const MAX_PARAMETERS: usize = 1 << 31;

/// Validation pairs in TensorBoard's projector.
const PROJECTED: usize = 500;

impl Stage for Train {
    const NAME: &'static str = "train";
    const ABOUT: &'static str = "Train an encoder on pairs of query and code";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = (Artifact<Tokens>, Artifact<Vocabulary>);
    type Output = Checkpoint;
    type Report = TrainReport;
    type Error = crate::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.check()?;
        config.external_inputs()
    }

    fn run(config: &Config, (tokens, vocabulary): &Self::Inputs, run: &Run<'_>) -> Result<TrainReport> {
        let _pages = RetainedPages::start();
        let inputs = TrainInputs::read(config, tokens, vocabulary, run)?;
        let raw = matches!(config.loss, LossConfig::Distillation { .. });
        let teacher = match &config.teacher {
            Some(teacher) => Some(Teacher::open(teacher, &inputs.train, &inputs.tokenizer, raw, run)?),
            None => None,
        };
        let common = inputs.train.common_query_ids(config.options.common_tokens);
        let source = inputs.source(config, &common, teacher.as_ref())?;
        if let Some(restore) = &config.restore {
            restore.require_vocabulary(&inputs.tokenizer)?;
        }
        let tags = [("codenets.tokens", tokens.digest()), ("codenets.vocabulary", vocabulary.digest())];
        let tags = tags.into_iter().map(|(kind, digest)| (kind.to_owned(), digest.to_string())).collect();
        let training = Training { config, model: &inputs.model, source, valid: &inputs.valid, tokenizer: &inputs.tokenizer, tags };
        let clock = Instant::now();
        let (state, timing, checkpoints) = training.run_on_device(run)?;
        let digests = (tokens.digest().to_string(), vocabulary.digest().to_string());
        write_checkpoint(config, &inputs, digests, &state, &checkpoints, run)?;
        checkpoints.remove()?;
        report(config, &inputs, &state, timing, clock)
    }
}

/// Everything that a training reads, checked.
struct TrainInputs {
    tokenizer: PathBuf,
    frame: Frame,
    train: Samples,
    valid: Samples,
    shape: ModelShape,
    spec: EncoderSpec,
    model: Model,
}

impl TrainInputs {
    fn read(config: &Config, tokens: &Artifact<Tokens>, vocabulary: &Artifact<Vocabulary>, run: &Run<'_>) -> Result<Self> {
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
        require_rows(&train, &valid)?;
        valid.renumber(&train.languages);
        if config.context == EncoderContext::Query1CodeN && valid.languages.len() > train.languages.len() {
            bail!(
                "there are no training rows in {:?}, for which train.context = query-1-code-n needs an encoder: harvest more of it, or remove it from harvest.languages",
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
        let model = Model::new(&shape, InputSize::of(specials.size, &spec));
        Ok(Self { tokenizer, frame, train, valid, shape, spec, model })
    }

    fn source<'a>(&'a self, config: &'a Config, common: &'a [u32], teacher: Option<&'a Teacher>) -> Result<BatchSource<'a>> {
        let Frame { query, code, .. } = &self.frame;
        let framing =
            Framing { query: (query.0.len(), query.1.len()), code: (code.0.len(), code.1.len()), query_tokens: self.spec.query_tokens };
        let mean_weight = config.options.mean_weight(&self.train);
        ensure!(mean_weight > 0.0, "train.options.language-weights are 0 for every language of the training rows");
        let count: usize = self.model.specs().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        ensure!(count <= MAX_PARAMETERS, "the encoders have {count} parameters, more than the maximum of {MAX_PARAMETERS}");
        Ok(BatchSource { samples: &self.train, options: &config.options, common, framing, teacher, mean_weight, seed: config.seed })
    }
}

/// Checks that token ids belong to a vocabulary, given by its digest.
///
/// # Errors
/// The tokens were made with another vocabulary.
pub fn require_same_vocabulary(tokens: &Artifact<Tokens>, vocabulary: &str) -> Result<()> {
    let recorded = tokens.manifest().inputs.get("vocabulary").map(|input| input.digest.to_string());
    ensure!(
        recorded.as_deref() == Some(vocabulary),
        "the tokens were made with another vocabulary than the recorded one: run `codenets run --until train`"
    );
    Ok(())
}

/// Checks that there are pairs to train on and pairs to validate with.
fn require_rows(train: &Samples, valid: &Samples) -> Result<()> {
    for (samples, split) in [(train, "training"), (valid, "validation")] {
        ensure!(
            samples.len() > 1,
            "the {split} split has {} documented rows, at least 2 are needed: harvest more repositories, or change harvest.split",
            samples.len()
        );
    }
    Ok(())
}

/// `encoder.json`; what concerns the text is in the record of the tokens.
fn spec(shape: &ModelShape, tokens: &Manifest, frame: &Frame) -> Result<EncoderSpec> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Tokenized {
        code_text: CodeText,
        code_tokens: usize,
        query_tokens: usize,
    }
    let tokenized: Tokenized = serde_json::from_value(tokens.config.clone()).context("reading the record of the tokens")?;
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
        // The export sets the names of the graphs.
        query_graph: "encoder.onnx".to_owned(),
        code_graph: "encoder.onnx".to_owned(),
        graph: Default::default(),
        quantisation: None,
    })
}

/// A training on any device.
struct Training<'a> {
    config: &'a Config,
    model: &'a Model,
    source: BatchSource<'a>,
    valid: &'a Samples,
    tokenizer: &'a Path,
    /// Digests of the inputs, as tags of the MLflow run.
    tags: BTreeMap<String, String>,
}

impl Training<'_> {
    fn run_on_device(&self, run: &Run<'_>) -> Result<(State, Timing, Checkpoints)> {
        match (self.config.device, self.config.kernels) {
            (Device::Cpu, Kernels::Fused) => self.run(&Fused, Default::default(), run),
            (Device::Cpu, Kernels::Stock) => self.run::<kernels::Cpu>(&Stock, Default::default(), run),
            (Device::Cuda, _) => cuda::with_device(|device| self.run::<cuda::Cuda>(&Stock, device, run)),
        }
    }

    /// Starts or resumes the training, and runs it to its end.
    fn run<B: AutodiffBackend>(&self, ops: &dyn Ops<B>, device: B::Device, run: &Run<'_>) -> Result<(State, Timing, Checkpoints)> {
        let config = self.config;
        let checkpoints = Checkpoints::new(Checkpoints::folder(&run.work_dir), config.checkpoints.keep, config.seed)?;
        let mut state = match self.resume(&checkpoints, run) {
            Some(state) => state,
            None => self.start(run.progress)?,
        };
        let is_new = state.progress.step == 0;
        let mut tracker = Tracker::start(run, &serde_json::to_value(config)?, &self.tags, is_new)?;
        let stepper = Stepper { config, model: self.model, ops, device };
        let train_loop = TrainLoop { stepper, source: self.source, valid: self.valid, run };
        let timing = train_loop.run(&mut state, &checkpoints, &mut tracker);
        tracker.finish(timing.is_ok())?;
        let timing = timing?;
        self.project(&state, &train_loop.stepper, run)?;
        Ok((state, timing, checkpoints))
    }

    /// The state of the newest checkpoint; none where there is no checkpoint.
    fn resume(&self, checkpoints: &Checkpoints, run: &Run<'_>) -> Option<State> {
        let mut damaged = Vec::new();
        let state = checkpoints.newest(&self.model.specs(), &self.config.optimizer, &mut damaged);
        for reason in damaged {
            run.progress.message(&format!("train     ignores a checkpoint: {reason}"));
        }
        let progress = &state.as_ref()?.progress;
        let (step, epoch, epochs) = (progress.step, progress.epoch + 1, self.config.epochs);
        run.progress.message(&format!("train     resumes at step {step} of epoch {epoch}/{epochs}"));
        state
    }

    /// The state before the first step: random weights, pretrained ones, or those of a recorded checkpoint.
    fn start(&self, bars: &ledger::Progress) -> Result<State> {
        let config = self.config;
        let specs = self.model.specs();
        if let Some(restore) = &config.restore {
            let mut parameters = Parameters::load(&restore.weights(), &specs)?;
            if let (scale, false) = config.loss.scale()
                && let Some(log_scale) = parameters.0.get_mut(LOG_SCALE)
            {
                // Another loss may have learnt the recorded scale.
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
        for (index, tower) in self.model.towers.iter().enumerate() {
            let is_query = index == 0 && self.model.towers.len() > 1;
            let encoder = if is_query { config.query_encoder.as_ref().unwrap_or(&config.encoder) } else { &config.encoder };
            if let EncoderConfig::Pretrained(pretrained) = encoder {
                pretrained.load(&tower.scope, self.model.input, &mut parameters)?;
            }
            if let Some(start) = &config.token_start {
                let name = format!("{}tokens", tower.scope);
                let table = parameters.0.get_mut(&name).with_context(|| format!("the encoder has no parameter {name}"))?;
                start.fill(table, self.model.width(), self.tokenizer, bars)?;
            }
        }
        let optimizer = AdamW::new(&config.optimizer, &parameters);
        Ok(State { parameters, optimizer, progress: Progress::default() })
    }

    /// Writes vectors of the first validation pairs for TensorBoard's projector.
    fn project<B: AutodiffBackend>(&self, state: &State, stepper: &Stepper<'_, B>, run: &Run<'_>) -> Result<()> {
        let evaluated = Evaluated { model: self.model, parameters: &state.parameters, ops: stepper.ops, device: &stepper.device };
        let rows = 0..self.valid.len().min(PROJECTED);
        let (mut vectors, mut lines) = (Vec::new(), Vec::new());
        for (side, name) in [(Side::Query, "query"), (Side::Code, "code")] {
            vectors.extend(evaluated.vectors(side, self.valid, rows.clone())?);
            for row in rows.clone() {
                let language = self.valid.languages[usize::from(self.valid.language[row])].clone();
                lines.push((name.to_owned(), language, format!("pair {row}")));
            }
        }
        write_projector(&run.work_dir.join("tensorboard"), &vectors, self.model.width(), &lines)
    }
}

/// Writes the artifact: the best weights by each metric, the last state, `tokenizer.json`, `encoder.json`, `context.json` and the page of
/// the learning curve. `digests` are those of tokens and vocabulary.
fn write_checkpoint(
    config: &Config,
    inputs: &TrainInputs,
    (tokens, vocabulary): (String, String),
    state: &State,
    checkpoints: &Checkpoints,
    run: &Run<'_>,
) -> Result<()> {
    let copy = |from: &Path, name: &str| {
        let to = run.out.join(name);
        fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))
    };
    copy(&checkpoints.best(config.stop.metric), "model.safetensors")?;
    for &metric in config.checkpoints.best_by.iter().filter(|&&metric| metric != config.stop.metric) {
        copy(&checkpoints.best(metric), &format!("best-{}.safetensors", metric.name()))?;
    }
    write_state(&run.out.join("last"), state, config.seed)?;
    copy(&inputs.tokenizer, "tokenizer.json")?;
    fs::write(run.out.join(EncoderSpec::FILE), serde_json::to_vec_pretty(&inputs.spec)?)?;
    let progress = &state.progress;
    let best_epoch = progress.best_epoch(config.stop.metric);
    let context = TrainingContext {
        config: config.clone(),
        shape: inputs.shape.clone(),
        tokens,
        vocabulary,
        parameters: state.parameters.count(),
        best_epoch,
        epochs: progress.curve.clone(),
    };
    fs::write(run.out.join("context.json"), serde_json::to_vec_pretty(&context)?)?;
    let title = format!("{} training pairs, {} validation pairs", inputs.train.len(), inputs.valid.len());
    write_curve(&run.out.join("report.html"), &title, &progress.curve, best_epoch)
}

fn report(config: &Config, inputs: &TrainInputs, state: &State, timing: Timing, clock: Instant) -> Result<TrainReport> {
    let (progress, train) = (&state.progress, &inputs.train);
    let best_epoch = progress.best_epoch(config.stop.metric);
    let best = progress.curve.iter().find(|epoch| epoch.epoch == best_epoch).map_or(0.0, |epoch| epoch.valid.mrr);
    let random = BatchConfig { bucket: 1, ..config.batch.clone() };
    let padding = |batch: &BatchConfig| plan::padding(train, &plan::epoch(train, batch, config.seed, 0));
    Ok(TrainReport {
        pairs: train.len() as u64,
        valid_pairs: inputs.valid.len() as u64,
        steps: progress.step,
        parameters: state.parameters.count() as u64,
        best_epoch,
        best_valid_mrr: Mrr::try_from(best)?,
        samples_per_s: timing.pairs as f64 / timing.step_s.max(f64::MIN_POSITIVE),
        training_s: clock.elapsed().as_secs_f64(),
        validation_s: timing.validation_s,
        wait_share: timing.wait_s / timing.step_s.max(f64::MIN_POSITIVE),
        padding_drawn: padding(&random),
        padding: padding(&config.batch),
        epochs: progress.curve.clone(),
    })
}
