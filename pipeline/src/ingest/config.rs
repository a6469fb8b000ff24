//! Section `ingest` of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::near_duplicates::Thresholds;

/// Section `ingest`: how records are checked, de-duplicated and sharded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "IngestConfig")]
pub struct Config {
    /// Number of shards per split. A later run only processes shards whose rows changed.
    pub shards: usize,
    /// Number of shards that the rows of one repository are in, where its split has more. Null: all shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_of_repository: Option<usize>,
    /// Longest line of a raw file, in bytes. Longer lines are rejected.
    pub max_line_bytes: usize,
    /// Largest share of rejected lines, from 0 to 1. A run that rejects more fails and reports the reasons.
    pub max_reject_fraction: f64,
    /// What is done with a repository that is in two splits.
    pub split_leaks: SplitLeaks,
    /// Thresholds from which two functions are duplicates. Null: duplicates are not removed, so that a benchmark keeps all
    /// its candidates.
    pub duplicates: Option<Thresholds>,
}

/// What is done with a repository that is in two splits: its code would leak into the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitLeaks {
    /// Fail and report the number of such repositories.
    Refuse,
    /// Keep the rows of the split in which the repository is read first; reject the rows of other splits.
    Drop,
    /// Keep all rows.
    Keep,
}
