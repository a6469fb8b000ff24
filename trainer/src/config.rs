//! Section `train`: what is trained, on what, how long.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use ledger::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    encoders::{Architecture, Encoder, EncoderConfig},
    losses::LossConfig,
    optimizer::OptimizerConfig,
    poolers::Pooler,
    restore::Restore,
    schedule::Schedule,
    teacher::TeacherConfig,
    token_start::TokenStart,
};

/// Which encoders read what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Context {
    /// One encoder for both sides.
    #[serde(rename = "siamese")]
    Siamese,
    /// One for queries, one for code.
    #[serde(rename = "query-1-code-1")]
    Query1Code1,
    /// One for queries, one for the code of each language.
    #[serde(rename = "query-1-code-n")]
    Query1CodeN,
}

/// Section `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub context: Context,
    pub encoder: EncoderConfig,
    /// The queries' encoder where it is another than the code's; none: of the same sizes.
    pub query_encoder: Option<EncoderConfig>,
    pub pooler: Pooler,
    pub loss: LossConfig,
    pub teacher: Option<TeacherConfig>,
    pub restore: Option<Restore>,
    /// Where the table of token vectors starts; none: at random.
    pub token_start: Option<TokenStart>,
    /// 0: the start itself is the result (pretrained weights as they are).
    pub epochs: u64,
    pub batch: BatchConfig,
    pub options: Options,
    pub optimizer: OptimizerConfig,
    pub schedule: Schedule,
    pub stop: StopConfig,
    pub checkpoints: CheckpointConfig,
    /// Which kernels compute; both give the same numbers to rounding.
    pub kernels: Kernels,
    pub device: Device,
    pub seed: u64,
}

/// How pairs become batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BatchConfig {
    pub size: usize,
    /// Batches whose gradients are added up for one step.
    pub accumulate: usize,
    pub languages: Languages,
    /// Batches that are drawn together and cut by length; 1: as drawn.
    pub bucket: usize,
}

/// Which languages share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Languages {
    Mixed,
    /// One a batch, in turn.
    RoundRobin,
}

/// Random variants of a pair, and what it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    pub name_as_query: f64,
    pub token_dropout: f64,
    pub insert_common_tokens: f64,
    /// How many of the most frequent tokens of queries are common.
    pub common_tokens: usize,
    pub language_weights: BTreeMap<String, f64>,
}

/// When training ends early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StopConfig {
    /// Also chooses the epoch whose weights are kept.
    pub metric: Metric,
    /// Epochs without a better one.
    pub patience: u64,
}

/// What an epoch is judged by, on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    Loss,
    Mrr,
    Ndcg,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckpointConfig {
    pub every_steps: u64,
    pub keep: usize,
    /// Metrics whose best weights are kept beside those of `stop.metric`.
    pub best_by: Vec<Metric>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernels {
    Fused,
    Stock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    Cpu,
    Cuda,
}

impl Config {
    /// Refuses what cannot be trained, by the key.
    pub fn check(&self) -> Result<()> {
        self.loss.check().context("train.loss")?;
        if let LossConfig::Distillation { .. } = self.loss {
            ensure!(self.teacher.is_some(), "train.loss distillation learns from a teacher: set train.teacher");
        }
        if let Some(teacher) = &self.teacher {
            ensure!(
                self.loss.reads_grades(),
                "train.loss reads no grades, so train.teacher would teach nothing: use softmax-cross-entropy, distillation, lambda or approx-ndcg"
            );
            teacher.check().context("train.teacher")?;
        }
        if self.token_start.is_some() {
            let all_nbow = [Some(&self.encoder), self.query_encoder.as_ref()]
                .into_iter()
                .flatten()
                .all(|encoder| matches!(encoder, EncoderConfig::Nbow(_)));
            ensure!(
                self.restore.is_none() && all_nbow,
                "train.token-start is for an encoder of kind nbow that starts fresh: set train.restore = null, or train.token-start = null"
            );
        }
        self.optimizer.check().context("train.optimizer")?;
        let batch = &self.batch;
        ensure!(batch.size > 1, "train.batch.size must be at least 2: the other rows of a batch are what a query is told apart from");
        ensure!(batch.size <= 16_384, "train.batch.size {} is more than 16384", batch.size);
        ensure!(batch.accumulate > 0 && batch.bucket > 0, "train.batch.accumulate and train.batch.bucket must be at least 1");
        let options = &self.options;
        for (key, probability) in [
            ("name-as-query", options.name_as_query),
            ("token-dropout", options.token_dropout),
            ("insert-common-tokens", options.insert_common_tokens),
        ] {
            ensure!((0.0..1.0).contains(&probability), "train.options.{key} is a probability below 1, got {probability}");
        }
        for (language, weight) in &options.language_weights {
            language.parse::<ledger::Language>().context("train.options.language-weights")?;
            ensure!(weight.is_finite() && *weight >= 0.0, "train.options.language-weights.{language} must not be negative, got {weight}");
        }
        ensure!(
            self.checkpoints.every_steps > 0 && self.checkpoints.keep > 0,
            "train.checkpoints: every-steps and keep must be at least 1"
        );
        if self.device == Device::Cuda {
            ensure!(
                self.kernels == Kernels::Stock,
                "train.kernels fused are for the CPU: set train.kernels = stock with train.device = cuda"
            );
            if !cfg!(feature = "cuda") {
                bail!("train.device is cuda, but this trainer was built without it: cargo build --release --features trainer/cuda");
            }
        }
        Ok(())
    }

    /// The encoders of code and, where it is another, of queries.
    pub fn architectures(&self) -> Result<(Architecture, Option<Architecture>)> {
        let code = self.encoder.architecture().context("train.encoder")?;
        let Some(query) = &self.query_encoder else { return Ok((code, None)) };
        ensure!(self.context != Context::Siamese, "train.query-encoder: a siamese context has one encoder; use query-1-code-1");
        let query = query.architecture().context("train.query-encoder")?;
        ensure!(
            query.width() == code.width(),
            "train.query-encoder gives {} numbers and train.encoder {}: they must be equal",
            query.width(),
            code.width()
        );
        Ok((code, Some(query)))
    }

    /// Digests of the files outside the store that training reads.
    pub fn external_inputs(&self) -> Result<Vec<(String, Digest)>> {
        let mut files = Vec::new();
        for (name, encoder) in [("encoder", Some(&self.encoder)), ("query-encoder", self.query_encoder.as_ref())] {
            if let Some(EncoderConfig::Pretrained(pretrained)) = encoder {
                files.extend(pretrained.files(name)?);
            }
        }
        if let Some(teacher) = &self.teacher {
            files.extend(teacher.files()?);
        }
        if let Some(restore) = &self.restore {
            files.extend(restore.files()?);
        }
        if let Some(start) = &self.token_start {
            files.extend(start.files()?);
        }
        Ok(files)
    }
}
