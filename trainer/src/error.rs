//! Errors of this crate.

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a training, an export or an upload failed. The message is one line; causes are its sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when `source` happened.
    #[error("{what}")]
    Context { what: String, source: Box<Error> },
    /// A setting, a file or a state that is not what it must be.
    #[error(transparent)]
    Invalid(#[from] ledger::Invalid),
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// A value is out of its range.
    #[error(transparent)]
    OutOfRange(#[from] ledger::OutOfRange),
    /// A language is unknown.
    #[error(transparent)]
    Language(#[from] ledger::UnknownName),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A column of a Parquet file cannot be read.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// Weights cannot be read or written.
    #[error(transparent)]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error(transparent)]
    Tokenizer(#[from] tokenizers::Error),
    /// ONNX Runtime cannot load or run a graph.
    #[error(transparent)]
    Inference(#[from] inference::Error),
    /// A page cannot be rendered.
    #[error(transparent)]
    Template(#[from] askama::Error),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The MLflow server did not answer; it may answer later.
    #[error("{address} (MLFLOW_TRACKING_URI) cannot be reached: {cause}")]
    MlflowUnreachable { address: String, cause: String },
    /// The MLflow server answered a call with an error.
    #[error("{address} (MLFLOW_TRACKING_URI) answered {call} with {status} {code}: {text}{}", advice(*status))]
    MlflowRefused { address: String, call: String, status: u16, code: String, text: String },
}

ledger::error_context!(Error);

/// Why a build without CUDA does not train on a GPU.
pub(crate) const WITHOUT_CUDA: &str = "train.device = cuda, but this codenets was built without CUDA: build it with \
                                       `cargo install --path codenets --features cuda`, or set train.device = cpu";

/// How to fix an HTTP status.
fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        300..=399 => "; set MLFLOW_TRACKING_URI to the address that it redirects to",
        _ => "",
    }
}

impl Error {
    /// The error below all texts about what was being done.
    pub(crate) fn root(&self) -> &Self {
        match self {
            Self::Context { source, .. } => source.root(),
            error => error,
        }
    }

    /// Did an MLflow server not answer?
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self.root(), Self::MlflowUnreachable { .. })
    }

    /// Did an MLflow server answer with this error code?
    pub(crate) fn is_mlflow_code(&self, expected: &str) -> bool {
        matches!(self.root(), Self::MlflowRefused { code, .. } if code == expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_below_contexts() {
        let failed: Result<()> = Err(Error::MlflowUnreachable { address: "http://a".into(), cause: "refused".into() });
        let error = failed.context("sending a run").context("uploading").unwrap_err();
        assert!(error.is_unreachable());
        assert_eq!(ledger::chain(&error), "uploading: sending a run: http://a (MLFLOW_TRACKING_URI) cannot be reached: refused");
    }
}
