//! Errors of this crate, and the macros that the other libraries define their errors with.
//!
//! Each library has one `Error` (`thiserror`) and one `Result`. [`error_context!`](crate::error_context) gives it the methods
//! `context` and `with_context`, which add what was being done; [`ensure!`](crate::ensure) and [`bail!`](crate::bail) return an
//! [`Invalid`]. The message of an error is one line in lower case; its causes follow as its sources, and [`chain`] joins them.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Data, a setting or a state that is not what it must be; the message names it and ends with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a function of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// The system could not do something (`action`: "reading") with a file or a folder.
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The system failed where no file is known.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Data, a setting or a state that is not what it must be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No artifact of this kind is recorded in the data folder.
    #[error("no {kind} recorded in {} yet: run `codenets run`", data.display())]
    NotRecorded { kind: String, data: PathBuf },
    /// The artifact was restored without its files.
    #[error(
        "the files of {kind} {key} are not available locally: run `codenets restore --from {from} --with {kind}`, and where they were not \
         saved, `codenets save --to {from} --with {kind}` first"
    )]
    FilesNotAvailable { kind: String, key: String, from: String },
    /// A file that this crate wrote has other bytes now.
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    /// A configuration file that cannot be read as the sections that the stages expect.
    #[error("{}: {why}", file.display())]
    Config { file: PathBuf, why: String },
    /// What a stage read outside the store is not what its key says.
    #[error("{input} changed while it was read: run the command again when nothing writes there")]
    InputChanged { input: String },
    /// Another process makes a run in the data folder.
    #[error("{owner} has the data folder {}: run the command again when it has ended", data.display())]
    InUse { owner: String, data: PathBuf },
    /// A stage failed.
    #[error("stage {name}")]
    Stage { name: String, source: BoxError },
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// The configuration file is not HOCON, or a substitution has no value.
    #[error(transparent)]
    Hocon(#[from] hocon::HoconError),
    /// An error of another library: from a [`Stage`](crate::Stage) or a [`Recordable`](crate::Recordable) that is defined there.
    #[error(transparent)]
    Other(BoxError),
}

impl Error {
    /// An error of another library. An [`Error`] of this crate stays what it is.
    pub fn other(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(other) => Self::Other(other),
        }
    }

    /// A failed action (`"reading"`) on a file or a folder.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Is the cause a file or a folder that does not exist?
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Context { source, .. } => source.is_not_found(),
            Self::Io { source, .. } | Self::System(source) => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// The message of an error and of its causes, joined by `: `.
///
/// ```
/// let cause = std::io::Error::other("disk full");
/// let error = ledger::Error::io("writing", std::path::Path::new("data/CURRENT"))(cause);
/// assert_eq!(ledger::chain(&error), "writing data/CURRENT: disk full");
/// ```
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// Returns an [`Invalid`](crate::Invalid) error with a formatted message.
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::core::result::Result::Err(::core::convert::From::from($crate::Invalid(::std::format!($($message)+))))
    };
}

/// Returns an [`Invalid`](crate::Invalid) error with a formatted message unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {{
        let is_met: bool = $condition;
        if !is_met {
            $crate::bail!($($message)+);
        }
    }};
}

/// Defines the trait `Context` for an error type that has the variants `Context { what: String, source: Box<Error> }` and
/// `Invalid(ledger::Invalid)`.
#[macro_export]
macro_rules! error_context {
    ($error:ident) => {
        /// Adds to an error what was being done: the file, the line or the key.
        pub(crate) trait Context<T> {
            /// Adds a fixed text.
            fn context(self, what: impl ::core::convert::Into<::std::string::String>) -> ::core::result::Result<T, $error>;
            /// Adds a text that is only made when there is an error.
            fn with_context<W: ::core::convert::Into<::std::string::String>>(
                self,
                what: impl ::core::ops::FnOnce() -> W,
            ) -> ::core::result::Result<T, $error>;
        }

        impl<T, E: ::core::convert::Into<$error>> Context<T> for ::core::result::Result<T, E> {
            fn context(self, what: impl ::core::convert::Into<::std::string::String>) -> ::core::result::Result<T, $error> {
                self.with_context(|| what)
            }

            fn with_context<W: ::core::convert::Into<::std::string::String>>(
                self,
                what: impl ::core::ops::FnOnce() -> W,
            ) -> ::core::result::Result<T, $error> {
                self.map_err(|error| $error::Context { what: what().into(), source: ::std::boxed::Box::new(error.into()) })
            }
        }

        impl<T> Context<T> for ::core::option::Option<T> {
            fn context(self, what: impl ::core::convert::Into<::std::string::String>) -> ::core::result::Result<T, $error> {
                self.with_context(|| what)
            }

            fn with_context<W: ::core::convert::Into<::std::string::String>>(
                self,
                what: impl ::core::ops::FnOnce() -> W,
            ) -> ::core::result::Result<T, $error> {
                self.ok_or_else(|| $error::Invalid($crate::Invalid(what().into())))
            }
        }
    };
}

error_context!(Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_this_crate_stays_what_it_is_when_another_library_passes_it_on() {
        let missing = || Error::NotRecorded { kind: "syntax".to_owned(), data: "data".into() };
        assert!(matches!(Error::other(missing()), Error::NotRecorded { .. }));
        assert!(matches!(Error::other(BoxError::from(missing())), Error::NotRecorded { .. }));
        assert!(matches!(Error::other("text"), Error::Other(_)));
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let inner: Result<()> = Err(Error::other(Error::io("reading", Path::new("a.json"))(io::Error::other("no"))));
        let error = Error::Stage { name: "parse".to_owned(), source: Box::new(inner.context("shard train/0000.parquet").unwrap_err()) };
        assert_eq!(chain(&error), "stage parse: shard train/0000.parquet: reading a.json: no");
    }

    #[test]
    fn a_missing_file_is_found_below_its_context() {
        let io = |kind: io::ErrorKind| Error::io("reading", Path::new("a"))(io::Error::from(kind));
        let missing = Error::Context { what: "opening".to_owned(), source: Box::new(io(io::ErrorKind::NotFound)) };
        assert!(missing.is_not_found() && Error::System(io::Error::from(io::ErrorKind::NotFound)).is_not_found());
        assert!(!io(io::ErrorKind::PermissionDenied).is_not_found() && !Error::from(Invalid("a".to_owned())).is_not_found());
    }
}
