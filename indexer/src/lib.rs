//! From columns and an encoder to a published, searchable, evaluated bundle: the stages `embed -> index -> evaluate -> publish`.
//!
//! ```text
//! embed          functions to vectors
//! index          columns and vectors to a bundle: lexical index, vectors, HNSW graphs, fusion, reranking
//! evaluate       scores of lexical, vector and hybrid search; its page; comparisons; the CodeSearchNet challenge
//! publish        gates, and the atomic change of the published bundle; rollback, prune, verify
//! retract        deletes functions from published bundles
//! bundle_diff    functions that two bundles do not share
//! predictions    answers of a published bundle as the challenge's CSV
//! ```
//!
//! The crate `bundle` reads what this crate writes.

pub mod bundle_diff;
pub mod embed;
mod error;
pub mod evaluate;
pub mod fusion;
pub mod index;
mod lbfgs;
pub mod lexical;
mod npy;
pub mod predictions;
pub mod publish;
pub mod reranking;
pub mod retract;
mod split_queries;
mod tombstones;
pub mod vectors;

pub use embed::Embed;
pub use error::{Error, Result};
pub use evaluate::Evaluate;
pub use index::Index;
pub use publish::Publish;
