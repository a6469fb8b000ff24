//! Positions of sequences in a packed batch.

use std::{ops::Range, sync::Arc};

/// Where each sequence of a packed batch is: sequence `b` has the tokens `ends[b - 1]..ends[b]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    ends: Arc<[usize]>,
    longest: usize,
}

/// Sums of table rows for each sequence: which row each token selects.
#[derive(Debug, Clone)]
pub struct Bags {
    pub layout: Layout,
    /// Row number in the table, for each token.
    pub slots: Arc<[u32]>,
}

impl Layout {
    /// The layout of sequences with these numbers of tokens; a length may be 0.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let ends: Vec<usize> = lengths
            .into_iter()
            .map(|length| {
                end += length;
                end
            })
            .collect();
        let longest = (0..ends.len()).map(|b| ends[b] - if b == 0 { 0 } else { ends[b - 1] }).max().unwrap_or_default();
        Self { ends: ends.into(), longest }
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.ends.len()
    }

    /// Number of tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Number of tokens of the longest sequence; 0 without sequences.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Tokens of a sequence.
    pub fn range(&self, sequence: usize) -> Range<usize> {
        let start = if sequence == 0 { 0 } else { self.ends[sequence - 1] };
        start..self.ends[sequence]
    }

    /// Tokens of every sequence, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.sequences()).map(|sequence| self.range(sequence))
    }
}
