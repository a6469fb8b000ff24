//! Errors of this crate, and what the other libraries define theirs with.
//!
//! Each library has one `Error` (`thiserror`) and one `Result`. [`error_context!`](crate::error_context) gives it the methods
//! `context` and `with_context`, which add what was being done; [`ensure!`](crate::ensure) and [`bail!`](crate::bail) return an
//! [`Invalid`]. The message of an error is one line in lower case; the causes follow as its sources.

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Data, a setting or a state that is not what it must be; the message names it and ends with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

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
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($($message)+);
        }
    };
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
