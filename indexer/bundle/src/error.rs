//! Errors of this crate.

use std::{ops::RangeInclusive, path::PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can fail when a bundle is opened and searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// The folder has no readable `manifest.json`.
    #[error("{} is not a bundle: its manifest.json cannot be read", dir.display())]
    NotABundle { dir: PathBuf, source: std::io::Error },
    /// The bundle has a format that this version does not read.
    #[error(
        "{} has bundle format {found}, this version reads {} to {}: build the bundle again with `codenets run`, or use the version that wrote it",
        file.display(), read.start(), read.end()
    )]
    UnknownFormat { file: PathBuf, found: u64, read: RangeInclusive<u32> },
    /// A file is not what the manifest or `CHECKSUMS` says.
    #[error("{} is damaged: {why}", file.display())]
    Damaged { file: PathBuf, why: String },
    /// The path filter of a query is not a glob.
    #[error("{glob:?} is not a valid path glob")]
    Glob { glob: String, source: globset::Error },
    /// The query has too many bytes.
    #[error("the query has {bytes} bytes, the limit is {limit}: shorten it")]
    QueryTooLong { bytes: usize, limit: usize },
    /// The query took too long.
    #[error("the query took longer than its time limit of {limit:?}: use fewer or longer prefixes and phrases, or raise the time limit")]
    TimeLimit { limit: std::time::Duration },
    /// ONNX Runtime or the encoder failed.
    #[error(transparent)]
    Runtime(#[from] inference::Error),
    /// The lexical index failed.
    #[error("lexical index: {0}")]
    Lexical(#[from] tantivy::TantivyError),
    #[error("vector index: {0}")]
    Vectors(String),
    /// A vector of the bundle or of the query has NaN or infinity.
    #[error(
        "the vector of row {row}, or that of the query, has a number that is not finite: run `codenets verify`, and train the encoder again where the bundle is intact"
    )]
    NotANumber { row: u32 },
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A number is larger than this machine or the format can address.
    #[error(transparent)]
    Number(#[from] std::num::TryFromIntError),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

ledger::error_context!(Error);

impl Error {
    /// [`Error::Damaged`] of a file.
    pub(crate) fn damaged(file: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        Self::Damaged { file: file.into(), why: why.to_string() }
    }
}
