//! Report of the stage.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use ledger::{Report, Rows, table};
use serde::{Deserialize, Serialize};

use crate::error::Result;

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
    /// Counts the rows of a batch with the columns that `parse` adds, but for `given_up` and `specials`.
    pub fn count(&mut self, added: &RecordBatch, max_ast_tokens: usize) -> Result<()> {
        let (nodes, depths) = (table::u32s(added, "nodes")?, table::u32s(added, "depth")?);
        let tokens = table::text_lists(added, "ast_tokens")?;
        self.rows += added.num_rows() as u64;
        self.with_errors += table::booleans(added, "parse_error")?.true_count() as u64;
        self.nodes += nodes.values().iter().map(|&nodes| u64::from(nodes)).sum::<u64>();
        self.max_depth = depths.values().iter().copied().fold(self.max_depth, u32::max);
        for row in 0..added.num_rows() {
            let written = tokens.len(row);
            self.ast_tokens += written as u64;
            self.truncated += u64::from(written >= max_ast_tokens);
        }
        Ok(())
    }

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
