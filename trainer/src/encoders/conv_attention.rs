//! `conv-attention`: the convolutions of [`super::conv1d`], then the transformer layers of [`super::bert`]
//! (`conv_self_att_encoder.py` of github/CodeSearchNet).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bert::{Block, START, norm_epsilon},
    conv1d::{stack, stack_specs},
    encoder::{Encoder, InputSize, check_sizes},
};
use crate::{
    error::Result,
    graph::{
        math::Math,
        parameters::{Init, Role, Specs},
    },
};

/// Sizes of `conv-attention`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvAttention {
    /// Width of the vectors.
    pub dimension: usize,
    /// Number of convolutions.
    pub convolutions: usize,
    /// Tokens that one output of a convolution reads.
    pub kernel: usize,
    /// Width between the two linears of a transformer layer.
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

impl ConvAttention {
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

impl Encoder for ConvAttention {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.dimension], Role::Table, Init::Normal(0.1));
        stack_specs(self.convolutions, self.kernel, self.dimension, specs);
        specs.add("positions", &[input.length, self.dimension], Role::Matrix, START);
        specs.norm("norm", self.dimension);
        (0..self.layers).for_each(|layer| self.block().specs(&format!("layer.{layer}"), specs));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        let x = math.embed("tokens");
        let x = math.dropout(&x, self.dropout);
        let x = stack(math, x, self.convolutions, self.kernel, self.dropout);
        let positions = math.positions("positions");
        let mut x = math.add_norm(&x, Some(&positions), "norm", self.norm_epsilon);
        for layer in 0..self.layers {
            x = self.block().forward(math, &format!("layer.{layer}"), &x);
        }
        x
    }

    fn check(&self) -> Result<()> {
        check_sizes(&[("convolutions", self.convolutions), ("kernel", self.kernel), ("layers", self.layers)])?;
        self.block().check()
    }
}
