//! A query's text, parsed: words that are scored, and conditions that a result must meet.
//!
//! `"exact words"` in quotes must occur in this order in one text field; `pars*` requires a word with this prefix. A quote without a
//! closing quote is ignored. Everything else is words.

use ledger::words;

/// Words of a query that are used; further words are ignored.
const MAX_WORDS: usize = 512;

/// A parsed query.
///
/// ```
/// let query = bundle::ParsedQuery::parse("readFile \"as JSON\" pars*");
/// assert_eq!(query.words, ["read", "file", "as", "json", "pars"]);
/// assert_eq!(query.phrases, [["as", "json"]]);
/// assert_eq!(query.prefixes, ["pars"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedQuery {
    /// All words in order, also those of phrases and prefixes.
    pub words: Vec<String>,
    /// Neighbouring words of one identifier, joined: `my sql` of `connectMySQL` is also searched as `mysql`.
    pub compounds: Vec<String>,
    /// Words that must occur next to each other.
    pub phrases: Vec<Vec<String>>,
    /// Prefixes of words that must occur.
    pub prefixes: Vec<String>,
}

impl ParsedQuery {
    /// Parses words, phrases and prefixes.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('"') {
            query.add_words(before);
            match after.split_once('"') {
                Some((phrase, after)) => {
                    query.add_phrase(phrase);
                    rest = after;
                }
                None => rest = after,
            }
        }
        query.add_words(rest);
        query.words.truncate(MAX_WORDS);
        query.compounds.truncate(MAX_WORDS);
        query.phrases.truncate(MAX_WORDS);
        query.prefixes.truncate(MAX_WORDS);
        query
    }

    /// Parses words only: quotes and stars have no meaning.
    pub fn words_of(text: &str) -> Self {
        let mut query = Self::default();
        for part in text.split_whitespace() {
            words::subtokens(part, &mut query.words);
            query.compounds.extend(words::compounds(part));
        }
        query.words.truncate(MAX_WORDS);
        query.compounds.truncate(MAX_WORDS);
        query
    }

    fn add_phrase(&mut self, phrase: &str) {
        let mut words = Vec::new();
        words::subtokens(phrase, &mut words);
        self.words.extend(words.iter().cloned());
        words.truncate(MAX_WORDS);
        if !words.is_empty() {
            self.phrases.push(words);
        }
    }

    fn add_words(&mut self, text: &str) {
        for part in text.split_whitespace() {
            let mut words = Vec::new();
            words::subtokens(part, &mut words);
            if part.len() > 1 && part.ends_with('*') && part.trim_end_matches('*').ends_with(char::is_alphanumeric) {
                self.prefixes.extend(words.last().cloned());
            }
            self.words.extend(words);
            self.compounds.extend(words::compounds(part));
        }
    }

    /// Removes a word, unless it is the only word: the name of the only language that is searched does not tell functions apart.
    pub fn without(mut self, word: Option<&str>) -> Self {
        if self.words.iter().any(|other| Some(other.as_str()) != word) {
            self.words.retain(|other| Some(other.as_str()) != word);
        }
        self
    }

    /// The words joined by spaces, as the encoder reads them.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// Has the query no words?
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Does the query have phrases or prefixes, which a result must contain?
    pub fn has_conditions(&self) -> bool {
        !self.phrases.is_empty() || !self.prefixes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_parsed_into_words_phrases_and_prefixes() {
        let query = ParsedQuery::parse(r#"readFile "as JSON" pars* in python"#);
        assert_eq!(query.words, ["read", "file", "as", "json", "pars", "in", "python"]);
        assert_eq!(query.phrases, [["as", "json"]]);
        assert_eq!(query.prefixes, ["pars"]);
        assert_eq!(ParsedQuery::parse(""), ParsedQuery::default());
    }

    #[test]
    fn a_word_is_removed_unless_it_is_the_only_one() {
        assert_eq!(ParsedQuery::parse("parse in python").without(Some("python")).text(), "parse in");
        assert_eq!(ParsedQuery::parse("Python").without(Some("python")).text(), "python");
    }

    #[test]
    fn an_open_quote_and_a_lone_star_have_no_meaning() {
        let query = ParsedQuery::parse(r#"an "open quote, and a * alone"#);
        assert!(!query.has_conditions() && query.words.len() == 6, "{query:?}");
    }

    #[test]
    fn words_beyond_the_maximum_are_ignored() {
        assert_eq!(ParsedQuery::parse(&"word ".repeat(200_000)).words.len(), MAX_WORDS);
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_words(text in "\\PC{0,60}") {
            let query = ParsedQuery::parse(&text);
            let unquoted = text.replace('"', " ");
            prop_assert_eq!(query.text(), words::joined(&unquoted));
        }
    }
}
