//! Text to token ids, as `encoder.json` defines it.

use std::path::Path;

use ledger::EncoderSpec;
use tokenizers::Tokenizer;

use crate::{Error, Result, error::Context};

/// The tokenizer of an encoder folder, with the tokens that the encoder expects before and after a text.
pub struct EncoderTokenizer {
    spec: EncoderSpec,
    tokenizer: Tokenizer,
    pad: u32,
}

impl EncoderTokenizer {
    /// Opens `encoder.json` and `tokenizer.json` of a folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let spec = EncoderSpec::read(&dir.join(EncoderSpec::FILE))?;
        let path = dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).map_err(Error::tokenizer).with_context(|| format!("loading {}", path.display()))?;
        let pad = tokenizer
            .token_to_id(&spec.pad_token)
            .ok_or_else(|| Error::NoToken { token: spec.pad_token.clone() })
            .with_context(|| format!("loading {}", path.display()))?;
        Ok(Self { spec, tokenizer, pad })
    }

    /// The contents of `encoder.json`.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// Id of the padding token.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// Ids of a query: prefix, text, suffix; the text is cut so that all are at most `max` ids.
    pub fn query_ids(&self, text: &str, max: usize) -> Result<Vec<u32>> {
        self.ids(&self.spec.query_prefix, text, &self.spec.query_suffix, "", max)
    }

    /// Ids of code in a language: prefix, text, suffix; the text is cut so that all are at most `max` ids.
    pub fn code_ids(&self, language: &str, text: &str, max: usize) -> Result<Vec<u32>> {
        self.ids(&self.spec.code_prefix, text, &self.spec.code_suffix, language, max)
    }

    fn ids(&self, before: &[String], text: &str, after: &[String], language: &str, max: usize) -> Result<Vec<u32>> {
        let id = |token: &String| {
            let token = token.replace("{language}", language);
            self.tokenizer.token_to_id(&token).ok_or(Error::NoToken { token })
        };
        let encoding = self.tokenizer.encode_fast(text, false).map_err(Error::tokenizer)?;
        let mut ids = before.iter().map(id).collect::<Result<Vec<_>>>()?;
        ids.extend(encoding.get_ids().iter().take(max.saturating_sub(before.len() + after.len())));
        for token in after {
            ids.push(id(token)?);
        }
        Ok(ids)
    }
}

impl std::fmt::Debug for EncoderTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncoderTokenizer").field("spec", &self.spec).field("pad", &self.pad).finish_non_exhaustive()
    }
}
