//! `conv-attention`: the convolutions of [`super::conv1d`], then the transformer layers of [`super::bert`] over what
//! they saw (`conv_self_att_encoder.py` of github/CodeSearchNet).

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{
    Encoder, Extent,
    bert::{Block, START, norm_epsilon},
    check_sizes,
    conv1d::{stack, stack_specs},
};
use crate::{
    math::Math,
    parameters::{Init, Role, Specs},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConvAttention {
    pub dimension: usize,
    pub convolutions: usize,
    pub kernel: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub dropout: f32,
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

    fn specs(&self, extent: Extent, specs: &mut Specs) {
        specs.add("tokens", &[extent.vocabulary, self.dimension], Role::Table, Init::Normal(0.1));
        stack_specs(self.convolutions, self.kernel, self.dimension, specs);
        specs.add("positions", &[extent.length, self.dimension], Role::Matrix, START);
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
