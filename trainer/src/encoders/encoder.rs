//! What every encoder implements.

use ledger::{EncoderSpec, ensure};

use crate::{
    error::Result,
    graph::{math::Math, parameters::Specs},
};

/// Size of the input of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSize {
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Tokens of the longest sequence.
    pub length: usize,
}

impl InputSize {
    /// The input size of an encoder with this specification.
    pub fn of(vocabulary: usize, spec: &EncoderSpec) -> Self {
        Self { vocabulary, length: spec.query_tokens.max(spec.code_tokens) }
    }
}

/// An encoder: token ids to one vector for each token. The file of each encoder states its formula and source.
pub trait Encoder {
    /// Width of the token vectors.
    fn width(&self) -> usize;
    /// Adds the parameters.
    fn specs(&self, input: InputSize, specs: &mut Specs);
    /// Computes the token vectors.
    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens;
    /// Checks the sizes.
    ///
    /// # Errors
    /// The key of the first size that is out of range.
    fn check(&self) -> Result<()>;
}

/// Checks that sizes are between 1 and 65536.
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    for (name, size) in sizes {
        ensure!((1..=65_536).contains(size), "encoder.{name} is {size}: it must be between 1 and 65536");
    }
    Ok(())
}

/// Checks a dropout probability.
pub fn check_dropout(probability: f32) -> Result<()> {
    ensure!((0.0..1.0).contains(&probability), "encoder.dropout is {probability}: it must be a probability below 1");
    Ok(())
}
