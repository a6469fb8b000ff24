//! Encodes texts word by word, with a cache of words. Tokenizers of stage `vocab` split at white space first, so the ids of a
//! text are the ids of its words, one after the other. Code repeats its words, so the cache makes encoding several times as
//! fast. A foreign tokenizer (`vocab.from`) that encodes the first word of a text in another way encodes whole texts.

use std::collections::HashMap;

use tokenizers::Tokenizer;

use crate::error::Result;

/// Tokens for unknown words: of stage `vocab` and RoBERTa, and of BERT.
const UNKNOWN: [&str; 2] = ["<unk>", "[UNK]"];
/// Largest number of words in the cache.
const MAX_WORDS: usize = 1 << 18;
/// Longest word in the cache, in bytes.
const MAX_WORD_BYTES: usize = 64;

/// Encodes texts with a cache of words. Each thread has its own.
pub struct Words<'a> {
    tokenizer: &'a Tokenizer,
    /// Range in `ids` of each cached word.
    known: HashMap<Box<str>, (u32, u32)>,
    /// Ids of the cached words.
    ids: Vec<u32>,
    /// Token for unknown words and its id.
    unknown: Option<(&'static str, u32)>,
    splits_at_white_space: bool,
}

/// Result of encoding a text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Ids, truncated.
    pub ids: Vec<u32>,
    /// Number of encoded words.
    pub words: u64,
    /// Number of ids of these words, before truncation.
    pub ids_of_words: u64,
    /// Number of ids of unknown words, before truncation.
    pub unknown: u64,
    /// Was the text truncated?
    pub is_cut: bool,
}

impl<'a> Words<'a> {
    /// An empty cache for a tokenizer.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let unknown = UNKNOWN.into_iter().find_map(|token| Some((token, tokenizer.token_to_id(token)?)));
        let ids = |text: &str| tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let splits_at_white_space = ids("read the file") == ["read", "the", "file"].map(ids).concat();
        Self { tokenizer, known: HashMap::new(), ids: Vec::new(), unknown, splits_at_white_space }
    }

    /// Token that replaces a masked word: the token for unknown words.
    pub fn mask(&self) -> &'static str {
        self.unknown.map_or(UNKNOWN[0], |(token, _)| token)
    }

    fn whole(&self, text: &str) -> Result<Encoded> {
        let ids = self.tokenizer.encode_fast(text, false)?.get_ids().to_vec();
        Ok(Encoded { words: text.split_whitespace().count() as u64, ids, ..Encoded::default() })
    }

    /// Encodes a text to at most `max` ids. Later words are not read.
    pub fn encode(&mut self, text: &str, max: usize) -> Result<Encoded> {
        let mut encoded = if self.splits_at_white_space { Encoded::default() } else { self.whole(text)? };
        let words = if self.splits_at_white_space { text } else { "" };
        for word in words.split_whitespace() {
            if encoded.ids.len() > max {
                break;
            }
            encoded.words += 1;
            match self.known.get(word) {
                Some(&(start, end)) => encoded.ids.extend_from_slice(&self.ids[start as usize..end as usize]),
                None => {
                    let fresh = self.tokenizer.encode_fast(word, false)?;
                    encoded.ids.extend_from_slice(fresh.get_ids());
                    if self.known.len() < MAX_WORDS && word.len() <= MAX_WORD_BYTES {
                        let start = u32::try_from(self.ids.len())?;
                        self.ids.extend_from_slice(fresh.get_ids());
                        self.known.insert(word.into(), (start, u32::try_from(self.ids.len())?));
                    }
                }
            }
        }
        encoded.ids_of_words = encoded.ids.len() as u64;
        encoded.unknown = encoded.ids.iter().filter(|&&id| self.unknown.is_some_and(|(_, unknown)| id == unknown)).count() as u64;
        encoded.is_cut = encoded.ids.len() > max;
        encoded.ids.truncate(max);
        Ok(encoded)
    }
}
