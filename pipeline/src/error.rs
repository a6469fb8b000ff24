//! Errors of this crate.

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a function of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// Data, a setting or a state that is not what it must be.
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    /// A program that a source needs does not start.
    #[error("{program} does not start: {needed_for} needs it; install {program}, or remove the source from harvest.sources")]
    ProgramMissing { program: String, needed_for: String, source: std::io::Error },
    /// The parser reached its memory limit.
    #[error("tree-sitter stopped: the {0} text has too many readings")]
    TooManyReadings(ledger::Language),
    /// More lines were rejected than the configuration allows.
    #[error("{0}")]
    TooManyRejects(String),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Polars(#[from] polars::error::PolarsError),
    #[error(transparent)]
    Zip(#[from] zip::result::ZipError),
    #[error(transparent)]
    Walk(#[from] walkdir::Error),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error(transparent)]
    Tokenizer(#[from] ledger::BoxError),
    #[error(transparent)]
    Grammar(#[from] tree_sitter::LanguageError),
    #[error(transparent)]
    Template(#[from] askama::Error),
    #[error(transparent)]
    Number(#[from] std::num::TryFromIntError),
    #[error(transparent)]
    UnknownName(#[from] ledger::UnknownName),
}

ledger::error_context!(Error);
