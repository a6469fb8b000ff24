//! What training reads of `tokenizer.json`: ids of special tokens, the size of the vocabulary, and the special tokens around sequences.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use ledger::{Digest, bail, ensure};
use serde::Deserialize;

use crate::error::{Context, Result};

#[derive(Debug, Deserialize)]
struct Tokenizer {
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Debug, Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Debug, Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
}

/// Special tokens of a vocabulary.
#[derive(Debug)]
pub struct Specials {
    ids: HashMap<String, u32>,
    /// All ids are smaller.
    pub size: usize,
    /// Digest of all tokens and their ids.
    pub tokens: Digest,
}

/// Maximum size of `tokenizer.json`; with 250,000 tokens it has 17 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Maximum number of tokens.
const MAX_SIZE: usize = 1 << 24;

impl Specials {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is not a tokenizer with a vocabulary.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("{} is not a tokenizer with a vocabulary of tokens", path.display());
        let size = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
        ensure!(size <= MAX_BYTES, "{} has {size} bytes, more than the maximum of {MAX_BYTES}", path.display());
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let tokenizer: Tokenizer = serde_json::from_slice(&bytes).with_context(context)?;
        let last = tokenizer.model.vocab.values().chain(tokenizer.added_tokens.iter().map(|token| &token.id)).max();
        let size = *last.context("no tokens").with_context(context)? as usize + 1;
        ensure!(size <= MAX_SIZE, "{} has {size} tokens, more than the maximum of {MAX_SIZE}", path.display());
        let ids: HashMap<String, u32> = tokenizer.added_tokens.into_iter().map(|token| (token.content, token.id)).collect();
        let all: BTreeMap<&String, &u32> = tokenizer.model.vocab.iter().chain(&ids).collect();
        let tokens = Digest::of(&all)?;
        Ok(Self { ids, size, tokens })
    }

    /// Id of a special token.
    pub fn id(&self, token: &str) -> Result<u32> {
        let id = self.ids.get(token).copied();
        id.with_context(|| format!("the vocabulary has no special token {token}: run `codenets run --only vocab`"))
    }

    /// Is there a special token with this text?
    pub fn has(&self, token: &str) -> bool {
        self.ids.contains_key(token)
    }
}

/// Special tokens before and after a query and code; `{language}` stands for the language of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub query: (Vec<String>, Vec<String>),
    pub code: (Vec<String>, Vec<String>),
    pub pad: String,
}

impl Frame {
    /// The frame of a vocabulary: that of stage `vocab`, of BERT or of RoBERTa.
    pub fn of(specials: &Specials) -> Result<Self> {
        let texts = |tokens: &[&str]| tokens.iter().map(|&token| token.to_owned()).collect::<Vec<_>>();
        let same = |before: &str, after: &str, pad: &str| {
            let sides = (texts(&[before]), texts(&[after]));
            Self { query: sides.clone(), code: sides, pad: pad.to_owned() }
        };
        let frame = if specials.has("<qy>") {
            Self { query: (texts(&["<qy>"]), Vec::new()), code: (texts(&["<{language}>", "<lg>"]), Vec::new()), pad: "<pad>".to_owned() }
        } else if specials.has("[CLS]") {
            same("[CLS]", "[SEP]", "[PAD]")
        } else if specials.has("<s>") {
            same("<s>", "</s>", "<pad>")
        } else {
            bail!(
                "the vocabulary has none of the special tokens <qy>, [CLS] and <s>: set vocab.from to a tokenizer that has them, or run `codenets run --only vocab`"
            );
        };
        specials.id(&frame.pad)?;
        frame.query_ids(specials)?;
        Ok(frame)
    }

    /// Ids before and after a query.
    pub fn query_ids(&self, specials: &Specials) -> Result<(Vec<u32>, Vec<u32>)> {
        Self::ids(&self.query, specials, "")
    }

    /// Ids before and after code.
    pub fn code_ids(&self, specials: &Specials, language: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        Self::ids(&self.code, specials, language)
    }

    fn ids((before, after): &(Vec<String>, Vec<String>), specials: &Specials, language: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let ids = |tokens: &[String]| -> Result<Vec<u32>> {
            tokens.iter().map(|token| specials.id(&token.replace("{language}", language))).collect()
        };
        Ok((ids(before)?, ids(after)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials(added: &[&str]) -> Result<Specials> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let added: Vec<_> = added.iter().enumerate().map(|(id, content)| serde_json::json!({"id": id, "content": content})).collect();
        let tokenizer = serde_json::json!({"added_tokens": added, "model": {"vocab": {"a": 20}}});
        std::fs::write(&path, tokenizer.to_string()).unwrap();
        Specials::read(&path)
    }

    #[test]
    fn the_frame_follows_the_vocabulary() {
        let ours = specials(&["<pad>", "<qy>", "<lg>", "<go>"]).unwrap();
        let frame = Frame::of(&ours).unwrap();
        assert_eq!(frame.code_ids(&ours, "go").unwrap(), (vec![3, 2], vec![]));
        assert_eq!(frame.query_ids(&ours).unwrap(), (vec![1], vec![]));
        let bert = specials(&["[PAD]", "[CLS]", "[SEP]"]).unwrap();
        assert_eq!(Frame::of(&bert).unwrap().code_ids(&bert, "go").unwrap(), (vec![1], vec![2]));
        let roberta = specials(&["<s>", "<pad>", "</s>"]).unwrap();
        assert_eq!(Frame::of(&roberta).unwrap().query_ids(&roberta).unwrap(), (vec![0], vec![2]));
        assert_eq!(ours.size, 21);
    }

    #[test]
    fn missing_specials_are_named() {
        let refusal = |added: &[&str]| Frame::of(&specials(added).unwrap()).unwrap_err().to_string();
        assert!(refusal(&["<pad>"]).contains("none of the special tokens"));
        assert!(refusal(&["<qy>"]).contains("no special token <pad>"));
        assert!(refusal(&["[CLS]", "[PAD]"]).contains("no special token [SEP]"));
        let ours = specials(&["<pad>", "<qy>", "<lg>", "<go>"]).unwrap();
        assert!(Frame::of(&ours).unwrap().code_ids(&ours, "ruby").unwrap_err().to_string().contains("<ruby>"));
    }
}
