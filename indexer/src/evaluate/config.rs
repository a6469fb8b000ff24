//! Section `evaluate` of the configuration.

use ledger::Split;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::judged::Judgments;

/// Section `evaluate`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Split whose documentation gives the queries: `valid` or `test`.
    pub split: Split,
    /// Functions in a batch of the protocol mrr@batch; CodeSearchNet's protocol has 1000.
    pub batch: usize,
    /// Largest number of queries, evenly spread over the split; null: all.
    pub max_queries: Option<usize>,
    /// Files of judged queries, whose answers are ranked among all functions of the bundle.
    pub judgments: Vec<Judgments>,
}
