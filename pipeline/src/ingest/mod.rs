//! `ingest`: CodeSearchNet records in any layout as validated, sharded Parquet, with near-duplicates and aliases marked. Every line that is
//! not written becomes a row of `rejects.parquet` with the reason.
//!
//! ```text
//! records::read_documents -> check (parallel) -> TableSink (in order) -> functions, sketches, rejects
//! sketches of unchanged shards (kept)          -> TableSink (compare)
//! ```

mod bag;
mod buckets;
mod codebase;
mod config;
mod kept;
mod lines;
mod members;
mod near_duplicates;
mod recall;
mod report;
mod row_id;
mod sink;
mod sketches;
mod stage;
mod survey;
mod tables;

#[cfg(test)]
mod incremental_tests;

pub use crate::records::{Hints, Record, each_record, parse as record_from_json};
pub use config::{Config, SplitLeaks};
pub use near_duplicates::Thresholds;
pub use recall::Recall;
pub use report::IngestReport;
pub use stage::Ingest;
