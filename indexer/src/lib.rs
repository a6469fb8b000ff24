//! Columns and an encoder to a published, searchable, evaluated bundle:
//! `embed -> index -> evaluate -> publish`, and `search`.
//!
//! `encoder` turns text into vectors; `lexical`, `vectors` and `fusion` are the three parts of a
//! hybrid search; `bundle` opens what `index` wrote and is all that a reader in Rust needs.

mod asked;
pub mod bench;
pub mod bundle;
pub mod embed;
pub mod encoder;
pub mod evaluate;
pub mod fusion;
mod index;
mod lexical;
mod measure;
pub mod predictions;
pub mod publish;
mod questions;
mod ranking;
pub mod retract;
mod snippet;
pub mod tour;
mod vectors;

pub use bundle::{Hit, Mode, OpenBundle, Query};
pub use embed::Embed;
pub use evaluate::Evaluate;
pub use index::Index;
