//! Names of scores in `scores.json`: `<split>_<protocol>_<language>_<system>`.

use std::{fmt, str::FromStr};

/// All languages together.
pub const ALL_LANGUAGES: &str = "all";
/// Protocol: mean reciprocal rank among all functions of the split or bundle.
pub const MRR_AT_CORPUS: &str = "mrr@corpus";

/// What a score measures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScoreKey {
    /// Split whose queries were searched: `valid` or `test`.
    pub split: String,
    /// Protocol: `mrr@corpus`, `mrr@1000`, `recall@10`.
    pub protocol: String,
    /// Language, [`ALL_LANGUAGES`], or the name of a set of judged queries.
    pub language: String,
    /// System: `bm25`, `vector` or `hybrid`.
    pub system: String,
}

/// The text is not a score key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a score key: expected <split>_<protocol>_<language>_<system>")]
pub struct NotAScoreKey(String);

impl ScoreKey {
    /// A key of its four parts.
    pub fn new(split: impl Into<String>, protocol: impl Into<String>, language: impl Into<String>, system: impl Into<String>) -> Self {
        Self { split: split.into(), protocol: protocol.into(), language: language.into(), system: system.into() }
    }
}

impl fmt::Display for ScoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}_{}", self.split, self.protocol, self.language, self.system)
    }
}

impl FromStr for ScoreKey {
    type Err = NotAScoreKey;

    /// Split and protocol have no `_`, the system has none; the name of a judged set may.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (split, rest) = text.split_once('_')?;
            let (protocol, rest) = rest.split_once('_')?;
            let (language, system) = rest.rsplit_once('_')?;
            [split, protocol, language, system].iter().all(|part| !part.is_empty()).then(|| Self::new(split, protocol, language, system))
        };
        parts().ok_or_else(|| NotAScoreKey(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_written() {
        for text in ["test_mrr@corpus_all_hybrid", "valid_mrr@in-batch(320)_python_bm25", "test_mrr@corpus_my_judged_set_vector"] {
            assert_eq!(text.parse::<ScoreKey>().unwrap().to_string(), text);
        }
        assert!("mrr@corpus_hybrid".parse::<ScoreKey>().is_err());
    }
}
