//! How a tokenizer divides texts: the share of unknown tokens and of split words, and how similar two texts are in their tokens.

use serde::{Deserialize, Serialize};

/// Names of the token for what a tokenizer does not know, of this program and of BERT's tokenizers.
pub(crate) const UNKNOWN: [&str; 2] = ["<unk>", "[UNK]"];

/// Counts of the words and tokens of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    pub words: u64,
    /// Words of two tokens or more.
    pub split_words: u64,
    pub unknown: u64,
    /// By id of the token, up to the largest id.
    pub by_id: Vec<u64>,
}

impl TokenCounts {
    /// Adds the tokens of a text, with the number of the word of each.
    pub(crate) fn add(&mut self, ids: &[u32], words: &[Option<u32>], unknown: Option<u32>) {
        for id in ids {
            let index = *id as usize;
            if index >= self.by_id.len() {
                self.by_id.resize(index + 1, 0);
            }
            self.by_id[index] += 1;
            self.unknown += u64::from(Some(*id) == unknown);
        }
        for word in words.chunk_by(|a, b| a.is_some() && a == b).filter(|word| word[0].is_some()) {
            self.words += 1;
            self.split_words += u64::from(word.len() > 1);
        }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> u64 {
        self.by_id.iter().sum()
    }

    /// Share of the tokens that stand for something unknown, from 0 to 1.
    pub fn unknown_share(&self) -> f64 {
        self.unknown as f64 / self.tokens().max(1) as f64
    }

    /// Share of the words that are split into several tokens, from 0 to 1.
    pub fn split_share(&self) -> f64 {
        self.split_words as f64 / self.words.max(1) as f64
    }

    /// 1 less the Jensen-Shannon divergence of the frequencies of the tokens, in bits (Lin, "Divergence measures based on the Shannon
    /// entropy", 1991): 1 for equal frequencies, 0 where no token is in both.
    pub fn similarity(&self, other: &Self) -> f64 {
        let (all, all_other) = (self.tokens().max(1) as f64, other.tokens().max(1) as f64);
        let count = |counts: &[u64], id: usize| counts.get(id).copied().unwrap_or_default() as f64;
        let term = |share: f64, mean: f64| if share > 0.0 { share * (share / mean).log2() } else { 0.0 };
        let divergence: f64 = (0..self.by_id.len().max(other.by_id.len()))
            .map(|id| {
                let (p, q) = (count(&self.by_id, id) / all, count(&other.by_id, id) / all_other);
                (term(p, f64::midpoint(p, q)) + term(q, f64::midpoint(p, q))) / 2.0
            })
            .sum();
        (1.0 - divergence).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(by_id: &[u64]) -> TokenCounts {
        TokenCounts { by_id: by_id.to_vec(), ..TokenCounts::default() }
    }

    #[test]
    fn words_of_several_tokens_and_unknown_tokens_are_counted() {
        let mut counts = TokenCounts::default();
        counts.add(&[5, 1, 5, 2], &[Some(0), Some(0), Some(1), None], Some(1));
        counts.add(&[2], &[Some(0)], Some(1));
        assert_eq!(counts, TokenCounts { words: 3, split_words: 1, unknown: 1, by_id: vec![0, 1, 2, 0, 0, 2] });
        assert_eq!((counts.tokens(), counts.unknown_share(), counts.split_share()), (5, 0.2, 1.0 / 3.0));
        assert_eq!(TokenCounts::default().unknown_share(), 0.0);
    }

    #[test]
    fn similarity_is_1_for_equal_frequencies_and_0_without_a_common_token() {
        assert!((counts(&[1, 2]).similarity(&counts(&[10, 20])) - 1.0).abs() < 1e-12);
        assert_eq!(counts(&[1]).similarity(&counts(&[0, 1])), 0.0);
        // By hand: p = (1, 0), q = (1/2, 1/2): 1 − (log2(4/3) + (log2(2/3) + 1) / 2) / 2.
        let expected = 1.0 - ((4.0f64 / 3.0).log2() + f64::midpoint((2.0f64 / 3.0).log2(), 1.0)) / 2.0;
        assert!((counts(&[1]).similarity(&counts(&[1, 1])) - expected).abs() < 1e-12);
    }
}
