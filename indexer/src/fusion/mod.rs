//! How the fusion of a bundle is configured and learned. The crate `bundle` applies it.

mod learn;

use std::path::PathBuf;

use bundle::fusion::Fusion;
use ledger::{Digest, Split, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, error::Context};
pub use learn::{Example, LearnedWeights, learn};

/// Key `index.fusion`: how the lexical and the vector list become one list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Config {
    /// `(1 - weight) * lexical + weight * vector`, each list scaled to 0..1.
    MinMax {
        /// Weight of the vector list, 0 to 1.
        weight: f64,
    },
    /// `(1 - weight) * lexical / largest lexical + weight * cosine` for every row of either list.
    Sum {
        /// Weight of the cosine, 0 to 1.
        weight: f64,
    },
    /// Reciprocal rank fusion: the sum of `1 / (k + rank)` over both lists.
    Rrf {
        /// The usual value is 60.
        k: f64,
    },
    /// A weighted sum of features, the weights learned from a split or taken from another bundle.
    Learned(Learned),
}

/// How a fusion is learned, or where a learned one is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Learned {
    /// Take the weights from this file: `fusion.json` of another bundle; null: learn them.
    pub from: Option<PathBuf>,
    /// Also accept weights that were learned with another encoder.
    #[serde(default)]
    pub any_encoder: bool,
    /// Split whose documentation gives the queries. It must not be the split that `evaluate` scores.
    pub split: Split,
    /// Largest number of queries, evenly spread over the split.
    pub queries: usize,
    /// Largest number of functions that are searched, evenly spread over the split.
    pub candidates: usize,
    /// With fewer queries than this no weights are learned; the fusion is then min-max with the weight `otherwise`.
    pub least: usize,
    /// Weight of the vector list where no weights are learned, 0 to 1.
    pub otherwise: f64,
    /// Penalty on the squares of the weights, 0 or more.
    pub penalty: f64,
}

impl Learned {
    /// Checks that the numbers are in range.
    fn check(&self) -> Result<()> {
        ensure!(self.queries > 0 && self.candidates > 0 && self.least > 0, "index.fusion: queries, candidates and least must be positive");
        ensure!(self.penalty.is_finite() && self.penalty >= 0.0, "index.fusion.penalty is {}: it must be 0 or more", self.penalty);
        Ok(())
    }
}

impl Config {
    /// The configured fusion; for one that is to be learned, the fusion that is used until then. `encoder`: digest of the
    /// bundle's encoder.
    pub fn fusion(&self, encoder: &Digest) -> Result<Fusion> {
        let fusion = match self {
            Self::MinMax { weight } => Fusion::MinMax { weight: *weight },
            Self::Sum { weight } => Fusion::Sum { weight: *weight },
            Self::Rrf { k } => Fusion::Rrf { k: *k },
            Self::Learned(Learned { from: Some(path), any_encoder, .. }) => Fusion::read(path, encoder, *any_encoder)?,
            Self::Learned(learned) => {
                learned.check()?;
                Fusion::MinMax { weight: learned.otherwise }
            }
        };
        fusion.check().context("index.fusion")?;
        Ok(fusion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_tagged_enum_lists_its_kinds() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let kinds: Vec<&str> =
            schema["oneOf"].as_array().unwrap().iter().filter_map(|kind| kind["properties"]["kind"]["const"].as_str()).collect();
        assert_eq!(kinds, ["min-max", "sum", "rrf", "learned"]);
    }

    #[test]
    fn numbers_out_of_range_name_their_key() {
        let learned = |penalty: f64| {
            let text = format!(
                r#"{{"kind": "learned", "from": null, "any-encoder": false, "split": "valid", "queries": 1, "candidates": 1, "least": 1, "otherwise": 0.5, "penalty": {penalty}}}"#
            );
            serde_json::from_str::<Config>(&text).unwrap().fusion(&Digest::of_bytes(b"encoder"))
        };
        assert!(learned(-1.0).unwrap_err().to_string().contains("index.fusion.penalty"));
        assert_eq!(learned(0.1).unwrap(), Fusion::MinMax { weight: 0.5 });
    }
}
