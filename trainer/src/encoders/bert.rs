//! `bert`: a transformer encoder (Devlin et al. 2019; Vaswani et al. 2017), norms behind the residuals:
//!
//! `x = LN(E[ids] + P[0..T])`, then each layer `y = LN(x + attention(x·W_qkv)·W_o)`, `x = LN(y + gelu(y·W_1)·W_2)`,
//! with dropout before each residual and on the attention. No segments; positions are learnt.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Encoder, Extent, check_dropout, check_sizes};
use crate::{
    math::Math,
    parameters::{Init, Role, Specs},
};

/// BERT's standard deviation of fresh weights.
pub const START: Init = Init::Normal(0.02);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bert {
    pub dimension: usize,
    /// Width between the two linears of a layer.
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub dropout: f32,
    #[serde(default = "norm_epsilon")]
    pub norm_epsilon: f64,
}

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
        let met = math.attention(&qkv, self.heads, self.dropout);
        let met = math.linear(&met, &format!("{name}.output"));
        let met = math.dropout(&met, self.dropout);
        let y = math.add_norm(&met, Some(x), &format!("{name}.attention_norm"), self.norm_epsilon);
        let wide = math.linear(&y, &format!("{name}.expand"));
        let wide = math.gelu(&wide);
        let out = math.linear(&wide, &format!("{name}.contract"));
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
        ensure!(self.norm_epsilon > 0.0, "encoder.norm-epsilon must be positive");
        Ok(())
    }
}

impl Bert {
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

    fn specs(&self, extent: Extent, specs: &mut Specs) {
        specs.add("tokens", &[extent.vocabulary, self.dimension], Role::Table, START);
        specs.add("positions", &[extent.length, self.dimension], Role::Matrix, START);
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
