//! Report of the stage.

use std::collections::BTreeMap;

use ledger::{Language, Report, Rows, TokenCount};
use serde::{Deserialize, Serialize};

/// Number of tokens after truncation, and number of truncated rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TokenizeReport {
    pub rows: u64,
    pub code_tokens: TokenCount,
    pub query_tokens: TokenCount,
    pub code_truncated: u64,
    pub with_query: u64,
    pub languages: BTreeMap<Language, VocabularyCoverage>,
}

/// How well the vocabulary covers the code of a language.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct VocabularyCoverage {
    pub rows: u64,
    /// Words that were encoded.
    pub words: u64,
    /// Ids of these words. Ids per word are the fertility (Ács, "Exploring BERT's vocabulary", 2019).
    pub ids: u64,
    /// Ids of unknown words.
    pub unknown: u64,
    /// Rows that were truncated.
    pub truncated: u64,
}

impl VocabularyCoverage {
    /// Adds the numbers of other rows.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.words += other.words;
        self.ids += other.ids;
        self.unknown += other.unknown;
        self.truncated += other.truncated;
    }
}

impl TokenizeReport {
    /// Adds the report of another shard.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.code_tokens.0 += other.code_tokens.0;
        self.query_tokens.0 += other.query_tokens.0;
        self.code_truncated += other.code_truncated;
        self.with_query += other.with_query;
        other.languages.into_iter().for_each(|(language, coverage)| self.languages.entry(language).or_default().add(coverage));
    }
}

impl Report for TokenizeReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}
