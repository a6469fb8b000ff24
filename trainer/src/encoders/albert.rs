//! `albert`: [`super::bert`] whose layers share their weights, with a factorised embedding `x = LN(E[ids] + P[0..T])·W_e` from width
//! `embedding` to `dimension` (Lan et al. 2020, §3.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bert::{Block, START, norm_epsilon},
    encoder::{Encoder, InputSize, check_sizes},
};
use crate::{
    error::Result,
    graph::{
        math::Math,
        parameters::{Role, Specs},
    },
};

/// Sizes of `albert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Albert {
    /// Width of the token embedding.
    pub embedding: usize,
    /// Width of the vectors.
    pub dimension: usize,
    /// Width between the two linears of a layer.
    pub intermediate: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Attention heads; the dimension must be a multiple of them.
    pub heads: usize,
    /// Probability of dropout, below 1.
    pub dropout: f32,
    /// Added to the variance in layer normalisation.
    #[serde(default = "norm_epsilon")]
    pub norm_epsilon: f64,
}

impl Albert {
    fn block(&self) -> Block {
        Block {
            width: self.dimension,
            intermediate: self.intermediate,
            heads: self.heads,
            dropout: self.dropout,
            norm_epsilon: self.norm_epsilon,
        }
    }
}

impl Encoder for Albert {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.embedding], Role::Table, START);
        specs.add("positions", &[input.length, self.embedding], Role::Matrix, START);
        specs.norm("norm", self.embedding);
        specs.linear("widen", self.embedding, self.dimension, START);
        self.block().specs("layer", specs);
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        let (x, positions) = (math.embed("tokens"), math.positions("positions"));
        let x = math.add_norm(&x, Some(&positions), "norm", self.norm_epsilon);
        let x = math.dropout(&x, self.dropout);
        let mut x = math.linear(&x, "widen");
        for _ in 0..self.layers {
            x = self.block().forward(math, "layer", &x);
        }
        x
    }

    fn check(&self) -> Result<()> {
        check_sizes(&[("embedding", self.embedding), ("layers", self.layers)])?;
        self.block().check()
    }
}
