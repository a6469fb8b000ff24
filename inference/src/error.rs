//! Errors of this crate.

use std::path::PathBuf;

use crate::Provider;

/// Environment variable that names the library where a program names none.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can fail when an encoder is loaded and run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// A graph was opened before the library was loaded.
    #[error("ONNX Runtime is not loaded: run `codenets setup`, or set {LIBRARY_VARIABLE} to a libonnxruntime.so (1.24 or newer)")]
    NotLoaded,
    /// No library is installed.
    #[error("ONNX Runtime is not installed: run `codenets setup`, or set {LIBRARY_VARIABLE} to a libonnxruntime.so (1.24 or newer)")]
    NotInstalled,
    /// The environment variable names no file.
    #[error("{LIBRARY_VARIABLE} names {}, which is not a file: correct it, or unset it and run `codenets setup`", .0.display())]
    NoSuchLibrary(PathBuf),
    /// A file that `codenets setup` installed has other bytes now.
    #[error("{} does not have the pinned bytes: delete its folder and run `codenets setup`", file.display())]
    OtherBytes { file: PathBuf },
    /// The library cannot be loaded.
    #[error("loading {}: {message}", library.display())]
    Load { library: PathBuf, message: String },
    /// Another library is loaded already; a process has one.
    #[error("{} cannot be loaded: this process already uses {}; use one ONNX Runtime a process", requested.display(), loaded.display())]
    OtherLibrary { loaded: PathBuf, requested: PathBuf },
    /// The library or this machine lacks an execution provider.
    #[error(
        "provider {provider} is not available in this ONNX Runtime ({message}): run `codenets setup --gpu`, or set provider = cpu",
        provider = provider.key()
    )]
    ProviderMissing { provider: Provider, message: String },
    /// ONNX Runtime refused a graph or a call.
    #[error("onnxruntime: {0}")]
    Runtime(String),
    /// A graph gave NaN or infinity.
    #[error("the encoder gave NaN or infinity for text {row} of a batch: train or export the encoder again")]
    NotANumber { row: usize },
    /// A graph may run without end.
    #[error("{} has the operator {operator}, which may never end: export the encoder without loops", graph.display())]
    Unbounded { graph: PathBuf, operator: &'static str },
    /// A graph lacks the output that `encoder.json` names.
    #[error("the graph has no output `{output}`: set graph.output in encoder.json to the name of the output")]
    NoOutput { output: String },
    /// An encoder with one graph for each language lacks this graph.
    #[error("there is no graph {graph}: the encoder was not trained on this language")]
    NoGraph { graph: String },
    /// The tokenizer lacks a token that `encoder.json` names.
    #[error("the tokenizer has no token {token}: correct encoder.json or tokenizer.json")]
    NoToken { token: String },
    /// `tokenizer.json` cannot be read, or a text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

ledger::error_context!(Error);

impl Error {
    /// Of an error of ONNX Runtime, which may carry the object that failed.
    pub(crate) fn runtime<R>(error: ort::Error<R>) -> Self {
        Self::Runtime(error.to_string())
    }

    pub(crate) fn tokenizer(error: tokenizers::Error) -> Self {
        Self::Tokenizer(error.to_string())
    }
}
