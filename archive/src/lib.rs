//! Saves recorded artifacts as snapshots at a remote, restores them, traces them, compares them and deletes unreferenced ones.
//!
//! ```text
//! address     a name that a user typed -> an artifact
//! snapshot    an artifact with its lineage, as one typed record
//! remote      a folder or a bucket: names with bytes
//! tree        a record at a remote: a list of files, bytes stored under their digests
//! save        snapshot -> tree            restore    tree -> data folder
//! reproduce   where a snapshot was made, compared with this machine
//! lineage     artifacts that an artifact was made from     page       the lineage as HTML and SVG
//! compare     two lineages, difference by difference
//! outbox      OpenLineage events -> a server or a file
//! gc          unreferenced artifacts
//! ```
//! The crate does not depend on what a stage does. It reads manifests, and it takes the list of artifact kinds from
//! [`Store::kinds`](ledger::Store::kinds). An artifact kind that a program registers is saved, restored, traced, compared and deleted
//! without a change here.

pub mod address;
pub mod compare;
mod error;
pub mod gc;
pub mod lineage;
pub mod outbox;
pub mod page;
mod readers;
pub mod remote;
pub mod reproduce;
pub mod restore;
pub mod save;
pub mod snapshot;
pub mod tree;

pub use error::{Error, Result};

#[cfg(test)]
mod tests;
