//! `conv1d`: `h⁰ = E[ids]`, `hˡ = tanh(conv_l(hˡ⁻¹) + hˡ⁻¹)`, without the residual for l = 1, and dropout after each layer
//! (`conv_seq_encoder.py` of github/CodeSearchNet, with 3 layers of width 128 and kernel 16).
//!
//! A sequence is extended by zeros at both ends, not by the embedding of padding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, InputSize, check_dropout, check_sizes};
use crate::{
    error::Result,
    graph::{
        math::Math,
        parameters::{Init, Role, Specs, glorot},
    },
};

/// Sizes of `conv1d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Conv1d {
    /// Width of the vectors.
    pub dimension: usize,
    /// Number of convolutions.
    pub layers: usize,
    /// Tokens that one output reads.
    pub kernel: usize,
    /// Probability of dropout, below 1.
    pub dropout: f32,
}

/// Adds the parameters of a stack of convolutions whose inputs and outputs have the same width.
pub fn stack_specs(layers: usize, kernel: usize, width: usize, specs: &mut Specs) {
    for layer in 0..layers {
        specs.linear(&format!("convolution.{layer}"), kernel * width, width, glorot(kernel * width, width));
    }
}

/// Applies the stack of convolutions.
pub fn stack<M: Math>(math: &mut M, mut x: M::Tokens, layers: usize, kernel: usize, dropout: f32) -> M::Tokens {
    for layer in 0..layers {
        let mut next = math.convolution(&x, &format!("convolution.{layer}"), kernel);
        if layer > 0 {
            next = math.add(&next, &x);
        }
        let activated = math.tanh(&next);
        x = math.dropout(&activated, dropout);
    }
    x
}

impl Encoder for Conv1d {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.dimension], Role::Table, Init::Normal(0.1));
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
