//! Section `index` of the configuration.

use std::collections::BTreeSet;

use bundle::{
    LexicalInfo,
    diversity::Diversity,
    lexical::{TEXT_FIELDS, tokenizer},
};
use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::bm25f;
use crate::{
    Result,
    error::Context,
    fusion,
    lexical::{self, FieldStatistics},
    reranking,
    vectors::Hnsw,
};

/// Section `index`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Key of the recorded bundle whose segments are kept where their functions did not change. A night sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub earlier: Option<String>,
    /// Functions in one segment of the lexical index; segments are built in parallel.
    pub segment_rows: u64,
    /// Buffer of each segment's writer, in megabytes.
    pub writer_megabytes: usize,
    /// Parameters of the lexical score.
    pub bm25f: bm25f::Config,
    /// Parameters of bundle format 4.
    #[serde(default, skip_serializing)]
    #[schemars(skip)]
    pub boosts: Option<Replaced>,
    /// Parameters of bundle format 4.
    #[serde(default, skip_serializing)]
    #[schemars(skip)]
    pub bm25: Option<Replaced>,
    /// Do words of one stem match each other (`parsing` and `parsed`)?
    pub stemming: bool,
    /// Stop words: ignored when scoring, unless a query has only stop words. Phrases still match them.
    pub stop_words: BTreeSet<String>,
    /// Approximate nearest neighbours.
    pub hnsw: Hnsw,
    /// How the lexical and the vector list become one list.
    pub fusion: fusion::Config,
    /// How the fused candidates are ranked again.
    pub reranking: reranking::Config,
    /// How results of hybrid search are diversified.
    pub diversity: Diversity,
    /// Best functions of each list that are fused.
    pub candidates: usize,
}

/// A key of earlier versions: every value is an error that shows the new lines.
#[derive(Debug, Clone, Copy)]
pub struct Replaced;

impl<'de> Deserialize<'de> for Replaced {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(D::Error::custom(
            "`index.boosts` and `index.bm25` belong to bundle format 4: replace them by \
             `index.bm25f { k1 = 1.5, fields { name { weight = 4.0, b = 0.5 } } }` (conf/base.conf has every field), or delete them",
        ))
    }
}

impl Config {
    /// Checks that the numbers are in range, but those of the fusion.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.segment_rows > 0 && self.candidates > 0, "index.segment-rows and index.candidates must be positive");
        self.bm25f.check()?;
        self.diversity.check().context("index")?;
        self.hnsw.check()
    }

    /// The lexical index in the manifest of a bundle.
    pub(super) fn lexical_info(&self, segments: u64, documents: u64, statistics: &[FieldStatistics; TEXT_FIELDS.len()]) -> LexicalInfo {
        LexicalInfo {
            engine: lexical::engine(),
            tokenizer: tokenizer(self.stemming).to_owned(),
            scoring: self.bm25f.scoring(statistics),
            stop_words: self.stop_words.clone(),
            segments,
            documents: Some(documents),
            counts: None,
        }
    }
}
