//! What is recorded, saved at one place and restored, traced from a score to the raw files, verified and cleaned.
//!
//! ```text
//! address -> an artifact          snapshot -> one typed record of it and all it came from
//! place   -> names with bytes     tree      -> a record at a place, by content
//! save, restore, reproduce        lineage, page, compare, outbox        gc
//! ```
//! Nothing here knows what a stage does: manifests tell all.

pub mod address;
pub mod compare;
pub mod gc;
pub mod lineage;
pub mod outbox;
pub mod page;
pub mod remote;
pub mod reproduce;
pub mod restore;
pub mod save;
pub mod snapshot;
pub mod tree;
