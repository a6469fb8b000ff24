//! Section `train.teacher`.

use std::path::PathBuf;

use ledger::{Digest, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder::TeacherEncoder;
use crate::error::Result;

/// Section `teacher`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TeacherConfig {
    /// Folder with `encoder.onnx`, `tokenizer.json` and `encoder.json`, as stage `export` writes it.
    pub encoder: PathBuf,
    /// What is compared.
    pub between: Between,
    /// Maximum number of tokens of a text, 1 to 8192.
    pub tokens: usize,
    /// Similarities up to this value become 0, larger ones are scaled to 0 to 1. The loss `distillation` uses the cosines without scaling.
    pub floor: f32,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// Query i with query j.
    Queries,
    /// Query i with code j.
    QueryAndCode,
}

impl TeacherConfig {
    /// Checks the settings.
    pub fn check(&self) -> Result<()> {
        ensure!((1..=8192).contains(&self.tokens), "tokens is {}: it must be between 1 and 8192", self.tokens);
        ensure!((0.0..1.0).contains(&self.floor), "floor is {}: it must be at least 0 and below 1", self.floor);
        Ok(())
    }

    /// Digests of the files that are read.
    pub fn files(&self) -> Result<Vec<(String, Digest)>> {
        TeacherEncoder::files(&self.encoder, "teacher")
    }
}
