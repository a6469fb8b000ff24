//! `parse`: the syntax tree of every function, by tree-sitter. Adds columns with AST tokens, identifiers, words and features.
//!
//! ```text
//! functions -> tree-sitter -> Flat tree -> linearise (AST tokens), features (calls, parameters, …) -> syntax columns
//! ```

mod columns;
mod config;
mod features;
mod known;
mod linearise;
mod report;
mod roles;
mod stage;
mod tree;

pub use columns::{parse_batch, source_of};
pub use config::Config;
pub use features::{Features, features, structure};
pub use linearise::{Specials, linearise};
pub use report::ParseReport;
pub use roles::Parts;
pub use stage::Parse;
pub use tree::{Flat, KindSet, Kinds, kinds};
