//! `conv1d`: `h⁰ = E[ids]`, `hˡ = tanh(conv_l(hˡ⁻¹) + hˡ⁻¹)` for l > 1 and without the residual for l = 1, dropout
//! behind each (`conv_seq_encoder.py` of github/CodeSearchNet, whose sizes are 3 layers of 128, kernel 16). Zeros stand
//! before and behind a sequence, not the embedding of padding.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Encoder, Extent, check_dropout, check_sizes};
use crate::{
    math::Math,
    parameters::{Init, Role, Specs, glorot},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Conv1d {
    pub dimension: usize,
    pub layers: usize,
    pub kernel: usize,
    pub dropout: f32,
}

/// Parameters of a stack of convolutions that keeps its width.
pub fn stack_specs(layers: usize, kernel: usize, width: usize, specs: &mut Specs) {
    for layer in 0..layers {
        specs.linear(&format!("convolution.{layer}"), kernel * width, width, glorot(kernel * width, width));
    }
}

/// The stack itself.
pub fn stack<M: Math>(math: &mut M, mut x: M::Tokens, layers: usize, kernel: usize, dropout: f32) -> M::Tokens {
    for layer in 0..layers {
        let mut next = math.convolution(&x, &format!("convolution.{layer}"), kernel);
        if layer > 0 {
            next = math.add(&next, &x);
        }
        let bent = math.tanh(&next);
        x = math.dropout(&bent, dropout);
    }
    x
}

impl Encoder for Conv1d {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, extent: Extent, specs: &mut Specs) {
        specs.add("tokens", &[extent.vocabulary, self.dimension], Role::Table, Init::Normal(0.1));
        stack_specs(self.layers, self.kernel, self.dimension, specs);
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        let x = math.embed("tokens");
        let x = math.dropout(&x, self.dropout);
        stack(math, x, self.layers, self.kernel, self.dropout)
    }

    fn check(&self) -> Result<()> {
        check_dropout(self.dropout)?;
        check_sizes(&[("dimension", self.dimension), ("layers", self.layers), ("kernel", self.kernel)])
    }
}
