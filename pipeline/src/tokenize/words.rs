//! Word by word encoding. Every tokenizer of ours splits at white space before it does anything else, so the ids
//! of a text are those of its words one after the other, and a word that was met before need not be merged again:
//! code repeats its words so much that this is several times as fast as encoding whole texts.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;

/// `<unk>` in every vocabulary of ours (`vocab::SPECIALS`).
const UNKNOWN: u32 = 1;
/// Words that are remembered; a longer word is not.
const MOST_WORDS: usize = 1 << 18;
const LONGEST_WORD: usize = 64;

/// Encodes texts, remembering their words. One a thread.
pub struct Words<'a> {
    tokenizer: &'a Tokenizer,
    known: HashMap<Box<str>, (u32, u32)>,
    /// Ids of the known words.
    ids: Vec<u32>,
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
        Self { tokenizer, known: HashMap::new(), ids: Vec::new() }
    }

    /// At most `max` ids; what is behind them is not looked at.
    pub fn encode(&mut self, text: &str, max: usize) -> Result<Encoded> {
        let mut encoded = Encoded::default();
        for word in text.split_whitespace() {
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
        encoded.unknown = encoded.ids.iter().filter(|&&id| id == UNKNOWN).count() as u64;
        encoded.is_cut = encoded.ids.len() > max;
        encoded.ids.truncate(max);
        Ok(encoded)
    }
}
