//! Path filters: a glob over the distinct paths of an index.

use globset::{GlobBuilder, GlobMatcher};

use crate::{Error, Result};

/// Characters that have a meaning in a glob.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A glob that is compared with whole paths; the rules are those of [`Query::path`](crate::Query::path).
#[derive(Debug, Clone)]
pub(crate) struct PathGlob {
    matcher: GlobMatcher,
    prefix: String,
}

impl PathGlob {
    pub fn new(glob: &str) -> Result<Self> {
        let invalid = |source| Error::Glob { glob: glob.to_owned(), source };
        let matcher = GlobBuilder::new(glob).literal_separator(true).build().map_err(invalid)?.compile_matcher();
        let prefix = glob.split(SPECIAL).next().unwrap_or_default();
        // `a/**` also matches below `a`, and `{` may begin within a character sequence: the text before is literal either way.
        Ok(Self { matcher, prefix: prefix.to_owned() })
    }

    /// Every matching path begins with this text.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn is_match(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(glob: &str, path: &str) -> bool {
        let glob = PathGlob::new(glob).unwrap();
        let matches = glob.is_match(path);
        assert!(!matches || path.starts_with(glob.prefix()), "{glob:?} {path}");
        matches
    }

    #[test]
    fn a_star_matches_within_a_segment_only() {
        assert!(is_match("src/*.py", "src/a.py"));
        assert!(!is_match("src/*.py", "src/b/a.py"));
        assert!(!is_match("src/**.py", "src/b/a.py"));
        assert!(is_match("src/a?.py", "src/ab.py") && !is_match("src?a.py", "src/a.py"));
    }

    #[test]
    fn two_stars_match_any_number_of_segments() {
        for path in ["src/a.py", "src/b/a.py", "src/b/c/a.py"] {
            assert!(is_match("src/**/*.py", path), "{path}");
        }
        assert!(is_match("**/a.py", "a.py") && is_match("src/**", "src/b/a.py"));
        assert!(!is_match("src/**/*.py", "lib/a.py"));
    }

    #[test]
    fn alternatives_and_classes_match_one_of_them() {
        assert!(is_match("src/*.{py,go}", "src/a.go") && !is_match("src/*.{py,go}", "src/a.rb"));
        assert!(is_match("src/[ab].py", "src/b.py") && !is_match("src/[!ab].py", "src/b.py"));
        assert!(is_match(r"src/\*.py", "src/*.py") && !is_match(r"src/\*.py", "src/a.py"));
    }

    #[test]
    fn a_glob_is_compared_with_the_whole_path() {
        assert!(!is_match("src", "src/a.py"));
        assert!(is_match("src/a.p(y|x)", "src/a.p(y|x)"), "characters of regular expressions are literal");
    }

    #[test]
    fn an_invalid_glob_is_an_error_that_names_it() {
        let error = PathGlob::new("src/{a").unwrap_err();
        assert!(matches!(&error, Error::Glob { glob, .. } if glob == "src/{a"), "{error}");
    }
}
