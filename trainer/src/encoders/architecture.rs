//! The encoder of a configuration, and the encoder with all its sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    albert::Albert,
    bert::Bert,
    birnn::Birnn,
    conv_attention::ConvAttention,
    conv1d::Conv1d,
    encoder::{Encoder, InputSize},
    nbow::Nbow,
    pretrained::Pretrained,
};
use crate::{
    error::Result,
    graph::{math::Math, parameters::Specs},
};

/// Section `encoder`: the kind of the encoder, and its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EncoderConfig {
    /// Neural bag of words: the embedding of each token.
    Nbow(Nbow),
    /// Convolutions with residuals.
    #[serde(rename = "conv1d")]
    Conv1d(Conv1d),
    /// Bidirectional LSTM.
    Birnn(Birnn),
    /// Transformer encoder.
    Bert(Bert),
    /// Transformer encoder with one layer's weights for all layers.
    Albert(Albert),
    /// Convolutions, then transformer layers.
    ConvAttention(ConvAttention),
    /// Weights of a BERT or RoBERTa, whose `config.json` gives the sizes.
    Pretrained(Pretrained),
}

/// An encoder with all its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Architecture {
    Nbow(Nbow),
    #[serde(rename = "conv1d")]
    Conv1d(Conv1d),
    Birnn(Birnn),
    Bert(Bert),
    Albert(Albert),
    ConvAttention(ConvAttention),
}

/// Evaluates the same expression for every kind of encoder.
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

    fn specs(&self, input: InputSize, specs: &mut Specs) {
        each!(self, it => it.specs(input, specs));
    }

    fn forward<M: Math>(&self, math: &mut M) -> M::Tokens {
        each!(self, it => it.forward(math))
    }

    fn check(&self) -> Result<()> {
        each!(self, it => it.check())
    }
}

impl EncoderConfig {
    /// The encoder with its sizes: the configured ones, or for `pretrained` those of its `config.json`.
    ///
    /// # Errors
    /// A size is out of range, or `config.json` cannot be read or is not supported.
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
