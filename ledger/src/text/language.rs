//! The six languages and the three splits.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A programming language of CodeSearchNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Go,
    Java,
    Javascript,
    Php,
    Python,
    Ruby,
}

/// A part of the corpus. All rows of a repository are in one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Valid,
    Test,
}

/// The name of no language or split.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown {what} {name:?}, expected one of {expected}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    expected: &'static str,
}

impl Language {
    /// All languages, sorted.
    pub const ALL: [Language; 6] = [Self::Go, Self::Java, Self::Javascript, Self::Php, Self::Python, Self::Ruby];

    /// Name in configurations, paths and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Java => "java",
            Self::Javascript => "javascript",
            Self::Php => "php",
            Self::Python => "python",
            Self::Ruby => "ruby",
        }
    }

    /// The token before the code of this language: `<python>`.
    pub fn tag(self) -> String {
        format!("<{}>", self.name())
    }

    /// Is a code token a comment? Tokens of CodeSearchNet contain comments.
    pub fn is_comment(self, token: &str) -> bool {
        match self {
            Self::Python | Self::Ruby => token.starts_with('#'),
            // `#[` starts an attribute.
            Self::Php if token.starts_with('#') => !token.starts_with("#["),
            _ => token.starts_with("//") || token.starts_with("/*"),
        }
    }

    /// The language of a file extension, as in CodeSearchNet.
    pub fn of_extension(extension: &str) -> Option<Self> {
        Some(match extension {
            "go" => Self::Go,
            "java" => Self::Java,
            "js" | "mjs" | "cjs" | "jsx" => Self::Javascript,
            "php" => Self::Php,
            "py" => Self::Python,
            "rb" => Self::Ruby,
            _ => return None,
        })
    }
}

impl Split {
    /// All splits.
    pub const ALL: [Split; 3] = [Self::Train, Self::Valid, Self::Test];

    /// Name in configurations, paths and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|language| language.name() == name).ok_or_else(|| UnknownName {
            what: "language",
            name: name.to_owned(),
            expected: "go, java, javascript, php, python, ruby",
        })
    }
}

impl FromStr for Split {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|split| split.name() == name).ok_or_else(|| UnknownName {
            what: "split",
            name: name.to_owned(),
            expected: "train, valid, test",
        })
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_an_extension() {
        let languages: Vec<Language> = ["go", "java", "js", "php", "py", "rb"].into_iter().filter_map(Language::of_extension).collect();
        assert_eq!(languages, Language::ALL);
        assert_eq!(["mjs", "cjs", "jsx"].map(Language::of_extension), [Some(Language::Javascript); 3]);
        assert_eq!(Language::of_extension("ts"), None);
    }
}
