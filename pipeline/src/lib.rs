//! Source code to tables: the stages `harvest -> ingest -> parse -> vocab -> tokenize`, one module per stage.
//!
//! Below the stages: [`records`] (CodeSearchNet records in any layout), [`functions`] (functions and their documentation in a source
//! file) and [`grammar`] (tree-sitter parsers). Above them: [`explore`] (a page about the corpus) and [`fidelity`] (comparison with the records of CodeSearchNet).

mod error;
pub mod explore;
pub mod fidelity;
mod files;
pub mod functions;
pub mod grammar;
pub mod harvest;
pub mod ingest;
pub mod parse;
pub mod records;
mod repositories;
pub mod tokenize;
pub mod vocab;

pub use error::{Error, Result};
pub use harvest::Harvest;
pub use ingest::Ingest;
pub use parse::Parse;
pub use tokenize::Tokenize;
pub use vocab::Vocab;
