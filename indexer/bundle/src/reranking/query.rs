//! A query, as reranking compares it with names.

use std::collections::{HashMap, HashSet};

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
    idf: HashMap<u32, f64>,
    /// Sum of the idf.
    total: f64,
    /// Identifiers of the query and two or three neighbouring words, joined: the idf of their terms.
    joined: HashMap<u32, f64>,
    /// Kinds that the query asks for.
    asked: u8,
}

/// Words that ask for a kind of function.
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
        let idf: HashMap<u32, f64> = terms.iter().map(|(term, idf)| (checksum(term), f64::from(*idf))).collect();
        let mut query = Self { class: QueryClass::of(text), total: idf.values().sum(), idf, joined: HashMap::new(), asked: 0 };
        let mut all: Vec<String> = Vec::new();
        for token in text.split_whitespace() {
            let mut words = Vec::new();
            words::subtokens(token, &mut words);
            query.join(&words, &term_of);
            all.extend(words);
        }
        for count in [2, 3] {
            all.windows(count).for_each(|words| query.join(words, &term_of));
        }
        let terms: HashSet<String> = all.iter().filter_map(|word| term_of(word)).collect();
        query.asked =
            ASKED.iter().filter(|(start, _)| terms.iter().any(|term| term.starts_with(start))).fold(0, |bits, (_, bit)| bits | bit);
        query
    }

    fn join(&mut self, words: &[String], term_of: &impl Fn(&str) -> Option<String>) {
        let idf = words.iter().filter_map(|word| self.idf.get(&checksum(&term_of(word)?))).sum();
        if !words.is_empty() {
            self.joined.insert(checksum(&words.concat()), idf);
        }
    }

    /// Idf of a term; 0 where the query lacks the term.
    pub fn idf(&self, term: u32) -> f64 {
        self.idf.get(&term).copied().unwrap_or_default()
    }

    /// Sum of the idf of the terms.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Idf of the terms of neighbouring words that are joined to this name; none where the query lacks the name.
    pub fn joined(&self, name: u32) -> Option<f64> {
        self.joined.get(&name).copied()
    }

    /// Does the query ask for functions of this kind?
    pub fn asks_for(&self, kind: u8) -> bool {
        self.asked & kind != 0
    }
}
