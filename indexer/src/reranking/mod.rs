//! How the reranking model of a bundle is configured and learned. The crate `bundle` applies it.

mod learn;
mod queries;

use std::path::PathBuf;

use bundle::reranking::{Reranker, VERSION, Weights};
use ledger::{Digest, Split, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, error::Context};
pub use learn::{Example, ExampleRow, LearnedWeights, learn};
pub use queries::{Relevant, TrainingQuery, training_queries};

/// Key `index.reranking`: how the fused candidates are ranked again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Config {
    /// They stay as they are fused.
    None,
    /// A weighted sum of features, with these weights.
    Weights(Weights),
    /// A weighted sum of features, the weights learned from a split or taken from another bundle.
    Learned(Box<Learned>),
}

/// How a model is learned, or where a learned one is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Learned {
    /// Take the weights from this file: `reranker.json` of another bundle; null: learn them.
    pub from: Option<PathBuf>,
    /// Also accept weights that were learned with another encoder.
    pub any_encoder: bool,
    /// Weights that learning starts from, and that it stays near to.
    pub prior: Weights,
    /// Split whose functions give the queries. It must not be the split that `evaluate` scores.
    pub split: Split,
    /// Largest number of queries.
    pub queries: usize,
    /// Largest number of functions that are searched, evenly spread over the split.
    pub candidates: usize,
    /// With fewer queries than this no weights are learned, and the model is the prior.
    pub least: usize,
    /// Penalty on the squares of the differences from the prior, 0 or more.
    pub penalty: f64,
}

impl Config {
    /// The configured model, none for `none`; for one that is to be learned, the prior. `encoder`: digest of the bundle's encoder.
    pub fn reranker(&self, encoder: &Digest) -> Result<Option<Reranker>> {
        let fixed = |weights: &Weights| Reranker { version: VERSION, encoder: None, split: None, weights: weights.clone() };
        let reranker = match self {
            Self::None => None,
            Self::Weights(weights) => Some(fixed(weights)),
            Self::Learned(learned) => {
                learned.check()?;
                match &learned.from {
                    Some(path) => Some(Reranker::read(path, encoder, learned.any_encoder)?),
                    None => Some(fixed(&learned.prior)),
                }
            }
        };
        reranker.as_ref().map_or(Ok(()), Reranker::check).context("index.reranking")?;
        Ok(reranker)
    }
}

impl Learned {
    fn check(&self) -> Result<()> {
        ensure!(
            self.queries > 0 && self.candidates > 0 && self.least > 0,
            "index.reranking: queries, candidates and least must be positive"
        );
        ensure!(self.penalty.is_finite() && self.penalty >= 0.0, "index.reranking.penalty is {}: it must be 0 or more", self.penalty);
        Ok(())
    }
}
