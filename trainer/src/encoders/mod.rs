//! Encoders: token ids to one vector a token. One file each; all are written in [`Math`].

pub mod albert;
pub mod bert;
pub mod birnn;
pub mod conv1d;
pub mod conv_attention;
pub mod nbow;
pub mod pretrained;

use anyhow::{Result, ensure};
use ledger::EncoderSpec;
use serde::{Deserialize, Serialize};

use crate::{math::Math, parameters::Specs};

/// Section `encoder`: which one, and its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EncoderConfig {
    Nbow(nbow::Nbow),
    #[serde(rename = "conv1d")]
    Conv1d(conv1d::Conv1d),
    Birnn(birnn::Birnn),
    Bert(bert::Bert),
    Albert(albert::Albert),
    ConvAttention(conv_attention::ConvAttention),
    /// Weights of the user's, whose sizes their own `config.json` tells.
    Pretrained(pretrained::Pretrained),
}

/// An encoder whose sizes are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Architecture {
    Nbow(nbow::Nbow),
    #[serde(rename = "conv1d")]
    Conv1d(conv1d::Conv1d),
    Birnn(birnn::Birnn),
    Bert(bert::Bert),
    Albert(albert::Albert),
    ConvAttention(conv_attention::ConvAttention),
}

/// What an encoder reads: how many tokens there are, and how long a sequence may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub vocabulary: usize,
    pub length: usize,
}

impl Extent {
    /// What an encoder of this specification reads.
    pub fn of(vocabulary: usize, spec: &EncoderSpec) -> Self {
        Self { vocabulary, length: spec.query_tokens.max(spec.code_tokens) }
    }
}

/// An encoder. Formula and source stand in its file.
pub trait Encoder {
    /// Width of its token vectors.
    fn width(&self) -> usize;
    /// Its parameters.
    fn specs(&self, extent: Extent, specs: &mut Specs);
    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens;
    /// Sizes that cannot be.
    fn check(&self) -> Result<()>;
}

/// The same call for whichever it is.
macro_rules! each {
    ($encoder:expr, $it:ident => $call:expr) => {
        match $encoder {
            Architecture::Nbow($it) => $call,
            Architecture::Conv1d($it) => $call,
            Architecture::Birnn($it) => $call,
            Architecture::Bert($it) => $call,
            Architecture::Albert($it) => $call,
            Architecture::ConvAttention($it) => $call,
        }
    };
}

impl Encoder for Architecture {
    fn width(&self) -> usize {
        each!(self, it => it.width())
    }

    fn specs(&self, extent: Extent, specs: &mut Specs) {
        each!(self, it => it.specs(extent, specs));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        each!(self, it => it.forward(math))
    }

    fn check(&self) -> Result<()> {
        each!(self, it => it.check())
    }
}

impl EncoderConfig {
    /// The sizes: as configured, or out of the user's `config.json`.
    pub fn architecture(&self) -> Result<Architecture> {
        let architecture = match self {
            Self::Nbow(nbow) => Architecture::Nbow(nbow.clone()),
            Self::Conv1d(conv1d) => Architecture::Conv1d(conv1d.clone()),
            Self::Birnn(birnn) => Architecture::Birnn(birnn.clone()),
            Self::Bert(bert) => Architecture::Bert(bert.clone()),
            Self::Albert(albert) => Architecture::Albert(albert.clone()),
            Self::ConvAttention(conv_attention) => Architecture::ConvAttention(conv_attention.clone()),
            Self::Pretrained(pretrained) => Architecture::Bert(pretrained.bert()?),
        };
        architecture.check()?;
        Ok(architecture)
    }
}

/// Refuses sizes of zero, and any above what can be meant.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    for (name, size) in sizes {
        ensure!((1..=65_536).contains(size), "encoder.{name} is {size}: it must be between 1 and 65536");
    }
    Ok(())
}

fn check_dropout(probability: f32) -> Result<()> {
    ensure!((0.0..1.0).contains(&probability), "encoder.dropout is a probability below 1, got {probability}");
    Ok(())
}

#[cfg(test)]
mod tests;
