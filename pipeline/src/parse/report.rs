//! Report of the stage.

use std::collections::BTreeSet;

use ledger::{Report, Rows};
use serde::{Deserialize, Serialize};

/// Statistics of the syntax trees.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ParseReport {
    pub rows: u64,
    /// Rows with syntax errors.
    pub with_errors: u64,
    /// Rows with errors whose text is too ambiguous to be parsed.
    pub given_up: u64,
    pub nodes: u64,
    pub max_depth: u32,
    pub ast_tokens: u64,
    /// Rows whose AST tokens were truncated.
    pub truncated: u64,
    /// Special tokens of the linearised trees.
    pub specials: BTreeSet<String>,
}

impl ParseReport {
    /// Adds the report of another shard.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.with_errors += other.with_errors;
        self.given_up += other.given_up;
        self.nodes += other.nodes;
        self.max_depth = self.max_depth.max(other.max_depth);
        self.ast_tokens += other.ast_tokens;
        self.truncated += other.truncated;
        self.specials.extend(other.specials);
    }
}

impl Report for ParseReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}
