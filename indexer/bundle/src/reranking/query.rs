//! A query, as reranking compares it with names.

use ledger::words;
use serde::{Deserialize, Serialize};

use super::names::{checksum, kind};

/// How a query is phrased. Each class has weights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryClass {
    /// One identifier: a word without spaces.
    Symbol,
    /// A few words.
    Keywords,
    /// A question, or a text of many words.
    Question,
}

/// Words of keywords at most.
const MAX_KEYWORDS: usize = 4;
/// First words of a question.
const QUESTION_WORDS: [&str; 14] =
    ["how", "what", "where", "which", "why", "when", "who", "does", "do", "is", "are", "can", "should", "find"];

impl QueryClass {
    /// All classes.
    pub const ALL: [QueryClass; 3] = [Self::Symbol, Self::Keywords, Self::Question];

    /// The class of a text.
    ///
    /// ```
    /// use bundle::reranking::QueryClass;
    ///
    /// assert_eq!(QueryClass::of("UrlDispatcher"), QueryClass::Symbol);
    /// assert_eq!(QueryClass::of("parse iso date"), QueryClass::Keywords);
    /// assert_eq!(QueryClass::of("how are routes matched"), QueryClass::Question);
    /// ```
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let mut tokens = text.split_whitespace();
        let first = tokens.next().unwrap_or_default().to_lowercase();
        let count = 1 + tokens.count();
        if count == 1 {
            Self::Symbol
        } else if count > MAX_KEYWORDS || text.ends_with('?') || QUESTION_WORDS.contains(&first.as_str()) {
            Self::Question
        } else {
            Self::Keywords
        }
    }

    /// Name in models: `symbol`, `keywords`, `question`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Keywords => "keywords",
            Self::Question => "question",
        }
    }
}

/// The words of a query by checksum.
#[derive(Debug, Clone)]
pub struct QueryNames {
    pub class: QueryClass,
    /// Idf of each term.
    idf: Table,
    /// Sum of the idf.
    total: f64,
    /// Identifiers of the query and two or three neighbouring words, joined: the idf of their terms.
    joined: Table,
    /// Kinds that the query has a word for.
    asked: u8,
}

/// Starts of terms for a kind of function.
const ASKED: [(&str, u8); 8] = [
    ("test", kind::TEST),
    ("fixture", kind::TEST),
    ("mock", kind::TEST),
    ("exampl", kind::EXAMPLE),
    ("sampl", kind::EXAMPLE),
    ("demo", kind::EXAMPLE),
    ("benchmark", kind::EXAMPLE),
    ("generat", kind::GENERATED),
];

impl QueryNames {
    /// A query's text with the scored terms and their idf; `term_of` gives the term of a word.
    pub fn new(text: &str, terms: &[(String, f32)], term_of: impl Fn(&str) -> Option<String>) -> Self {
        let idf = Table::new(terms.iter().map(|(term, idf)| (checksum(term), f64::from(*idf))).collect());
        let (mut words, mut tokens) = (Vec::new(), Vec::new());
        for token in text.split_whitespace() {
            let start = words.len();
            words::subtokens(token, &mut words);
            tokens.push(start..words.len());
        }
        let terms: Vec<Option<String>> = words.iter().map(|word| term_of(word)).collect();
        let idf_of: Vec<f64> =
            terms.iter().map(|term| term.as_ref().and_then(|term| idf.get(checksum(term))).unwrap_or_default()).collect();
        let neighbours =
            [2, 3].into_iter().flat_map(|count| (0..(words.len() + 1).saturating_sub(count)).map(move |start| start..start + count));
        let joined = tokens
            .into_iter()
            .chain(neighbours)
            .filter(|range| !range.is_empty())
            .map(|range| (checksum(&words[range.clone()].concat()), idf_of[range].iter().sum()));
        let joined = Table::new(joined.collect());
        let is_asked = |start: &str| terms.iter().flatten().any(|term| term.starts_with(start));
        let asked = ASKED.iter().filter(|(start, _)| is_asked(start)).fold(0, |bits, (_, bit)| bits | bit);
        Self { class: QueryClass::of(text), total: idf.0.iter().map(|(_, idf)| idf).sum(), idf, joined, asked }
    }

    /// Idf of a term; 0 where the query lacks the term.
    pub fn idf(&self, term: u32) -> f64 {
        self.idf.get(term).unwrap_or_default()
    }

    /// Sum of the idf of the terms.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Idf of the terms of neighbouring words that are joined to this name; none where the query lacks the name.
    pub fn joined(&self, name: u32) -> Option<f64> {
        self.joined.get(name)
    }

    /// Does the query have a word for this kind of function?
    pub fn has_word_for(&self, kind: u8) -> bool {
        self.asked & kind != 0
    }
}

/// Numbers by checksum, sorted. Of equal checksums the first number is kept.
#[derive(Debug, Clone)]
struct Table(Vec<(u32, f64)>);

impl Table {
    fn new(mut numbers: Vec<(u32, f64)>) -> Self {
        numbers.sort_by_key(|(key, _)| *key);
        numbers.dedup_by_key(|(key, _)| *key);
        Self(numbers)
    }

    fn get(&self, key: u32) -> Option<f64> {
        self.0.binary_search_by_key(&key, |(key, _)| *key).ok().map(|index| self.0[index].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_its_terms_and_its_identifiers_and_neighbouring_words_joined() {
        let idf = [("url".to_owned(), 2.0), ("dispatcher".to_owned(), 3.0)];
        let query = QueryNames::new("how UrlDispatcher tests routes", &idf, |word| Some(word.trim_end_matches('s').to_owned()));
        assert_eq!((query.class, query.total()), (QueryClass::Question, 5.0));
        assert_eq!(["url", "how"].map(|term| query.idf(checksum(term))), [2.0, 0.0]);
        assert_eq!(query.joined(checksum("urldispatcher")), Some(5.0), "an identifier");
        assert_eq!(query.joined(checksum("dispatchertests")), Some(3.0), "neighbouring words");
        assert_eq!(query.joined(checksum("howroutes")), None);
        assert!(query.has_word_for(kind::TEST) && !query.has_word_for(kind::EXAMPLE));
    }
}
