//! Section `train`: the encoder, the loss and the training.

use std::collections::BTreeMap;

use ledger::{Digest, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    encoders::{
        architecture::{Architecture, EncoderConfig},
        encoder::Encoder,
        pooler::Pooler,
    },
    error::{Context, Result, WITHOUT_CUDA},
    losses::loss::LossConfig,
    teacher::{config::TeacherConfig, token_start::TokenStart},
    training::{optimizer::OptimizerConfig, restore::Restore, schedule::Schedule},
};

/// Which encoders read queries and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncoderContext {
    /// One encoder for queries and code.
    #[serde(rename = "siamese")]
    Siamese,
    /// One encoder for queries, one for code.
    #[serde(rename = "query-1-code-1")]
    Query1Code1,
    /// One encoder for queries, one for the code of each language.
    #[serde(rename = "query-1-code-n")]
    Query1CodeN,
}

/// Section `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Which encoders read queries and code.
    pub context: EncoderContext,
    /// The encoder of code, and of queries unless `query-encoder` is set.
    pub encoder: EncoderConfig,
    /// The encoder of queries; null: one with the kind and sizes of `encoder`.
    pub query_encoder: Option<EncoderConfig>,
    /// How the vectors of the tokens become one vector.
    pub pooler: Pooler,
    /// The loss of a batch.
    pub loss: LossConfig,
    /// An encoder whose similarities grade the pairs of a batch; null: none.
    pub teacher: Option<TeacherConfig>,
    /// A recorded checkpoint whose weights the training starts with; null: none.
    pub restore: Option<Restore>,
    /// Initial values of the table of token vectors; null: random.
    pub token_start: Option<TokenStart>,
    /// Number of epochs; 0 records the initial weights (for example pretrained ones).
    pub epochs: u64,
    /// How pairs become batches.
    pub batch: BatchConfig,
    /// Random variants of pairs, and weights of languages.
    pub options: Options,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// When training ends early, and which epoch is recorded.
    pub stop: StopConfig,
    /// How often training is saved so that it can be resumed.
    pub checkpoints: CheckpointConfig,
    /// Implementation of the operations; both give the same numbers up to rounding.
    pub kernels: Kernels,
    /// Where training runs.
    pub device: Device,
    /// Seed of all random numbers.
    pub seed: u64,
}

/// How pairs become batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BatchConfig {
    /// Pairs in a batch, 2 to 16384.
    pub size: usize,
    /// Batches whose gradients are added for one step.
    pub accumulate: usize,
    /// Which languages share a batch.
    pub languages: Languages,
    /// Number of batches whose pairs are sorted by length before they are cut into batches; 1: random batches.
    pub bucket: usize,
}

/// Which languages share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Languages {
    /// Any languages.
    Mixed,
    /// One language in a batch; the languages take turns.
    RoundRobin,
}

/// Random variants of pairs, and weights of languages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Probability that the name of the function is the query, and is masked in the code.
    pub name_as_query: f64,
    /// Probability of deleting a token.
    pub token_dropout: f64,
    /// Probability of inserting a common token before a token of a query.
    pub insert_common_tokens: f64,
    /// Number of most frequent tokens of queries that are common.
    pub common_tokens: usize,
    /// Weight of the pairs of a language; 1 for languages that are not listed.
    pub language_weights: BTreeMap<String, f64>,
}

/// When training ends early, and which epoch is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StopConfig {
    /// Score of an epoch; the weights of the epoch with the best score are recorded.
    pub metric: Metric,
    /// Epochs without a better score after which training ends.
    pub patience: u64,
}

/// Score of an epoch on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    Loss,
    Mrr,
    Ndcg,
}

/// How often training is saved so that it can be resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints; there is one at the end of every epoch too.
    pub every_steps: u64,
    /// Number of checkpoints that are stored.
    pub keep: usize,
    /// Metrics whose best weights are recorded in addition to those of `stop.metric`.
    pub best_by: Vec<Metric>,
}

/// Implementation of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kernels {
    /// Fused kernels for the CPU.
    Fused,
    /// burn's own operations, on CPU and GPU.
    Stock,
}

/// Where training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Metric {
    /// Name in the configuration and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Mrr => "mrr",
            Self::Ndcg => "ndcg",
        }
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// The key of the first setting that is out of range or contradicts another one.
    pub fn check(&self) -> Result<()> {
        self.loss.check().context("train.loss")?;
        self.check_teacher()?;
        self.check_token_start()?;
        self.optimizer.check().context("train.optimizer")?;
        self.batch.check()?;
        self.options.check()?;
        ensure!(
            self.checkpoints.every_steps > 0 && self.checkpoints.keep > 0,
            "train.checkpoints: every-steps and keep must be at least 1"
        );
        if self.device == Device::Cuda {
            ensure!(self.kernels == Kernels::Stock, "train.kernels = fused needs train.device = cpu: set train.kernels = stock");
            if !cfg!(feature = "cuda") {
                bail!("{WITHOUT_CUDA}");
            }
        }
        Ok(())
    }

    fn check_teacher(&self) -> Result<()> {
        if let LossConfig::Distillation { .. } = self.loss {
            ensure!(self.teacher.is_some(), "train.loss.kind = distillation needs a teacher: set train.teacher");
        }
        let Some(teacher) = &self.teacher else { return Ok(()) };
        ensure!(
            self.loss.reads_grades(),
            "train.loss does not use the grades of train.teacher: set train.loss.kind to softmax-cross-entropy, distillation, lambda or approx-ndcg, or train.teacher = null"
        );
        teacher.check().context("train.teacher")
    }

    fn check_token_start(&self) -> Result<()> {
        if self.token_start.is_none() {
            return Ok(());
        }
        let mut encoders = [Some(&self.encoder), self.query_encoder.as_ref()].into_iter().flatten();
        ensure!(
            self.restore.is_none() && encoders.all(|encoder| matches!(encoder, EncoderConfig::Nbow(_))),
            "train.token-start needs an encoder of kind nbow without train.restore: set train.restore = null, or train.token-start = null"
        );
        Ok(())
    }

    /// The encoder of code, and the encoder of queries if it has a section of its own.
    ///
    /// # Errors
    /// A size is out of range, or the two encoders do not match.
    pub fn architectures(&self) -> Result<(Architecture, Option<Architecture>)> {
        let code = self.encoder.architecture().context("train.encoder")?;
        let Some(query) = &self.query_encoder else { return Ok((code, None)) };
        ensure!(
            self.context != EncoderContext::Siamese,
            "train.query-encoder is set, but train.context = siamese has one encoder: set train.context = query-1-code-1"
        );
        let query = query.architecture().context("train.query-encoder")?;
        ensure!(
            query.width() == code.width(),
            "train.query-encoder has width {}, train.encoder {}: they must be equal",
            query.width(),
            code.width()
        );
        Ok((code, Some(query)))
    }

    /// Digests of the files outside the store that the training reads.
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

impl BatchConfig {
    fn check(&self) -> Result<()> {
        ensure!(self.size > 1, "train.batch.size must be at least 2: the other pairs of a batch are the negatives of a query");
        ensure!(self.size <= 16_384, "train.batch.size is {}: it must be at most 16384", self.size);
        ensure!(self.accumulate > 0 && self.bucket > 0, "train.batch.accumulate and train.batch.bucket must be at least 1");
        Ok(())
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        for (key, probability) in [
            ("name-as-query", self.name_as_query),
            ("token-dropout", self.token_dropout),
            ("insert-common-tokens", self.insert_common_tokens),
        ] {
            ensure!((0.0..1.0).contains(&probability), "train.options.{key} is {probability}: it must be a probability below 1");
        }
        for (language, weight) in &self.language_weights {
            language.parse::<ledger::Language>().context("train.options.language-weights")?;
            ensure!(weight.is_finite() && *weight >= 0.0, "train.options.language-weights.{language} is {weight}: it must be at least 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Constant values of `kind` in the variants of a tagged enum, sorted.
    fn kinds<T: JsonSchema>() -> Vec<String> {
        let schema = Value::from(schemars::schema_for!(T));
        let variants = schema["oneOf"].as_array().unwrap();
        let kind = |variant: &Value| variant["properties"]["kind"]["const"].as_str().map(str::to_owned);
        let mut kinds: Vec<_> = variants.iter().filter_map(kind).collect();
        assert_eq!(kinds.len(), variants.len(), "{schema:#}");
        kinds.sort();
        kinds
    }

    #[test]
    fn the_schema_lists_the_kinds_of_encoders() {
        assert_eq!(kinds::<EncoderConfig>(), ["albert", "bert", "birnn", "conv-attention", "conv1d", "nbow", "pretrained"]);
    }

    #[test]
    fn the_schema_lists_the_kinds_of_losses() {
        let expected = ["approx-ndcg", "cosine-margin", "distillation", "lambda", "margin-softmax", "softmax-cross-entropy", "triplet"];
        assert_eq!(kinds::<LossConfig>(), expected);
    }

    #[test]
    fn the_schema_describes_settings_by_their_names_in_the_configuration() {
        let schema = Value::from(schemars::schema_for!(Config));
        assert_eq!(
            schema["properties"]["query-encoder"]["description"].as_str().unwrap().split(';').next(),
            Some("The encoder of queries")
        );
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
    }
}
