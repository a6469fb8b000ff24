//! The few facts of `tokenizer.json` that training needs: ids of special tokens, the size, and how sequences are framed.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use ledger::Digest;
use serde::Deserialize;

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
    /// Ids are below this.
    pub size: usize,
    /// Of every token and its id.
    pub tokens: Digest,
}

/// Largest `tokenizer.json` that is read; that of a vocabulary of 250,000 has 17 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Most tokens that a vocabulary may have.
const MAX_SIZE: usize = 1 << 24;

impl Specials {
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("{} is not a tokenizer of words or pieces", path.display());
        let size = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
        ensure!(size <= MAX_BYTES, "{} has {size} bytes, more than the {MAX_BYTES} that are read", path.display());
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let tokenizer: Tokenizer = serde_json::from_slice(&bytes).with_context(context)?;
        let last = tokenizer.model.vocab.values().chain(tokenizer.added_tokens.iter().map(|token| &token.id)).max();
        let size = *last.context("no tokens").with_context(context)? as usize + 1;
        ensure!(size <= MAX_SIZE, "{} has ids up to {size}, more than {MAX_SIZE}", path.display());
        let ids: HashMap<String, u32> = tokenizer.added_tokens.into_iter().map(|token| (token.content, token.id)).collect();
        let all: BTreeMap<&String, &u32> = tokenizer.model.vocab.iter().chain(&ids).collect();
        let tokens = Digest::of(&all)?;
        Ok(Self { ids, size, tokens })
    }

    pub fn id(&self, token: &str) -> Result<u32> {
        let id = self.ids.get(token).copied();
        id.with_context(|| format!("the vocabulary has no special token {token}: run `make vocab` again"))
    }

    pub fn has(&self, token: &str) -> bool {
        self.ids.contains_key(token)
    }
}

/// Special tokens around a query and around code; `{language}` stands for the row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub query: (Vec<String>, Vec<String>),
    pub code: (Vec<String>, Vec<String>),
    pub pad: String,
}

impl Frame {
    /// The frame that belongs to a vocabulary: ours, BERT's or RoBERTa's.
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
            bail!("the vocabulary has none of the special tokens <qy>, [CLS] and <s>: sequences cannot be framed; run `make vocab` again");
        };
        specials.id(&frame.pad)?;
        frame.query_ids(specials)?;
        Ok(frame)
    }

    pub fn query_ids(&self, specials: &Specials) -> Result<(Vec<u32>, Vec<u32>)> {
        Self::ids(&self.query, specials, "")
    }

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
    fn the_frame_is_the_vocabularys() {
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
        let refusal = |added: &[&str]| format!("{:#}", Frame::of(&specials(added).unwrap()).unwrap_err());
        assert!(refusal(&["<pad>"]).contains("none of the special tokens"));
        assert!(refusal(&["<qy>"]).contains("no special token <pad>"));
        assert!(refusal(&["[CLS]", "[PAD]"]).contains("no special token [SEP]"));
        let ours = specials(&["<pad>", "<qy>", "<lg>", "<go>"]).unwrap();
        assert!(format!("{:#}", Frame::of(&ours).unwrap().code_ids(&ours, "ruby").unwrap_err()).contains("<ruby>"));
    }
}
