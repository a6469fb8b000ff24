//! Language and split from the path of a file.

use ledger::{Language, Split};

/// Language and split that the path of a file names. CodeXGLUE's lines name neither, but their files are called
/// `python/valid.jsonl`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    pub language: Option<Language>,
    pub split: Option<Split>,
}

impl Hints {
    /// Searches the words of a path; the last known word counts. GraphCodeBERT's `codebase.jsonl` holds the candidates of
    /// its evaluation, so its rows belong to the test split.
    pub fn of(path: &str) -> Self {
        let mut hints = Self::default();
        for word in path.split(|c: char| !c.is_ascii_alphanumeric()) {
            let word = word.to_ascii_lowercase();
            let split = match word.as_str() {
                "train" => Some(Split::Train),
                "valid" | "validation" | "dev" => Some(Split::Valid),
                "test" | "codebase" => Some(Split::Test),
                _ => None,
            };
            hints.split = split.or(hints.split);
            hints.language = word.parse().ok().or(hints.language);
        }
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_path_name_language_and_split() {
        let hints = Hints::of("CSN/python/final/jsonl/train/python_train_0.jsonl.gz");
        assert_eq!(hints, Hints { language: Some(Language::Python), split: Some(Split::Train) });
        assert_eq!(Hints::of("ruby/codebase.jsonl").split, Some(Split::Test));
    }

    #[test]
    fn parts_of_words_are_ignored() {
        assert_eq!(Hints::of("pythonic/contest.jsonl"), Hints::default());
    }
}
