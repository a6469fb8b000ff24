//! A line or a row of a document, before it is checked.

use super::{record::Record, reject::Reject};

/// Bytes of a rejected line that are recorded.
pub const HEAD_BYTES: usize = 200;

/// A line or a row, and its position in the document.
#[derive(Debug)]
pub struct Item {
    /// Number of the line or row, from 1.
    pub number: u64,
    /// Byte offset in the unpacked text.
    pub offset: u64,
    pub content: Content,
}

/// Content of an [`Item`].
#[derive(Debug)]
pub enum Content {
    Line(Vec<u8>),
    Row(Box<Record>),
    /// With the first bytes of the line.
    Rejected(Reject, Vec<u8>),
}
