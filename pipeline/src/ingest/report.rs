//! Report of the stage.

use std::collections::BTreeMap;

use ledger::{Report, Rows};
use serde::{Deserialize, Serialize};

use crate::records::Reasons;

/// Number of lines and rows, and the reasons for rejected lines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IngestReport {
    pub files: u64,
    pub lines: u64,
    pub written: u64,
    pub rejected: u64,
    /// Lines with a function that an earlier line has: same repository, path, lines, URL and code.
    pub repeated: u64,
    /// Written rows that are equal or nearly equal to an earlier row. Training and evaluation leave them out.
    pub duplicates: u64,
    /// Written rows with the code tokens and the documentation of an earlier row. Search shows them with that row.
    pub aliases: u64,
    /// Written rows whose tokens or documentation were derived, because their record has none.
    #[serde(default)]
    pub derived: u64,
    /// Queries of GraphCodeBERT's files, which have no code: joined with their code in `codebase.jsonl`.
    pub joined: u64,
    /// Duplicates of a row in another split, as `<split of the duplicate>_of_<split of the earlier row>`. Each would have
    /// leaked into the evaluation.
    pub cross_split_duplicates: BTreeMap<String, u64>,
    pub repos: u64,
    pub reasons: Reasons,
    /// Rows by `<language>_<split>`.
    pub rows: BTreeMap<String, u64>,
    /// Rows with documentation, by `<language>_<split>`.
    pub documented: BTreeMap<String, u64>,
}

impl IngestReport {
    /// Every reason with its number of lines, in one line of text.
    pub fn reasons_text(&self) -> String {
        self.reasons.0.iter().map(|(reason, count)| format!("{reason}: {count}")).collect::<Vec<_>>().join(", ")
    }
}

impl Report for IngestReport {
    fn rows(&self) -> Rows {
        Rows { read: self.lines, written: self.written, rejected: self.rejected + self.repeated + self.joined }
    }

    fn left_out(&self) -> BTreeMap<String, u64> {
        self.reasons.0.clone()
    }
}
