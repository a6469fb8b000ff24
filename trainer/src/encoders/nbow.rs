//! `nbow`, neural bag of words: `h_t = E[id_t]` (CodeSearchNet's baseline of that name; `nbow_seq_encoder.py` of
//! github/CodeSearchNet). With the poolers `mean` and `weighted-mean` the tokens' rows are never made: a token's weight
//! depends on its row only, so the pooled row is a sparse product of counts and table.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Encoder, Extent, check_sizes};
use crate::{
    math::Math,
    parameters::{Init, Role, Specs},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nbow {
    pub dimension: usize,
}

impl Encoder for Nbow {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, extent: Extent, specs: &mut Specs) {
        specs.add("tokens", &[extent.vocabulary, self.dimension], Role::Table, Init::Normal(1.0));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        math.embed("tokens")
    }

    fn check(&self) -> Result<()> {
        check_sizes(&[("dimension", self.dimension)])
    }
}
