//! What is searched for.

use std::{fmt, str::FromStr, time::Duration};

use ledger::Language;
use serde::Serialize;

use crate::deadline::TIME_LIMIT;

/// Which index answers a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Lexical search.
    Bm25,
    /// Vector search.
    Vector,
    /// Both, their candidates fused.
    #[default]
    Hybrid,
}

/// A name that no mode has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}: expected bm25, vector or hybrid")]
pub struct UnknownMode(pub String);

impl Mode {
    /// All modes; rankings of all systems are in this order.
    pub const ALL: [Mode; 3] = [Self::Bm25, Self::Vector, Self::Hybrid];

    /// Name in options and reports: `bm25`, `vector`, `hybrid`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bm25 => "bm25",
            Self::Vector => "vector",
            Self::Hybrid => "hybrid",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    /// ```
    /// assert_eq!("bm25".parse(), Ok(bundle::Mode::Bm25));
    /// assert!("regex".parse::<bundle::Mode>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A search: text, filters and how results are shown.
///
/// ```
/// use bundle::{Language, Mode, Query};
///
/// let query = Query::new("\"iso date\" pars*").mode(Mode::Bm25).language(Language::Python).path("src/**/*.py").limit(3);
/// assert_eq!((query.limit, query.path.as_deref()), (3, Some("src/**/*.py")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Words; `"an exact phrase"`; a prefix (`pars*`).
    pub text: String,
    /// Only functions in this language.
    pub language: Option<Language>,
    /// Only functions of this repository, by its full name.
    pub repo: Option<String>,
    /// Only paths that match this glob: see [`Query::path`].
    pub path: Option<String>,
    /// Which index answers.
    pub mode: Mode,
    /// Number of hits.
    pub limit: usize,
    /// Lines of each hit's code in [`Hit::snippet`](crate::Hit::snippet); 0: none.
    pub snippet_lines: usize,
    /// Fill in [`Hit::explanation`](crate::Hit::explanation)?
    pub explain: bool,
    /// Functions with the same code and documentation are one hit, with the places of the others in
    /// [`Hit::also_in`](crate::Hit::also_in); otherwise each is a hit.
    pub group_aliases: bool,
    /// Longest time of the search; [`Error::TimeLimit`](crate::Error::TimeLimit) after that.
    pub time_limit: Duration,
}

impl Query {
    /// A hybrid search for 10 hits, aliases grouped, without filters, snippets and explanations.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            language: None,
            repo: None,
            path: None,
            mode: Mode::default(),
            limit: 10,
            snippet_lines: 0,
            explain: false,
            group_aliases: true,
            time_limit: TIME_LIMIT,
        }
    }

    /// Replaces the text.
    pub fn text(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// Chooses the index that answers.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Sets the number of hits.
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Shows so many lines of each hit's code: those with most of the query's words.
    pub fn snippet_lines(self, snippet_lines: usize) -> Self {
        Self { snippet_lines, ..self }
    }

    /// Explains the score of each hit.
    pub fn explain(self, explain: bool) -> Self {
        Self { explain, ..self }
    }

    /// Chooses between one hit for all functions with the same code and documentation, and a hit for each.
    pub fn group_aliases(self, group_aliases: bool) -> Self {
        Self { group_aliases, ..self }
    }

    /// Sets the longest time of the search; 10 seconds unless set.
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Searches one language only.
    pub fn language(self, language: Language) -> Self {
        Self { language: Some(language), ..self }
    }

    /// Searches one repository only, by its full name.
    pub fn repo(self, repo: impl Into<String>) -> Self {
        Self { repo: Some(repo.into()), ..self }
    }

    /// Searches only paths that match a glob, which is compared with the whole path:
    ///
    /// | pattern  | matches |
    /// |----------|---------|
    /// | `*`      | any characters of one segment (between two `/`) |
    /// | `?`      | one byte of a segment |
    /// | `**/`    | any number of segments, also none: `src/**/*.py` matches `src/a.py` and `src/b/c.py` |
    /// | `/**`    | everything below a folder, at the end of a glob |
    /// | `{a,b}`  | one of the alternatives |
    /// | `[a-z]`  | one byte of a class; `[!a-z]` one outside of it |
    /// | `\*`     | the character itself |
    pub fn path(self, glob: impl Into<String>) -> Self {
        Self { path: Some(glob.into()), ..self }
    }
}
