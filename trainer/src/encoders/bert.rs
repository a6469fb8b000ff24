//! `bert`: a transformer encoder with norms after the residuals (Devlin et al. 2019; Vaswani et al. 2017):
//!
//! `x = LN(E[ids] + P[0..T])`, then in each layer `y = LN(x + attention(x·W_qkv)·W_o)` and `x = LN(y + gelu(y·W_1)·W_2)`,
//!
//! with dropout before each residual and on the attention weights. There are no segments; positions are learnt.

use ledger::ensure;
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

/// Initial values of BERT's weights.
pub const START: Init = Init::Normal(0.02);

/// Sizes of `bert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bert {
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

/// BERT's epsilon of layer normalisation.
pub fn norm_epsilon() -> f64 {
    1e-12
}

/// One transformer layer.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub width: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub dropout: f32,
    pub norm_epsilon: f64,
}

impl Block {
    pub fn specs(self, name: &str, specs: &mut Specs) {
        specs.linear(&format!("{name}.qkv"), self.width, 3 * self.width, START);
        specs.linear(&format!("{name}.output"), self.width, self.width, START);
        specs.norm(&format!("{name}.attention_norm"), self.width);
        specs.linear(&format!("{name}.expand"), self.width, self.intermediate, START);
        specs.linear(&format!("{name}.contract"), self.intermediate, self.width, START);
        specs.norm(&format!("{name}.norm"), self.width);
    }

    pub fn forward<M: Math>(self, math: &mut M, name: &str, x: &M::Tokens) -> M::Tokens {
        let qkv = math.linear(x, &format!("{name}.qkv"));
        let attended = math.attention(&qkv, self.heads, self.dropout);
        let attended = math.linear(&attended, &format!("{name}.output"));
        let attended = math.dropout(&attended, self.dropout);
        let y = math.add_norm(&attended, Some(x), &format!("{name}.attention_norm"), self.norm_epsilon);
        let expanded = math.linear(&y, &format!("{name}.expand"));
        let expanded = math.gelu(&expanded);
        let out = math.linear(&expanded, &format!("{name}.contract"));
        let out = math.dropout(&out, self.dropout);
        math.add_norm(&out, Some(&y), &format!("{name}.norm"), self.norm_epsilon)
    }

    pub fn check(self) -> Result<()> {
        check_dropout(self.dropout)?;
        check_sizes(&[("dimension", self.width), ("intermediate", self.intermediate), ("heads", self.heads)])?;
        ensure!(
            self.width.is_multiple_of(self.heads),
            "encoder.dimension {} is not a multiple of encoder.heads {}",
            self.width,
            self.heads
        );
        ensure!(self.norm_epsilon > 0.0, "encoder.norm-epsilon is {}: it must be positive", self.norm_epsilon);
        Ok(())
    }
}

impl Bert {
    /// A layer of this encoder.
    pub fn block(&self) -> Block {
        Block {
            width: self.dimension,
            intermediate: self.intermediate,
            heads: self.heads,
            dropout: self.dropout,
            norm_epsilon: self.norm_epsilon,
        }
    }
}

impl Encoder for Bert {
    fn width(&self) -> usize {
        self.dimension
    }

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        specs.add("tokens", &[input.vocabulary, self.dimension], Role::Table, START);
        specs.add("positions", &[input.length, self.dimension], Role::Matrix, START);
        specs.norm("norm", self.dimension);
        (0..self.layers).for_each(|layer| self.block().specs(&format!("layer.{layer}"), specs));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        let (x, positions) = (math.embed("tokens"), math.positions("positions"));
        let x = math.add_norm(&x, Some(&positions), "norm", self.norm_epsilon);
        let mut x = math.dropout(&x, self.dropout);
        for layer in 0..self.layers {
            x = self.block().forward(math, &format!("layer.{layer}"), &x);
        }
        x
    }

    fn check(&self) -> Result<()> {
        check_sizes(&[("layers", self.layers)])?;
        self.block().check()
    }
}
