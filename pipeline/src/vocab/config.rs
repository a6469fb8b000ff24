//! Section `vocab` of the configuration.

use std::path::PathBuf;

use ledger::CodeText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `vocab`: how the vocabulary is trained.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "VocabConfig")]
pub struct Config {
    /// Number of tokens, with the special tokens.
    pub size: usize,
    /// Smallest frequency of a pair that is merged.
    pub min_frequency: u64,
    /// What the merges start from.
    pub model: Model,
    /// Convert the text to lower case.
    pub lowercase: bool,
    /// Remove accents: `é` becomes `e`.
    pub strip_accents: bool,
    /// Text of a function that is encoded by `tokenize` and `embed`. Its special tokens are added.
    #[schemars(with = "String")]
    pub code_text: CodeText,
    /// Text of a function that the merges are trained on.
    #[schemars(with = "String")]
    pub learn_from: CodeText,
    /// Largest amount of training text, in megabytes. Rows are taken evenly from the shards.
    pub max_megabytes: usize,
    /// A `tokenizer.json` that is copied instead of training one: of pretrained weights, or of a recorded checkpoint.
    pub from: Option<PathBuf>,
}

/// What the merges start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// The 256 bytes: no text is unknown (Radford, "Language models are unsupervised multitask learners", 2019).
    ByteLevel,
    /// The thousand most frequent characters, with `</w>` after the last character of a word; other characters are `<unk>`.
    /// This is the predecessor's model, with its NFKC.
    CharLevel,
}
