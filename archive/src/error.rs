//! Errors of this crate.

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why saving, restoring, tracing or deleting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// Data, a setting or a state that is not what it must be.
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    /// An object of a remote that is missing, or whose bytes do not have the digest that it is stored under.
    #[error("{address} is {reason}: delete it there, then run `codenets save` again on the machine that saved the snapshot")]
    Damaged { address: String, reason: &'static str },
    /// The remote did not do what was requested. The message of `object_store` contains its causes, so there is no source.
    #[error("{0}")]
    ObjectStore(Box<object_store::Error>),
    /// The path of a URL cannot be a path at a remote.
    #[error(transparent)]
    ObjectPath(#[from] object_store::path::Error),
    /// The receiver of events was not reached.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// An address is not a URL.
    #[error(transparent)]
    Url(#[from] url::ParseError),
    /// JSON that cannot be read or written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A file system operation failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}
ledger::error_context!(Error);

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::ObjectStore(Box::new(error))
    }
}
