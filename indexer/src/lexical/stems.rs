//! The tokenizer `en_stem` of tantivy for building an index: it computes the stem of a word once.

use std::collections::HashMap;

use tantivy::tokenizer::{
    Language, LowerCaser, RawTokenizer, RemoveLongFilter, SimpleTokenizer, Stemmer, TextAnalyzer, Token, TokenFilter, TokenStream,
    Tokenizer,
};

/// Words whose stems are kept.
const KEPT: usize = 1 << 16;
/// Longest token of tantivy's own analyzer, in bytes.
const LONGEST: usize = 40;

/// Gives the tokens of tantivy's `en_stem`.
pub fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST))
        .filter(LowerCaser)
        .filter(KnownStems::new())
        .build()
}

/// Stems by word.
#[derive(Clone)]
struct KnownStems {
    stemmer: TextAnalyzer,
    stems: HashMap<String, String>,
}

impl KnownStems {
    fn new() -> Self {
        let stemmer = TextAnalyzer::builder(RawTokenizer::default()).filter(Stemmer::new(Language::English)).build();
        Self { stemmer, stems: HashMap::new() }
    }

    /// Replaces a word by its stem.
    fn stem(&mut self, word: &mut String) {
        if let Some(stem) = self.stems.get(word.as_str()) {
            word.clone_from(stem);
            return;
        }
        if self.stems.len() >= KEPT {
            self.stems.clear();
        }
        let mut stem = String::new();
        self.stemmer.token_stream(word).process(&mut |token| stem.clone_from(&token.text));
        self.stems.insert(std::mem::replace(word, stem.clone()), stem);
    }
}

impl TokenFilter for KnownStems {
    type Tokenizer<T: Tokenizer> = Stemming<T>;

    fn transform<T: Tokenizer>(self, inner: T) -> Stemming<T> {
        Stemming { inner, known: self }
    }
}

#[derive(Clone)]
struct Stemming<T> {
    inner: T,
    known: KnownStems,
}

impl<T: Tokenizer> Tokenizer for Stemming<T> {
    type TokenStream<'a> = StemmedStream<'a, T::TokenStream<'a>>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Self::TokenStream<'a> {
        StemmedStream { tail: self.inner.token_stream(text), known: &mut self.known }
    }
}

struct StemmedStream<'a, T> {
    tail: T,
    known: &'a mut KnownStems,
}

impl<T: TokenStream> TokenStream for StemmedStream<'_, T> {
    fn advance(&mut self) -> bool {
        let has_token = self.tail.advance();
        if has_token {
            self.known.stem(&mut self.tail.token_mut().text);
        }
        has_token
    }

    fn token(&self) -> &Token {
        self.tail.token()
    }

    fn token_mut(&mut self) -> &mut Token {
        self.tail.token_mut()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tantivy::tokenizer::TokenizerManager;

    use super::*;

    fn tokens(analyzer: &mut TextAnalyzer, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        analyzer.token_stream(text).process(&mut |token| tokens.push(token.clone()));
        tokens
    }

    proptest! {
        #[test]
        fn tokens_are_those_of_tantivy(texts in prop::collection::vec("([a-zA-Zé0-9_ ]|ing |ations |ies ){0,60}", 1..5)) {
            let (mut own, mut expected) = (analyzer(), TokenizerManager::default().get("en_stem").unwrap());
            for text in texts.iter().chain(&texts) {
                prop_assert_eq!(tokens(&mut own, text), tokens(&mut expected, text));
            }
        }
    }
}
