//! Writes the lexical index of a bundle.
//!
//! Equal inputs give equal bytes on any number of threads: tantivy names segments at random and orders documents by thread. Here every
//! segment is written by its own single-threaded writer over a fixed range of rows, then renamed after its content and listed in
//! `meta.json` in row order.

mod counts;
mod statistics;
mod stems;
mod write;

pub use counts::write as write_counts;
pub use statistics::{FieldStatistics, write as write_lengths};
pub use write::{SegmentWriter, assemble, open_checked, tantivy_document};

#[cfg(test)]
mod tests;
