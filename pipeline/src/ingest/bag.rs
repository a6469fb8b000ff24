//! Code tokens of a function as a multiset of hashes (bag): Jaccard indices, and MinHash sketches to find near-duplicates.

use crate::records::Record;

/// Number of MinHash values of a bag.
pub const HASHES: usize = 64;

/// The tokens of a function as sorted hashes with their counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bag {
    counts: Vec<(u32, u16)>,
    total: usize,
}

/// Short description of the tokens of a function, for comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    /// Hash of the token sequence: equal for exact copies.
    pub sequence: u64,
    pub bits: LowBits,
    /// Keys of the bands of MinHash values.
    pub bands: Vec<u32>,
}

/// The smallest value of each hash function over the distinct tokens of a bag (Broder, "On the resemblance and containment of documents",
/// 1997). Two bags have an equal value with probability J(sets).
struct MinHashes([u32; HASHES]);

impl Bag {
    /// Bag and sketch of the code tokens of a record. Equal tokens of two languages have different hashes. `rows`: values per band.
    pub fn of(record: &Record, rows: usize) -> (Self, Sketch) {
        Self::seeded(record.language as u64 + 1, record.code_tokens.iter(), rows)
    }

    pub(super) fn seeded<'a>(seed: u64, tokens: impl Iterator<Item = &'a str>, rows: usize) -> (Self, Sketch) {
        let mut sequence = seed;
        let mut hashes: Vec<u32> = Vec::new();
        for token in tokens {
            let hash = mix(fnv(token.as_bytes()) ^ seed);
            sequence = mix(sequence ^ hash);
            hashes.push((hash >> 32) as u32);
        }
        let total = hashes.len();
        hashes.sort_unstable();
        let mut counts: Vec<(u32, u16)> = Vec::with_capacity(total);
        for hash in hashes {
            match counts.last_mut() {
                Some((last, count)) if *last == hash => *count = count.saturating_add(1),
                _ => counts.push((hash, 1)),
            }
        }
        let bag = Self { counts, total };
        let hashes = bag.min_hashes();
        let sketch = Sketch { sequence, bits: hashes.low_bits(), bands: hashes.bands(rows) };
        (bag, sketch)
    }

    /// Number of tokens, with repetitions.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Number of distinct tokens.
    pub fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// MinHash with multiply-shift hash functions: the token hashes are mixed already.
    fn min_hashes(&self) -> MinHashes {
        let mut mins = [u32::MAX; HASHES];
        for &(hash, _) in &self.counts {
            let hash = u64::from(hash);
            for (min, seed) in mins.iter_mut().zip(&SEEDS) {
                *min = (*min).min((seed.0.wrapping_mul(hash).wrapping_add(seed.1) >> 32) as u32);
            }
        }
        MinHashes(mins)
    }

    /// Jaccard indices of the sets and of the multisets, from 0 to 1.
    pub fn jaccard(&self, other: &Self) -> (f64, f64) {
        let (a, b) = (&self.counts, &other.counts);
        let (mut i, mut j) = (0, 0);
        let (mut common, mut least, mut most) = (0usize, 0usize, 0usize);
        while i < a.len() && j < b.len() {
            let ((x, n), (y, m)) = (a[i], b[j]);
            let (n, m) = (usize::from(n), usize::from(m));
            match x.cmp(&y) {
                std::cmp::Ordering::Equal => {
                    common += 1;
                    least += n.min(m);
                    most += n.max(m);
                    i += 1;
                    j += 1;
                }
                std::cmp::Ordering::Less => {
                    most += n;
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    most += m;
                    j += 1;
                }
            }
        }
        most += a[i..].iter().chain(&b[j..]).map(|&(_, n)| usize::from(n)).sum::<usize>();
        let union = a.len() + b.len() - common;
        (common as f64 / union.max(1) as f64, least as f64 / most.max(1) as f64)
    }

    /// Appends [`Bag::ENTRY_BYTES`] bytes per distinct token.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        for (hash, count) in &self.counts {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
    }

    /// Reads the bytes that [`Bag::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let counts: Vec<(u32, u16)> = bytes
            .chunks_exact(Self::ENTRY_BYTES)
            .map(|entry| (u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]), u16::from_le_bytes([entry[4], entry[5]])))
            .collect();
        let total = counts.iter().map(|&(_, count)| usize::from(count)).sum();
        Self { counts, total }
    }

    /// Bytes of a distinct token in a file.
    pub const ENTRY_BYTES: usize = 6;
}

impl MinHashes {
    /// The lowest four bits of every value. In two sketches they are equal for `HASHES · (J + (1 − J) / 16)` values on
    /// average (Li and König, "b-bit minwise hashing", 2010).
    fn low_bits(&self) -> LowBits {
        let mut planes = [0; 4];
        for (bit, plane) in planes.iter_mut().enumerate() {
            *plane = self.0.iter().enumerate().fold(0, |bits, (index, min)| bits | u64::from(min >> bit & 1) << index);
        }
        LowBits(planes)
    }

    /// Keys of the bands. A band has `rows` values.
    fn bands(&self, rows: usize) -> Vec<u32> {
        self.0.chunks_exact(rows).map(|band| (band.iter().fold(0, |key, &min| mix(key ^ u64::from(min))) >> 32) as u32).collect()
    }
}

/// Four bits of each MinHash value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowBits(pub [u64; 4]);

impl LowBits {
    /// Number of values whose four bits are equal.
    pub fn agreeing(&self, other: &Self) -> u32 {
        self.0.iter().zip(other.0).fold(u64::MAX, |agree, (x, y)| agree & !(x ^ y)).count_ones()
    }
}

/// Odd multipliers and addends, from the generator SplitMix64.
const SEEDS: [(u64, u64); HASHES] = {
    let mut seeds = [(0, 0); HASHES];
    let mut index = 0;
    while index < HASHES {
        let state = index as u64 * 2;
        seeds[index] = (mix(state) | 1, mix(state + 1));
        index += 1;
    }
    seeds
};

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The output function of SplitMix64.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bag(text: &str) -> (Bag, Sketch) {
        Bag::seeded(0, text.split_whitespace(), 4)
    }

    #[test]
    fn jaccard_of_sets_and_multisets() {
        let (set, multiset) = bag("a a b c").0.jaccard(&bag("a b b d").0);
        assert!((set - 2.0 / 4.0).abs() < 1e-12);
        // min counts: a 1, b 1; max counts: a 2, b 2, c 1, d 1
        assert!((multiset - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn the_order_of_tokens_changes_only_the_sequence_hash() {
        let ((a, left), (b, right)) = (bag("x = y ;"), bag("y = x ;"));
        assert_eq!((a, left.bits, left.bands), (b, right.bits, right.bands));
        assert_ne!(left.sequence, right.sequence);
    }

    proptest! {
        #[test]
        fn a_bag_is_read_as_written(texts in proptest::collection::vec("[a-d]{1,2}", 0..60)) {
            let (bag, _) = Bag::seeded(0, texts.iter().map(String::as_str), 4);
            let mut bytes = Vec::new();
            bag.write(&mut bytes);
            prop_assert_eq!(bytes.len(), bag.distinct() * Bag::ENTRY_BYTES);
            prop_assert_eq!(Bag::read(&bytes), bag);
        }

        /// The share of equal values estimates the index; the error may be five standard deviations of a binomial.
        #[test]
        fn sketches_estimate_the_index(common in 5usize..60, own in 0usize..30) {
            let set = |own_prefix: &str| Bag::seeded(0, (0..common).map(|n| format!("c{n}")).chain((0..own).map(|n| format!("{own_prefix}{n}")))
                .collect::<Vec<_>>().iter().map(String::as_str), 4).0;
            let (a, b) = (set("a"), set("b"));
            let (left, right) = (a.min_hashes(), b.min_hashes());
            let index = a.jaccard(&b).0;
            let agree = left.0.iter().zip(&right.0).filter(|(x, y)| x == y).count() as f64 / HASHES as f64;
            let allowed = 5.0 * (index * (1.0 - index) / HASHES as f64).sqrt() + 1e-9;
            prop_assert!((agree - index).abs() <= allowed, "{} for {}", agree, index);
        }
    }
}
