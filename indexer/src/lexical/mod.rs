//! Writes the lexical index of a bundle.
//!
//! Equal inputs give equal bytes on any number of threads: tantivy names segments at random and orders documents by thread. Here every
//! segment is written by its own single-threaded writer over a fixed list of rows, then renamed after its content and listed in
//! `meta.json` in a fixed order. `document-rows.npy` says which row each document is.

mod counts;
mod statistics;
mod stems;
mod write;

pub use counts::write as write_counts;
pub use statistics::{FieldStatistics, write as write_lengths};
pub use write::{
    Segment, SegmentInfo, SegmentWriter, assemble, engine, files_of, open_checked, segments_of, tantivy_document, write_document_rows,
};

#[cfg(test)]
mod tests;
