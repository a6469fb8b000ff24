//! Raw text to typed columns: `harvest -> ingest -> parse -> vocab -> tokenize`, one module a stage.

pub mod explore;
pub mod fidelity;
pub mod grammar;
pub mod harvest;
pub mod ingest;
pub mod parse;
pub mod tokenize;
pub mod vocab;

pub use harvest::Harvest;
pub use ingest::Ingest;
pub use parse::Parse;
pub use tokenize::Tokenize;
pub use vocab::Vocab;
