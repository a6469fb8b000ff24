//! Text to token ids, as `encoder.json` defines it.

use std::path::Path;

use ledger::{EncoderSpec, ensure};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::{
    Error, Result,
    error::Context,
    token_counts::{TokenCounts, UNKNOWN},
};

/// Largest `tokenizer.json`, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Largest factor by which the replacements of a tokenizer may lengthen a text.
const MAX_GROWTH: usize = 64;

/// Opens a tokenizer that someone else may have made: replacements one after the other multiply the length of a text.
fn open_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = std::fs::metadata(path)?.len();
    ensure!(bytes <= MAX_BYTES, "the file has {bytes} bytes, the limit is {MAX_BYTES}");
    let text = std::fs::read(path)?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| Error::Tokenizer(error.to_string()))?;
    let growth = growth_of(&json["normalizer"]).saturating_mul(growth_of(&json["pre_tokenizer"]));
    ensure!(growth <= MAX_GROWTH, "its replacements can lengthen a text {growth} times, the limit is {MAX_GROWTH}: use another tokenizer");
    Tokenizer::from_bytes(&text).map_err(Error::tokenizer)
}

/// The factor by which `Replace` and `Prepend` below this part of a tokenizer can lengthen a text of one byte.
fn growth_of(part: &Value) -> usize {
    let below = |parts: &mut dyn Iterator<Item = &Value>| parts.fold(1usize, |product, part| product.saturating_mul(growth_of(part)));
    match part {
        Value::Array(parts) => below(&mut parts.iter()),
        Value::Object(members) => {
            let text = match members.get("type").and_then(Value::as_str) {
                Some("Replace") => &members["content"],
                Some("Prepend") => &members["prepend"],
                _ => &Value::Null,
            };
            text.as_str().map_or(1, |text| text.len().max(1)).saturating_mul(below(&mut members.values()))
        }
        _ => 1,
    }
}

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
        let tokenizer = open_tokenizer(&path).with_context(|| format!("loading {}", path.display()))?;
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

    /// Adds the tokens of a text, without prefix and suffix, and not cut.
    pub fn count(&self, text: &str, counts: &mut TokenCounts) -> Result<()> {
        let encoding = self.tokenizer.encode(text, false).map_err(Error::tokenizer)?;
        let unknown = UNKNOWN.iter().find_map(|token| self.tokenizer.token_to_id(token));
        counts.add(encoding.get_ids(), encoding.get_word_ids(), unknown);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_that_multiply_are_refused() {
        let replace = |content: &str| serde_json::json!({ "type": "Replace", "pattern": { "String": "a" }, "content": content });
        assert_eq!(growth_of(&serde_json::json!({ "type": "Sequence", "normalizers": [replace("\u{2581}"), replace(" ")] })), 3);
        let ten = replace("aaaaaaaaaa");
        let bomb = serde_json::json!({ "normalizer": { "type": "Sequence", "normalizers": [ten, ten, ten, ten, ten, ten, ten, ten] } });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, bomb.to_string()).unwrap();
        assert!(open_tokenizer(&path).unwrap_err().to_string().contains("100000000 times"));
    }
}
