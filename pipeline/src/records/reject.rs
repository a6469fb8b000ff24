//! Why a line is not a record.

use serde::{Deserialize, Serialize};

/// Why a line, a row or a file is rejected. The message is the column `reason` of `rejects.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("unknown file type")]
    UnknownFileType,
    #[error("empty file")]
    EmptyFile,
    #[error("not gzip")]
    NotGzip,
    #[error("gzip under a plain name")]
    UnexpectedGzip,
    #[error("truncated or corrupt gzip")]
    CorruptGzip,
    #[error("truncated or corrupt zip")]
    CorruptZip,
    #[error("truncated or corrupt parquet")]
    CorruptParquet,
    /// What follows is not read.
    #[error("holds far more than its compressed size")]
    TooMuch,
    #[error("line too long")]
    LineTooLong,
    #[error("not utf-8")]
    NotUtf8,
    #[error("not json")]
    NotJson,
    #[error("lone surrogate")]
    LoneSurrogate,
    #[error("missing field {0}")]
    MissingField(&'static str),
    #[error("wrong type of {0}")]
    WrongType(&'static str),
    #[error("nul in {0}")]
    Nul(&'static str),
    #[error("unknown language")]
    UnknownLanguage,
    #[error("unknown partition")]
    UnknownPartition,
    #[error("empty code")]
    EmptyCode,
    #[error("repository in another split")]
    SplitLeak,
    /// The same function was read before.
    #[error("repeated")]
    Repeated,
}

impl Reject {
    /// Is it the reject of a gzip file, of which the rest is not read?
    pub fn is_of_file(&self) -> bool {
        matches!(self, Self::EmptyFile | Self::NotGzip | Self::CorruptGzip | Self::TooMuch)
    }
}

/// Number of rows per reason, for the report of a stage.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reasons(pub std::collections::BTreeMap<String, u64>);

impl Reasons {
    /// Adds one row.
    pub fn count(&mut self, reject: &Reject) {
        *self.0.entry(reject.to_string()).or_default() += 1;
    }
}
