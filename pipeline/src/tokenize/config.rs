//! Section `tokenize` of the configuration.

use ledger::CodeText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `tokenize`: which text of a function is encoded, and how long it may be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "TokenizeConfig")]
pub struct Config {
    /// Text of a function that is encoded.
    #[schemars(with = "String")]
    pub code_text: CodeText,
    /// Largest number of ids of a code. The prefix that training adds is not included.
    pub code_tokens: usize,
    /// Largest number of ids of a query.
    pub query_tokens: usize,
    /// Shortest function name that gives a variant with the name as the query, in characters. A row with a shorter name has
    /// no such variant.
    pub min_name_chars: usize,
}
