//! Counts of words, computed when an index is written.
//!
//! `counts.npy` has one [`Count`] for each posting of the field `any`: segments in order, the terms of a segment in the order of its
//! dictionary, the rows of a term in order. `count-starts.npy` has where the counts of each term start, and where the last ones end.

use std::path::{Path, PathBuf};

use super::Part;
use crate::{Error, Result, error::Context, vectors::Npy};

/// File with the counts in a bundle: a vector u32 `[postings]`.
pub const COUNTS: &str = "counts.npy";
/// File with the starts of the terms in [`COUNTS`]: a vector u64 `[terms + 1]`.
pub const COUNT_STARTS: &str = "count-starts.npy";
/// Bits of a count that tell the groups of fields.
const PART_BITS: u32 = (1 << Part::ALL.len()) - 1;

/// The count of a word in all fields of a row (see [`Bm25f`](super::Bm25f)), and the groups of fields that have the word.
///
/// An f32 whose lowest four bits are replaced: bit i is set where a field of the i-th [`Part`] has the word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(u32);

impl Count {
    /// A count by its value, and one flag for each [`Part`].
    pub fn new(value: f32, parts: [bool; Part::ALL.len()]) -> Self {
        let bits = parts.into_iter().enumerate().map(|(part, has)| u32::from(has) << part).sum::<u32>();
        Self(value.to_bits() & !PART_BITS | bits)
    }

    /// A count as [`COUNTS`] has it.
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }

    /// A count for [`COUNTS`].
    pub fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// The weighted and length-normalised count; 0 where only fields of weight 0 have the word.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0 & !PART_BITS)
    }

    /// Has a field of the i-th [`Part`] the word?
    pub fn has(self, part: usize) -> bool {
        self.0 >> part & 1 == 1
    }
}

/// The counts of an open index.
#[derive(Debug)]
pub struct Counts {
    dir: PathBuf,
    counts: Npy,
    starts: Npy,
    /// By segment: number of terms in the segments before it.
    first_terms: Vec<usize>,
}

impl Counts {
    /// Maps the files of a bundle with this number of counts. `terms`: by segment, the number of terms of the field `any`.
    pub(super) fn open(dir: &Path, counts: usize, terms: &[usize]) -> Result<Self> {
        let mut first_terms = Vec::with_capacity(terms.len());
        let all = terms.iter().fold(0, |before, terms| {
            first_terms.push(before);
            before + terms
        });
        let counts = Npy::open(&dir.join(COUNTS), "<u4", &[counts], 4)?;
        let starts = Npy::open(&dir.join(COUNT_STARTS), "<u8", &[all + 1], 8)?;
        Ok(Self { dir: dir.to_owned(), counts, starts, first_terms })
    }

    /// The counts of the `rows` rows that have a term.
    pub(super) fn of_term(&self, segment: usize, ordinal: u64, rows: u32) -> Result<&[[u8; 4]]> {
        let index = self.first_terms.get(segment).copied().context("the segment has no counts")? + usize::try_from(ordinal)?;
        let start = self.starts.bytes().as_chunks::<8>().0.get(index).map(|start| u64::from_le_bytes(*start));
        let start = start.and_then(|start| usize::try_from(start).ok());
        start
            .and_then(|start| self.counts.bytes().as_chunks::<4>().0.get(start..start.checked_add(rows as usize)?))
            .ok_or_else(|| Error::damaged(self.dir.join(COUNT_STARTS), format!("term {index} has no {rows} counts in {COUNTS}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_keeps_its_value_to_six_digits_and_its_groups() {
        for value in [0.0, 1e-3, 0.5, 1.0, 2.7182817, 12345.678] {
            let count = Count::from_bytes(Count::new(value, [true, false, false, true]).to_bytes());
            assert!((count.value() - value).abs() <= value * 2e-6, "{value} {count:?}");
            assert_eq!(std::array::from_fn(|part| count.has(part)), [true, false, false, true]);
        }
    }
}
