//! `tokenize`: words to token ids, for the code, the query and the variants without the function's name.

mod config;
mod mask;
mod report;
mod stage;
mod words;

pub use config::Config;
pub use report::{TokenizeReport, VocabularyCoverage};
pub use stage::{Tokenize, load, tokenize_batch};
pub use words::{Encoded, Words};
