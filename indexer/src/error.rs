//! Errors of this crate.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can fail when a bundle is built, evaluated and published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// The bundle did not pass a gate: the published bundle stays as it is.
    #[error("not published: {0}")]
    NotPublished(String),
    /// A setting, an input or a state is not what it must be.
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error(transparent)]
    Inference(#[from] inference::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Polars(#[from] polars::error::PolarsError),
    #[error(transparent)]
    Walk(#[from] walkdir::Error),
    #[error(transparent)]
    Csv(#[from] csv::Error),
    #[error("lexical index: {0}")]
    Lexical(#[from] tantivy::TantivyError),
    #[error("vector index: {0}")]
    Vectors(String),
    #[error(transparent)]
    Page(#[from] askama::Error),
    /// A text that is not an integer.
    #[error(transparent)]
    ParseInt(#[from] std::num::ParseIntError),
    /// A text that is not a number.
    #[error(transparent)]
    ParseFloat(#[from] std::num::ParseFloatError),
    /// A number is larger than this machine or the format can address.
    #[error(transparent)]
    Number(#[from] std::num::TryFromIntError),
}

ledger::error_context!(Error);
