//! Initial token vectors from a sentence encoder: each token of the vocabulary is encoded as a text of its own (Model2Vec, Tulkens & van
//! Dongen 2024). The mean over all tokens is subtracted, because the vectors of sentence encoders have a large common part, and each row is
//! weighted by the rarity of its token:
//!
//! ```text
//! E_t = s · (v_t − mean(v)) · a/(a + p_t),   p_t = 1/(t·H), a = 1e-4      t: rank of the token, its id in the order of the merges
//! ```
//! (smooth inverse frequency, Arora, Liang & Ma 2017, with Zipf's law for the frequencies). s scales the numbers to the standard deviation
//! of a random table, which is 1. Special tokens start at 0.

use std::path::{Path, PathBuf};

use ledger::{Digest, Progress, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::encoder::TeacherEncoder;
use crate::{
    error::{Context, Result},
    graph::parameters::Parameter,
};

/// Section `token-start`: initial values of the token vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenStart {
    /// Folder of an encoder as stage `export` writes it, with vectors as wide as those of `encoder`.
    pub encoder: PathBuf,
}

/// Tokens in one call.
const CALL: usize = 64;
/// The a of smooth inverse frequency.
const SMOOTHING: f64 = 1e-4;

impl TokenStart {
    /// Digests of the files that are read.
    pub fn files(&self) -> Result<Vec<(String, Digest)>> {
        TeacherEncoder::files(&self.encoder, "token-start")
    }

    /// Fills a table `[vocabulary, width]`.
    ///
    /// # Errors
    /// The encoder or the tokenizer cannot be read, or the widths differ.
    pub fn fill(&self, table: &mut Parameter, width: usize, tokenizer: &Path, progress: &Progress) -> Result<()> {
        let ours = Tokenizer::from_file(tokenizer).with_context(|| format!("reading {}", tokenizer.display()))?;
        let mut encoder = TeacherEncoder::open(&self.encoder, usize::MAX)?;
        ensure!(
            encoder.dimension() == width,
            "train.token-start has vectors of width {}, train.encoder of width {width}: set train.encoder.dimension = {}",
            encoder.dimension(),
            encoder.dimension()
        );
        let count = table.values.len() / width;
        let specials = ours.get_added_tokens_decoder();
        let mut ids = Vec::new();
        let mut texts = Vec::new();
        for id in 0..count as u32 {
            if specials.contains_key(&id) {
                continue;
            }
            let text = ours.decode(&[id], true).with_context(|| format!("decoding token {id}"))?;
            if !text.trim().is_empty() {
                ids.push(id as usize);
                texts.push(text.trim().to_owned());
            }
        }
        ensure!(!ids.is_empty(), "the vocabulary has only special tokens");
        let bar = progress.bar("token start", texts.len() as u64, "tokens");
        let mut vectors = Vec::with_capacity(texts.len() * width);
        for texts in texts.chunks(CALL) {
            vectors.extend(encoder.encode_queries(texts)?);
            bar.add(texts.len() as u64);
        }
        bar.finish();
        table.values.fill(0.0);
        let rows = initial_rows(&vectors, width, &ids, count);
        for (row, id) in rows.chunks_exact(width).zip(ids) {
            table.values[id * width..][..width].copy_from_slice(row);
        }
        Ok(())
    }
}

/// Applies the formula of the module to the vectors of these ids.
fn initial_rows(vectors: &[f32], width: usize, ids: &[usize], count: usize) -> Vec<f32> {
    let rows = vectors.len() / width;
    let mut mean = vec![0f64; width];
    for row in vectors.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / rows as f64);
    }
    let harmonic: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
    let mut out: Vec<f64> = Vec::with_capacity(vectors.len());
    for (row, &id) in vectors.chunks_exact(width).zip(ids) {
        let frequency = 1.0 / ((id + 1) as f64 * harmonic);
        let weight = SMOOTHING / (SMOOTHING + frequency);
        out.extend(row.iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean) * weight));
    }
    let size = (out.iter().map(|value| value * value).sum::<f64>() / out.len() as f64).sqrt();
    out.into_iter().map(|value| (value / size.max(f64::MIN_POSITIVE)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_centred_weighted_by_rarity_and_scaled() {
        let ids = [1, 5000];
        let rows = initial_rows(&[1.0, 0.0, 0.0, 1.0], 2, &ids, 10_000);
        // Centred: (½, −½) and (−½, ½), so each row's two numbers are opposite.
        assert!((rows[0] + rows[1]).abs() < 1e-6 && (rows[2] + rows[3]).abs() < 1e-6);
        let harmonic: f64 = (1..=10_000).map(|rank| 1.0 / f64::from(rank)).sum();
        let weight = |rank: f64| SMOOTHING / (SMOOTHING + 1.0 / (rank * harmonic));
        assert!((f64::from(rows[0] / -rows[2]) - weight(2.0) / weight(5001.0)).abs() < 1e-4);
        let size: f32 = rows.iter().map(|value| value * value).sum::<f32>() / 4.0;
        assert!((size - 1.0).abs() < 1e-5);
    }
}
