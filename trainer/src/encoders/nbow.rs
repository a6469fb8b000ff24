//! `nbow`, neural bag of words: `h_t = E[id_t]` (CodeSearchNet's baseline; `nbow_seq_encoder.py` of github/CodeSearchNet).
//!
//! With the poolers `mean` and `weighted-mean` the token vectors are not stored: the weight of a token depends on its row only, so that the
//! pooled vector is a sparse product of counts and table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, InputSize, check_sizes};
use crate::{
    error::Result,
    graph::{
        math::Math,
        parameters::{Init, Role, Specs},
    },
};

/// Sizes of `nbow`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nbow {
    /// Width of the vectors.
    pub dimension: usize,
}

impl Encoder for Nbow {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.dimension], Role::Table, Init::Normal(1.0));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        math.embed("tokens")
    }

    fn check(&self) -> Result<()> {
        check_sizes(&[("dimension", self.dimension)])
    }
}
