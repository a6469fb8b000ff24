//! Poolers: the vectors of the tokens of a sequence to one vector.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{architecture::Architecture, encoder::Encoder};
use crate::graph::{
    math::Math,
    parameters::{Init, Specs},
};

/// How the vectors `h_t` of T tokens become one vector (`utils/tfutils.py` of github/CodeSearchNet has the first three; `cls` is BERT's,
/// Devlin et al. 2019).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooler {
    /// `Σ_t h_t / T`
    Mean,
    /// `max_t h_t` for each column
    Max,
    /// `Σ_t w_t h_t / Σ_t w_t`, `w_t = sigmoid(h_t·a + b)`
    WeightedMean,
    /// `h_0`
    Cls,
}

impl Pooler {
    /// Adds the parameters of the pooler.
    pub fn specs(self, width: usize, specs: &mut Specs) {
        if self == Self::WeightedMean {
            specs.linear("weigher", width, 1, Init::Uniform(1.0 / (width as f32).sqrt()));
        }
    }

    /// Name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::WeightedMean => "weighted-mean",
            Self::Cls => "cls",
        }
    }

    /// Encodes and pools a batch; the vectors have length 1.
    pub fn vectors<M: Math>(self, encoder: &Architecture, math: &mut M) -> M::Rows {
        let rows = match (encoder, self) {
            (Architecture::Nbow(_), Self::Mean) => math.bag("tokens", None),
            (Architecture::Nbow(_), Self::WeightedMean) => math.bag("tokens", Some("weigher")),
            _ => {
                let tokens = encoder.forward(math);
                match self {
                    Self::Mean => math.mean(&tokens),
                    Self::Max => math.max(&tokens),
                    Self::WeightedMean => math.weighted_mean(&tokens, "weigher"),
                    Self::Cls => math.first(&tokens),
                }
            }
        };
        math.normalise(&rows)
    }
}
