//! Report of the stage.

use std::collections::BTreeMap;

use ledger::{Report, Rows};
use serde::{Deserialize, Serialize};

/// What was read, and why the rest was left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HarvestReport {
    pub repos: u64,
    /// Source files that were read, in every supported language.
    pub files: u64,
    pub functions_seen: u64,
    /// Functions that were written.
    pub functions: u64,
    pub documented: u64,
    pub by_language: BTreeMap<String, u64>,
    pub by_split: BTreeMap<String, u64>,
    /// Number of files and functions that were left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Files that were copied as they are. Stage `ingest` counts their rows.
    pub csn_files: u64,
}

impl HarvestReport {
    /// Counts what was left out for a reason.
    pub fn skip(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason.to_owned()).or_default() += count;
        }
    }
}

impl Report for HarvestReport {
    fn rows(&self) -> Rows {
        Rows {
            read: self.functions_seen + self.csn_files,
            written: self.functions + self.csn_files,
            rejected: self.functions_seen - self.functions,
        }
    }

    fn left_out(&self) -> BTreeMap<String, u64> {
        self.skipped.clone()
    }
}
