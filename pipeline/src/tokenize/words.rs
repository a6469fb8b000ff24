//! Word by word encoding. Every tokenizer of ours splits at white space before it does anything else, so the ids
//! of a text are those of its words one after the other, and a word that was met before need not be merged again:
//! code repeats its words so much that this is several times as fast as encoding whole texts. A tokenizer of others
//! (`vocab.from`) that tells the first word of a text from the next ones is given whole texts.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;

/// Tokens for what is unknown: ours and RoBERTa's, BERT's.
const UNKNOWN: [&str; 2] = ["<unk>", "[UNK]"];
/// Words that are remembered; a longer word is not.
const MOST_WORDS: usize = 1 << 18;
const LONGEST_WORD: usize = 64;

/// Encodes texts, remembering their words. One a thread.
pub struct Words<'a> {
    tokenizer: &'a Tokenizer,
    known: HashMap<Box<str>, (u32, u32)>,
    /// Ids of the known words.
    ids: Vec<u32>,
    unknown: Option<(&'static str, u32)>,
    splits_at_white_space: bool,
}

/// What was encoded of a text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Words that the ids stand for, and ids of all of them.
    pub words: u64,
    pub ids_of_words: u64,
    /// Of all of them.
    pub unknown: u64,
    pub is_cut: bool,
}

impl<'a> Words<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let unknown = UNKNOWN.into_iter().find_map(|token| Some((token, tokenizer.token_to_id(token)?)));
        let ids = |text: &str| tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let splits_at_white_space = ids("read the file") == ["read", "the", "file"].map(ids).concat();
        Self { tokenizer, known: HashMap::new(), ids: Vec::new(), unknown, splits_at_white_space }
    }

    /// Stands for a word that is not to be read.
    pub fn mask(&self) -> &'static str {
        self.unknown.map_or(UNKNOWN[0], |(token, _)| token)
    }

    fn whole(&self, text: &str) -> Result<Encoded> {
        let ids = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!("{error}"))?.get_ids().to_vec();
        Ok(Encoded { words: text.split_whitespace().count() as u64, ids, ..Encoded::default() })
    }

    /// At most `max` ids; what is behind them is not looked at.
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
                    let fresh = self.tokenizer.encode_fast(word, false).map_err(|error| anyhow!("{error}"))?;
                    encoded.ids.extend_from_slice(fresh.get_ids());
                    if self.known.len() < MOST_WORDS && word.len() <= LONGEST_WORD {
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
