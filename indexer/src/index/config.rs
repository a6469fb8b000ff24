//! Section `index` of the configuration.

use std::collections::BTreeSet;

use bundle::{
    LexicalInfo,
    lexical::{Bm25, Boosts, LexicalSettings, tokenizer},
};
use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, fusion, vectors::Hnsw};

/// Section `index`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Functions in one segment of the lexical index; segments are built in parallel.
    pub segment_rows: u64,
    /// Buffer of each segment's writer, in megabytes.
    pub writer_megabytes: usize,
    /// Weight of the BM25 score of each text field; 0 leaves a field out.
    pub boosts: Boosts,
    /// Parameters of BM25.
    pub bm25: Bm25,
    /// Do words of one stem match each other (`parsing` and `parsed`)?
    pub stemming: bool,
    /// Stop words: ignored when scoring, unless a query has only stop words. Phrases still match them.
    pub stop_words: BTreeSet<String>,
    /// Approximate nearest neighbours.
    pub hnsw: Hnsw,
    /// How the lexical and the vector list become one list.
    pub fusion: fusion::Config,
    /// Best functions of each list that are fused.
    pub candidates: usize,
}

impl Config {
    /// Checks that the numbers are in range, but those of the fusion.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.segment_rows > 0 && self.candidates > 0, "index.segment-rows and index.candidates must be positive");
        let Bm25 { k1, b } = self.bm25;
        ensure!(k1.is_finite() && k1 >= 0.0, "index.bm25.k1 is {k1}: it must be 0 or more");
        ensure!((0.0..=1.0).contains(&b), "index.bm25.b is {b}: it must be 0 to 1");
        self.hnsw.check()
    }

    /// How the lexical index is searched.
    pub(super) fn settings(&self) -> LexicalSettings {
        LexicalSettings { bm25: self.bm25, boosts: self.boosts, stop_words: self.stop_words.clone() }
    }

    /// The lexical index in the manifest of a bundle.
    pub(super) fn lexical_info(&self, segments: u64) -> LexicalInfo {
        LexicalInfo {
            engine: format!("tantivy {}", tantivy::version_string()),
            tokenizer: tokenizer(self.stemming).to_owned(),
            k1: self.bm25.k1,
            b: self.bm25.b,
            boosts: self.boosts,
            stop_words: self.stop_words.clone(),
            segments,
        }
    }
}
