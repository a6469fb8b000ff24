//! `vocab`: a BPE vocabulary (Sennrich, "Neural machine translation of rare words with subword units", 2016) in one
//! `tokenizer.json`.
//!
//! It is trained on the code and documentation of the training split. Special tokens: `<pad>`, `<unk>`, `<qy>` (a query
//! follows), `<lg>` (code follows), one tag per language; `</id>` where subtokens are encoded, and the tokens of the
//! linearised trees where these are encoded.

mod config;
mod stage;
mod train;

pub use config::{Config, Model};
pub use stage::{SPECIALS, Vocab, VocabReport};
