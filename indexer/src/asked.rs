//! What a user typed, taken apart: words that score, and what a result must hold.
//!
//! `"exact words"` in quotes must stand so in one of the text fields; `pars*` asks for a word that begins so. A quote
//! that is not closed is no quote. Everything else is words.

use ledger::words;

/// Words of a query that count: the rest of a longer one is left out.
const MOST_WORDS: usize = 512;

/// A query, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// All words in their order, those of phrases and prefixes too.
    pub words: Vec<String>,
    /// Words that must follow each other.
    pub phrases: Vec<Vec<String>>,
    /// Beginnings of words that must be there.
    pub prefixes: Vec<String>,
}

impl Asked {
    pub fn parse(text: &str) -> Self {
        let mut asked = Self::default();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('"') {
            asked.plain(before);
            match behind.split_once('"') {
                Some((phrase, behind)) => {
                    let mut own = Vec::new();
                    words::subtokens(phrase, &mut own);
                    asked.words.extend(own.iter().cloned());
                    own.truncate(MOST_WORDS);
                    if !own.is_empty() {
                        asked.phrases.push(own);
                    }
                    rest = behind;
                }
                None => rest = behind,
            }
        }
        asked.plain(rest);
        asked.words.truncate(MOST_WORDS);
        asked.phrases.truncate(MOST_WORDS);
        asked.prefixes.truncate(MOST_WORDS);
        asked
    }

    /// Words alone: quotes and stars mean nothing.
    pub fn words(text: &str) -> Self {
        let mut words = Vec::new();
        words::subtokens(text, &mut words);
        words.truncate(MOST_WORDS);
        Self { words, ..Self::default() }
    }

    fn plain(&mut self, text: &str) {
        for part in text.split_whitespace() {
            let mut own = Vec::new();
            words::subtokens(part, &mut own);
            if part.len() > 1 && part.ends_with('*') && part.trim_end_matches('*').ends_with(char::is_alphanumeric) {
                self.prefixes.extend(own.last().cloned());
            }
            self.words.extend(own);
        }
    }

    /// Leaves out a word that says nothing (the name of the only language searched), unless it is all there is.
    pub fn without(mut self, word: Option<&str>) -> Self {
        if self.words.iter().any(|own| Some(own.as_str()) != word) {
            self.words.retain(|own| Some(own.as_str()) != word);
        }
        self
    }

    /// The words as one text, as the encoder reads them.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Must a result hold something?
    pub fn requires(&self) -> bool {
        !self.phrases.is_empty() || !self.prefixes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn phrases_prefixes_and_words() {
        let asked = Asked::parse(r#"readFile "as JSON" pars* in python"#);
        assert_eq!(asked.words, ["read", "file", "as", "json", "pars", "in", "python"]);
        assert_eq!((&asked.phrases[..], &asked.prefixes[..]), (&[vec!["as".to_owned(), "json".to_owned()]][..], &["pars".to_owned()][..]));
        assert_eq!(asked.without(Some("python")).text(), "read file as json pars in");
        assert_eq!(Asked::parse("Python").without(Some("python")).text(), "python");
        let open = Asked::parse(r#"an "open quote, and a * alone"#);
        assert!(!open.requires() && open.words.len() == 6, "{open:?}");
        assert_eq!(Asked::parse(""), Asked::default());
        assert_eq!(Asked::parse(&"word ".repeat(200_000)).words.len(), MOST_WORDS);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_into_the_words_it_has(text in "\\PC{0,60}") {
            let asked = Asked::parse(&text);
            let unquoted = text.replace('"', " ");
            prop_assert_eq!(asked.text(), words::joined(&unquoted));
        }
    }
}
