//! `birnn`: LSTM layers in both directions, whose outputs are concatenated (`rnn_seq_encoder.py` of github/CodeSearchNet, with 2 layers of
//! width 64 in each direction; Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997). With the input x of a layer, one direction is
//!
//! `[i f g o] = x_t·W + h_{t−1}·R + b`, `c_t = σ(f)∘c_{t−1} + σ(i)∘tanh(g)`, `h_t = σ(o)∘tanh(c_t)`,
//!
//! with `h_{−1} = c_{−1} = 0`. There is one bias; it is the sum of PyTorch's two.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder::{Encoder, InputSize, check_dropout, check_sizes};
use crate::{
    error::Result,
    graph::{
        math::Math,
        parameters::{Init, Role, Specs},
    },
};

/// Sizes of `birnn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Birnn {
    /// Width of the token embedding.
    pub dimension: usize,
    /// Width of one direction; the vectors are twice as wide.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Probability of dropout before each layer, below 1.
    pub dropout: f32,
}

const DIRECTIONS: [(&str, bool); 2] = [("forward", false), ("backward", true)];

impl Encoder for Birnn {
    fn width(&self) -> usize {
        2 * self.hidden
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.dimension], Role::Table, Init::Normal(0.1));
        // PyTorch's initial values: uniform within ±1/√hidden.
        let init = Init::Uniform(1.0 / (self.hidden as f32).sqrt());
        for layer in 0..self.layers {
            let inputs = if layer == 0 { self.dimension } else { 2 * self.hidden };
            for (direction, _) in DIRECTIONS {
                specs.linear(&format!("layer.{layer}.{direction}.input"), inputs, 4 * self.hidden, init);
                specs.add(&format!("layer.{layer}.{direction}.recurrent"), &[self.hidden, 4 * self.hidden], Role::Matrix, init);
            }
        }
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        let mut x = math.embed("tokens");
        for layer in 0..self.layers {
            x = math.dropout(&x, self.dropout);
            let [ahead, back] = DIRECTIONS.map(|(direction, backwards)| math.lstm(&x, &format!("layer.{layer}.{direction}"), backwards));
            x = math.concat(&ahead, &back);
        }
        x
    }

    fn check(&self) -> Result<()> {
        check_dropout(self.dropout)?;
        check_sizes(&[("dimension", self.dimension), ("hidden", self.hidden), ("layers", self.layers)])
    }
}
