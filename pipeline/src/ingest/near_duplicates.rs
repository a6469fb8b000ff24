//! Near-duplicates by Jaccard similarity of code tokens, with the thresholds of `dpu_utils`
//! (`codeutils/deduplication`, after Allamanis, "The adverse effects of code duplication", 2019):
//! two functions are duplicates when the Jaccard index of their token *sets* is at least 0.8 and
//! that of their *multisets* at least 0.7; functions with fewer than 10 tokens are left alone.
//!
//! Candidates come from MinHash with banding (LSH); each is checked exactly. A row is compared with
//! the rows kept before it, so the result depends on their order only.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Bands × rows of the MinHash signature: at a Jaccard index of 0.8 a pair is missed with
/// probability (1 − 0.8⁴)¹⁶ ≈ 0.0002.
const BANDS: usize = 16;
const ROWS: usize = 4;

/// Section `ingest.duplicates`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Thresholds {
    pub set: f64,
    pub multiset: f64,
    pub min_tokens: usize,
}

/// A function's tokens as hashes: sorted, with their counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bag {
    counts: Vec<(u32, u16)>,
    total: usize,
}

/// MinHash bands of a bag.
pub type Signature = [u64; BANDS];

impl Bag {
    pub fn new<'a>(tokens: impl Iterator<Item = &'a str>) -> Self {
        let mut hashes: Vec<u32> = tokens.map(|token| mix(fnv(token.as_bytes()), 0) as u32).collect();
        let total = hashes.len();
        hashes.sort_unstable();
        let mut counts: Vec<(u32, u16)> = Vec::new();
        for hash in hashes {
            match counts.last_mut() {
                Some((last, count)) if *last == hash => *count = count.saturating_add(1),
                _ => counts.push((hash, 1)),
            }
        }
        Self { counts, total }
    }

    pub fn signature(&self) -> Signature {
        let mut signature = [0; BANDS];
        for (band, value) in signature.iter_mut().enumerate() {
            let mut key = 0;
            for row in 0..ROWS {
                let seed = (band * ROWS + row + 1) as u64;
                let least = self.counts.iter().map(|&(hash, _)| mix(u64::from(hash), seed)).min();
                key = mix(key ^ least.unwrap_or_default(), seed);
            }
            *value = key;
        }
        signature
    }

    /// Jaccard index of the sets and of the multisets.
    pub fn jaccard(&self, other: &Self) -> (f64, f64) {
        let (mut a, mut b) = (self.counts.iter().peekable(), other.counts.iter().peekable());
        let (mut common, mut least, mut most) = (0usize, 0usize, 0usize);
        loop {
            match (a.peek(), b.peek()) {
                (Some(&&(x, n)), Some(&&(y, m))) => {
                    if x == y {
                        common += 1;
                        least += usize::from(n.min(m));
                        most += usize::from(n.max(m));
                        a.next();
                        b.next();
                    } else if x < y {
                        most += usize::from(n);
                        a.next();
                    } else {
                        most += usize::from(m);
                        b.next();
                    }
                }
                (Some(&&(_, n)), None) | (None, Some(&&(_, n))) => {
                    most += usize::from(n);
                    a.next();
                    b.next();
                }
                (None, None) => break,
            }
        }
        let union = self.counts.len() + other.counts.len() - common;
        (common as f64 / union.max(1) as f64, least as f64 / most.max(1) as f64)
    }
}

impl Thresholds {
    fn are_duplicates(&self, a: &Bag, b: &Bag) -> bool {
        let (set, multiset) = a.jaccard(b);
        set >= self.set && multiset >= self.multiset
    }
}

/// The rows kept so far.
#[derive(Debug)]
pub struct Kept {
    thresholds: Thresholds,
    bags: Vec<Bag>,
    bands: Vec<HashMap<u64, Vec<u32>>>,
}

impl Kept {
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, bags: Vec::new(), bands: vec![HashMap::new(); BANDS] }
    }

    /// Keeps the bag, or names the kept row (by its number) that it duplicates.
    pub fn offer(&mut self, bag: Bag, signature: &Signature) -> Result<u32, u32> {
        let number = u32::try_from(self.bags.len()).unwrap_or(u32::MAX);
        if bag.total < self.thresholds.min_tokens {
            self.bags.push(bag);
            return Ok(number);
        }
        let mut checked = Vec::new();
        for (band, key) in self.bands.iter().zip(signature) {
            for &candidate in band.get(key).into_iter().flatten() {
                if !checked.contains(&candidate) {
                    checked.push(candidate);
                    if self.thresholds.are_duplicates(&self.bags[candidate as usize], &bag) {
                        return Err(candidate);
                    }
                }
            }
        }
        for (band, key) in self.bands.iter_mut().zip(signature) {
            band.entry(*key).or_default().push(number);
        }
        self.bags.push(bag);
        Ok(number)
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of SplitMix64 over a seeded value.
fn mix(value: u64, seed: u64) -> u64 {
    let mut z = value.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLDS: Thresholds = Thresholds { set: 0.8, multiset: 0.7, min_tokens: 10 };

    fn bag(text: &str) -> Bag {
        Bag::new(text.split_whitespace())
    }

    #[test]
    fn jaccard_of_sets_and_multisets() {
        let (set, multiset) = bag("a a b c").jaccard(&bag("a b b d"));
        assert!((set - 2.0 / 4.0).abs() < 1e-12);
        // min counts: a 1, b 1; max counts: a 2, b 2, c 1, d 1
        assert!((multiset - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_renamed_copy_goes_and_a_short_one_stays() {
        let mut kept = Kept::new(THRESHOLDS);
        let mut offer = |text: &str| {
            let bag = bag(text);
            let signature = bag.signature();
            kept.offer(bag, &signature)
        };
        let body = "def f ( a , b ) : for x in range ( a ) : b . append ( x * 2 + 1 ) return sorted ( b )";
        assert_eq!(offer(body), Ok(0));
        assert_eq!(offer(&body.replace(" f ", " g ")), Err(0));
        assert_eq!(offer("def h ( ) : pass"), Ok(1));
        assert_eq!(offer("def h ( ) : pass"), Ok(2));
    }

    proptest! {
        /// LSH finds what a brute-force comparison finds.
        #[test]
        fn candidates_agree_with_brute_force(texts in proptest::collection::vec(proptest::collection::vec(0u8..40, 10..40), 2..30), copy in 0usize..30, change in 0usize..10) {
            let mut texts = texts;
            let mut twin = texts[copy % texts.len()].clone();
            let place = change % twin.len();
            twin[place] = 99;
            texts.push(twin);
            let bags: Vec<Bag> = texts.iter().map(|text| {
                let words: Vec<String> = text.iter().map(|n| format!("t{n}")).collect();
                Bag::new(words.iter().map(String::as_str))
            }).collect();
            let mut kept = Kept::new(THRESHOLDS);
            let mut brute: Vec<&Bag> = Vec::new();
            for bag in &bags {
                let by_force = brute.iter().any(|other| THRESHOLDS.are_duplicates(other, bag));
                let by_lsh = kept.offer(bag.clone(), &bag.signature()).is_err();
                prop_assert_eq!(by_lsh, by_force);
                if !by_force { brute.push(bag); }
            }
        }
    }
}
