//! Section `parse` of the configuration.

use std::collections::BTreeMap;

use ledger::{Language, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tree::kinds;
use crate::{error::Result, grammar::Scope};

/// Section `parse`: how syntax trees become columns.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "ParseConfig")]
pub struct Config {
    /// Largest number of AST tokens of a function, with `<end>`.
    pub max_ast_tokens: usize,
    /// Largest number of words of a function's code.
    pub max_words: usize,
    /// Write `</id>` after the words of each identifier in the column `subtokens`.
    pub mark_subtoken_end: bool,
    /// Per language: text before and after a function that makes it parse as a whole file.
    #[schemars(with = "BTreeMap<String, (String, String)>")]
    pub added_nodes: BTreeMap<Language, (String, String)>,
    /// Per language: node types whose text is left out.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub skip_node_types: BTreeMap<Language, Vec<String>>,
}

impl Config {
    /// Checks that every node type exists: an unknown type would have no effect.
    pub fn check(&self) -> Result<()> {
        for (&language, types) in &self.skip_node_types {
            let known = [Scope::File, Scope::Function].map(|scope| kinds(language, scope));
            if let Some(unknown) = types.iter().find(|name| !known.iter().any(|kinds| kinds.knows(name))) {
                bail!(
                    "parse.skip-node-types.{language}: the grammar has no node type `{unknown}`: remove it, or use a node type of the \
                     grammar (PHP's tags are php_tag and php_end_tag)"
                );
            }
        }
        Ok(())
    }
}
