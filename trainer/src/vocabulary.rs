//! The few facts of `tokenizer.json` that training needs: ids of special tokens and the size.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
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
}

impl Specials {
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("{} is not a tokenizer", path.display());
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let tokenizer: Tokenizer = serde_json::from_slice(&bytes).with_context(context)?;
        let last = tokenizer.model.vocab.values().chain(tokenizer.added_tokens.iter().map(|token| &token.id)).max();
        let size = *last.context("no tokens").with_context(context)? as usize + 1;
        let ids = tokenizer.added_tokens.into_iter().map(|token| (token.content, token.id)).collect();
        Ok(Self { ids, size })
    }

    pub fn id(&self, token: &str) -> Result<u32> {
        let id = self.ids.get(token).copied();
        id.with_context(|| format!("the vocabulary has no special token {token}: run `make vocab` again"))
    }
}
