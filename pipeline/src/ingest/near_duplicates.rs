//! Duplicates by Jaccard similarity of code tokens, with the thresholds of `dpu_utils` (`codeutils/deduplication`, after
//! Allamanis, "The adverse effects of code duplication", 2019). Two functions are duplicates when the Jaccard index of their
//! token *sets* is at least 0.8 and that of their *multisets* is at least 0.7. Functions with fewer than 10 tokens are
//! duplicates only when their token sequences are equal.
//!
//! Candidates come from MinHash with banding (LSH); each candidate is compared exactly. A row is compared with the unique rows
//! before it, so the result depends on the order of the rows only. Memory: about 300 bytes per unique row; the bags are in a
//! temporary file.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt, path::Path};

use ledger::Split;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bag::{Bag, HASHES, LowBits, Sketch};
use crate::error::{Context, Result};

/// Rows of one band key that are compared. A larger family (thousands of generated accessors that are not quite duplicates)
/// would make the cost quadratic; the other bands still find its duplicates.
const MAX_ROWS_PER_KEY: usize = 16;

/// Section `ingest.duplicates`: thresholds from which two functions are duplicates.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Thresholds {
    /// Smallest Jaccard index of the token sets, from 0 to 1.
    pub set: f64,
    /// Smallest Jaccard index of the token multisets, from 0 to 1.
    pub multiset: f64,
    /// Functions with fewer tokens are duplicates only when their token sequences are equal.
    pub min_tokens: usize,
}

/// Result for a row that duplicates a unique row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// Number of the unique row.
    pub of: u32,
}

/// The unique rows so far.
pub struct UniqueRows {
    /// None: every row counts as unique.
    thresholds: Option<Thresholds>,
    bands: Vec<Band>,
    sequences: HashMap<u64, u32>,
    bits: Vec<LowBits>,
    splits: Vec<Split>,
    bags: BagFile,
    min_agreeing: u32,
}

impl Thresholds {
    /// Are these two bags duplicates?
    pub fn are_duplicates(&self, a: &Bag, b: &Bag) -> bool {
        let (set, multiset) = a.jaccard(b);
        set >= self.set && multiset >= self.multiset
    }

    /// Values per band of the sketches that are compared. Fewer values find less similar pairs, and more candidates.
    pub fn rows_of(thresholds: Option<&Self>) -> usize {
        thresholds.map_or(HASHES, Self::rows_per_band)
    }

    /// Values per band. A pair at the threshold is missed with probability (1 − setʳ)^(64/r): 0.0002 at 0.8
    /// with 4, 0.006 at 0.6 with 3, 0.004 at 0.4 with 2.
    fn rows_per_band(&self) -> usize {
        match self.set {
            set if set >= 0.75 => 4,
            set if set >= 0.55 => 3,
            set if set >= 0.35 => 2,
            _ => 1,
        }
    }

    /// Smallest number of agreeing values of a candidate. A pair at the threshold has fewer with a probability of one in four
    /// thousand (3.5 standard deviations of a binomial).
    fn min_agreeing(&self) -> u32 {
        let set = self.set.clamp(0.0, 1.0);
        let agree = set + (1.0 - set) / 16.0;
        let spread = (HASHES as f64 * agree * (1.0 - agree)).sqrt();
        (HASHES as f64 * agree - 3.5 * spread).max(0.0) as u32
    }
}

impl UniqueRows {
    /// `scratch`: folder of the temporary file.
    pub fn new(thresholds: Option<Thresholds>, scratch: &Path) -> Result<Self> {
        let rows = Thresholds::rows_of(thresholds.as_ref());
        Ok(Self {
            min_agreeing: thresholds.as_ref().map_or(0, Thresholds::min_agreeing),
            thresholds,
            bands: (0..HASHES / rows).map(|_| Band::default()).collect(),
            sequences: HashMap::new(),
            bits: Vec::new(),
            splits: Vec::new(),
            bags: BagFile::new(scratch)?,
        })
    }

    /// The split of a unique row.
    pub fn split(&self, number: u32) -> Split {
        self.splits[number as usize]
    }

    /// Adds a unique row and returns its number, or returns which row it duplicates.
    pub fn insert(&mut self, bag: &Bag, sketch: &Sketch, split: Split) -> Result<std::result::Result<u32, Duplicate>> {
        let number = u32::try_from(self.splits.len()).context("more than 4 billion rows")?;
        let Some(thresholds) = &self.thresholds else {
            self.splits.push(split);
            return Ok(Ok(number));
        };
        let is_code = bag.total() > 0;
        if let Some(&of) = self.sequences.get(&sketch.sequence).filter(|_| is_code) {
            return Ok(Err(Duplicate { of }));
        }
        if bag.total() >= thresholds.min_tokens {
            if let Some(of) = self.find_near(thresholds, bag, sketch)? {
                return Ok(Err(Duplicate { of }));
            }
            for (band, &key) in self.bands.iter_mut().zip(&sketch.bands) {
                band.insert(key, number);
            }
        }
        if is_code {
            self.sequences.insert(sketch.sequence, number);
        }
        self.bits.push(sketch.bits);
        self.splits.push(split);
        self.bags.push(bag)?;
        Ok(Ok(number))
    }

    /// The first unique row that this row nearly duplicates.
    fn find_near(&self, thresholds: &Thresholds, bag: &Bag, sketch: &Sketch) -> Result<Option<u32>> {
        let keys = &sketch.bands;
        // All first slots are loaded before any is used, so that their cache misses overlap.
        let first: Vec<u32> = self.bands.iter().zip(keys).map(|(band, &key)| band.first(key)).collect();
        let mut candidates: Vec<u32> = Vec::new();
        for ((band, &key), first) in self.bands.iter().zip(keys).zip(first) {
            if first != FREE {
                candidates.extend(band.of_key(key));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|&candidate| self.bits[candidate as usize].agreeing(&sketch.bits) >= self.min_agreeing);
        for candidate in candidates {
            let (few, many) = order(bag.distinct(), self.bags.distinct(candidate));
            if few as f64 >= thresholds.set * many as f64 && thresholds.are_duplicates(&self.bags.get(candidate)?, bag) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}

fn order(a: usize, b: usize) -> (usize, usize) {
    if a <= b { (a, b) } else { (b, a) }
}

/// Hash table from band key to unique rows: open addressing, eight bytes per slot.
#[derive(Default)]
struct Band {
    slots: Vec<(u32, u32)>,
    len: usize,
}

/// Row number of a free slot.
const FREE: u32 = u32::MAX;

impl Band {
    /// Slots that can hold a key, in order.
    fn probe(&self, key: u32) -> impl Iterator<Item = usize> + use<> {
        let (len, mask) = (self.slots.len(), self.slots.len().wrapping_sub(1));
        (0..len).map(move |step| (key as usize).wrapping_add(step) & mask)
    }

    /// The row in the first slot of a key; `FREE` where no row has it.
    fn first(&self, key: u32) -> u32 {
        self.slots.get(key as usize & self.slots.len().wrapping_sub(1)).map_or(FREE, |slot| slot.1)
    }

    fn of_key(&self, key: u32) -> impl Iterator<Item = u32> {
        self.probe(key)
            .map(|slot| self.slots[slot])
            .take_while(|&(_, row)| row != FREE)
            .filter(move |&(other, _)| other == key)
            .map(|(_, row)| row)
    }

    fn insert(&mut self, key: u32, row: u32) {
        if self.len * 4 >= self.slots.len() * 3 {
            let slots = vec![(0, FREE); (self.slots.len() * 2).max(1024)];
            for (key, row) in std::mem::replace(&mut self.slots, slots).into_iter().filter(|&(_, row)| row != FREE) {
                self.put(key, row);
            }
        }
        let mut of_key = 0;
        for slot in self.probe(key) {
            let (other, used_by) = self.slots[slot];
            if used_by == FREE {
                self.slots[slot] = (key, row);
                self.len += 1;
                return;
            }
            of_key += usize::from(other == key);
            if of_key == MAX_ROWS_PER_KEY {
                return;
            }
        }
    }

    fn put(&mut self, key: u32, row: u32) {
        if let Some(slot) = self.probe(key).find(|&slot| self.slots[slot].1 == FREE) {
            self.slots[slot] = (key, row);
        }
    }
}

/// Bags in an unnamed file, one after the other. The last ones are still in memory.
struct BagFile {
    file: File,
    /// Offset at which each bag ends.
    ends: Vec<u64>,
    flushed: u64,
    tail: Vec<u8>,
}

/// Bytes that are written to the file at once.
const TAIL_BYTES: usize = 1 << 20;

impl BagFile {
    fn new(scratch: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(scratch).with_context(|| format!("creating a temporary file in {}", scratch.display()))?;
        Ok(Self { file, ends: Vec::new(), flushed: 0, tail: Vec::new() })
    }

    fn push(&mut self, bag: &Bag) -> Result<()> {
        bag.write(&mut self.tail);
        self.ends.push(self.flushed + self.tail.len() as u64);
        if self.tail.len() >= TAIL_BYTES {
            self.file.write_all_at(&self.tail, self.flushed).context("writing the temporary file of near-duplicates")?;
            self.flushed += self.tail.len() as u64;
            self.tail.clear();
        }
        Ok(())
    }

    fn range(&self, number: u32) -> (u64, usize) {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start, usize::try_from(self.ends[number] - start).unwrap_or(usize::MAX))
    }

    fn distinct(&self, number: u32) -> usize {
        self.range(number).1 / Bag::ENTRY_BYTES
    }

    fn get(&self, number: u32) -> Result<Bag> {
        let (start, length) = self.range(number);
        if let Some(offset) = start.checked_sub(self.flushed) {
            let offset = usize::try_from(offset)?;
            return Ok(Bag::read(&self.tail[offset..offset + length]));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).context("reading the temporary file of near-duplicates")?;
        Ok(Bag::read(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::IndexedRandom};
    use rand_chacha::ChaCha8Rng;

    const THRESHOLDS: Thresholds = Thresholds { set: 0.8, multiset: 0.7, min_tokens: 10 };

    fn insert(rows: &mut UniqueRows, text: &str) -> std::result::Result<u32, Duplicate> {
        let (bag, sketch) = Bag::seeded(0, text.split_whitespace(), 4);
        rows.insert(&bag, &sketch, Split::Train).unwrap()
    }

    #[test]
    fn a_renamed_copy_is_a_duplicate_and_a_short_one_only_when_it_is_equal() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = UniqueRows::new(Some(THRESHOLDS), dir.path()).unwrap();
        let body = "def f ( a , b ) : for x in range ( a ) : b . append ( x * 2 + 1 ) return sorted ( b )";
        assert_eq!(insert(&mut rows, body), Ok(0));
        assert_eq!(insert(&mut rows, body), Err(Duplicate { of: 0 }));
        assert_eq!(insert(&mut rows, &body.replace(" f ", " g ")), Err(Duplicate { of: 0 }));
        assert_eq!(insert(&mut rows, "def h ( ) : pass"), Ok(1));
        assert_eq!(insert(&mut rows, "def i ( ) : pass"), Ok(2));
        assert_eq!(insert(&mut rows, "def h ( ) : pass"), Err(Duplicate { of: 1 }));
        assert_eq!(insert(&mut rows, ""), Ok(3));
        assert_eq!(insert(&mut rows, ""), Ok(4), "rows without tokens are never duplicates");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the scratch file has no name");
    }

    /// Index of the sets and of the multisets.
    fn indices(a: &str, b: &str) -> (f64, f64) {
        let bag = |text: &str| Bag::seeded(0, text.split_whitespace(), 4).0;
        bag(a).jaccard(&bag(b))
    }

    #[test]
    fn both_thresholds_must_be_reached() {
        let words = |range: std::ops::Range<u32>| range.map(|n| format!("w{n} ")).collect::<String>();
        let body = words(0..10);
        // Equal sets, and so many repeated tokens that the multisets differ.
        let repeated = format!("{body}{}", "w0 ".repeat(5));
        assert_eq!(indices(&body, &repeated), (1.0, 10.0 / 15.0));
        let twice = format!("{body}{}", "w0 ".repeat(4));
        assert_eq!(indices(&body, &twice), (1.0, 10.0 / 14.0));
        // Nearly equal multisets of sets that differ.
        let (many, other) = (format!("{}{}", "w0 ".repeat(40), words(1..6)), format!("{}{}", "w0 ".repeat(40), words(3..8)));
        let (set, multiset) = indices(&many, &other);
        assert!(set < 0.8 && multiset > 0.8, "{set} {multiset}");
        for (a, b, is_duplicate) in [(&body, &repeated, false), (&body, &twice, true), (&many, &other, false)] {
            let dir = tempfile::tempdir().unwrap();
            let mut rows = UniqueRows::new(Some(THRESHOLDS), dir.path()).unwrap();
            assert_eq!(insert(&mut rows, a), Ok(0));
            assert_eq!(insert(&mut rows, b), if is_duplicate { Err(Duplicate { of: 0 }) } else { Ok(1) }, "{a} and {b}");
            let bag = |text: &str| Bag::seeded(0, text.split_whitespace(), 4).0;
            assert_eq!(THRESHOLDS.are_duplicates(&bag(a), &bag(b)), is_duplicate, "{a} and {b}");
        }
    }

    /// The values of the comments: a pair at the threshold is nearly always a candidate.
    #[test]
    fn the_search_is_adapted_to_the_threshold() {
        let of = |set: f64| {
            let thresholds = Thresholds { set, ..THRESHOLDS };
            (thresholds.rows_per_band(), thresholds.min_agreeing())
        };
        assert_eq!([1.0, 0.8, 0.75, 0.6, 0.4, 0.2, 0.0].map(of), [(4, 64), (4, 41), (4, 37), (3, 26), (2, 14), (1, 3), (1, 0)]);
    }

    #[test]
    fn without_thresholds_every_row_is_unique_and_keeps_its_split() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = UniqueRows::new(None, dir.path()).unwrap();
        for (number, split) in [(0, Split::Train), (1, Split::Test), (2, Split::Valid)] {
            let (bag, sketch) = Bag::seeded(0, "a b c d e f g h i j k".split_whitespace(), HASHES);
            assert_eq!(rows.insert(&bag, &sketch, split).unwrap(), Ok(number));
            assert_eq!(rows.split(number), split);
        }
    }

    #[test]
    fn bags_are_read_from_the_file_and_from_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = BagFile::new(dir.path()).unwrap();
        let bags: Vec<Bag> = (0..4000u32)
            .map(|n| Bag::seeded(0, (0..n % 200).map(|m| format!("{}", m * n)).collect::<Vec<_>>().iter().map(String::as_str), 4).0)
            .collect();
        bags.iter().for_each(|bag| file.push(bag).unwrap());
        assert!(file.flushed > 0 && !file.tail.is_empty());
        for (number, bag) in (0u32..).zip(&bags) {
            assert_eq!(&file.get(number).unwrap(), bag);
        }
    }

    /// The search finds at least 99 % of the duplicates that a comparison of all pairs finds, and no other rows.
    #[test]
    fn the_search_agrees_with_a_comparison_of_all_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut bags: Vec<(Bag, Sketch)> = Vec::new();
        let mut texts: Vec<Vec<u32>> = Vec::new();
        for _ in 0..3000 {
            let text: Vec<u32> = match texts.choose(&mut rng).filter(|_| rng.random_bool(0.6)).cloned() {
                // A copy with some tokens replaced, so that its index is on either side of the thresholds.
                Some(mut copy) => {
                    let share = rng.random_range(0.0..0.25);
                    for token in &mut copy {
                        if rng.random_bool(share) {
                            *token = rng.random_range(0..5000);
                        }
                    }
                    copy
                }
                None => (0..rng.random_range(8..120)).map(|_| rng.random_range(0..5000)).collect(),
            };
            let words: Vec<String> = text.iter().map(u32::to_string).collect();
            bags.push(Bag::seeded(0, words.iter().map(String::as_str), 4));
            texts.push(text);
        }
        let dir = tempfile::tempdir().unwrap();
        let mut rows = UniqueRows::new(Some(THRESHOLDS), dir.path()).unwrap();
        let mut numbers: Vec<&(Bag, Sketch)> = Vec::new();
        let (mut by_pairs, mut found) = (0, 0);
        for entry in &bags {
            let is_same = |other: &&&(Bag, Sketch)| {
                other.1.sequence == entry.1.sequence
                    || entry.0.total() >= 10 && other.0.total() >= 10 && THRESHOLDS.are_duplicates(&other.0, &entry.0)
            };
            let is_duplicate = numbers.iter().any(|other| is_same(&other));
            by_pairs += usize::from(is_duplicate);
            match rows.insert(&entry.0, &entry.1, Split::Train).unwrap() {
                Ok(_) => numbers.push(entry),
                Err(Duplicate { of, .. }) => {
                    assert!(is_same(&&numbers[of as usize]), "the row is a duplicate of the named row");
                    found += 1;
                }
            }
        }
        assert!(by_pairs > 500, "{by_pairs}");
        assert!(found as f64 >= 0.99 * by_pairs as f64, "{found} of {by_pairs}");
    }

    #[test]
    fn a_key_keeps_a_limited_number_of_rows() {
        let mut band = Band::default();
        (0..2 * MAX_ROWS_PER_KEY as u32).for_each(|row| band.insert(7, row));
        band.insert(8, 1);
        assert_eq!(band.of_key(7).collect::<Vec<_>>(), (0..MAX_ROWS_PER_KEY as u32).collect::<Vec<_>>());
        assert_eq!((band.of_key(8).collect::<Vec<_>>(), band.first(700)), (vec![1], FREE));
    }
}
