//! The operations that encoders are made of, over packed rows, with two implementations: [`stock`] composes burn's own
//! operations and runs on every backend; [`fused`] has kernels of its own for the CPU, forward and backward
//! (`docs/fused-ops.md`).
//!
//! Packed: the sequences of a batch lie behind each other without padding. B = sequences, N = tokens of all of them,
//! T = the longest, D = width, H = heads.

pub mod fused;
pub mod stock;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};

/// Where each sequence of a packed batch lies: sequence `b` has the tokens `ends[b-1]..ends[b]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    ends: Arc<[usize]>,
    longest: usize,
}

/// Numbers that are set to zero at random, the others scaled by 1 / (1 − p) (Srivastava et al. 2014, inverted).
/// The choice is a function of seed and place alone, so that both implementations, and a resumed run, make the same.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub probability: f32,
    pub seed: u64,
}

/// Which rows of a table each sequence adds up, sparse: `[B, U]` by rows and by columns.
#[derive(Debug, Clone)]
pub struct Bags {
    pub layout: Layout,
    /// Row of the table for each token.
    pub slots: Arc<[u32]>,
}

/// The operations. Shapes as in the module's legend; `slots` are row numbers of a table.
pub trait Ops<B: Backend>: Sync + Send {
    /// `x·w + b`, `x: [N, I]`, `w: [I, O]`, `b: [O]`.
    fn linear(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>) -> Tensor<B, 2>;
    /// `x Φ(x)`, with the exact normal distribution (Hendrycks & Gimpel 2016).
    fn gelu(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;
    /// Layer normalisation of `x + residual` (Ba et al. 2016), over the width.
    fn add_norm(
        &self,
        x: Tensor<B, 2>,
        residual: Option<Tensor<B, 2>>,
        gamma: Tensor<B, 1>,
        beta: Tensor<B, 1>,
        epsilon: f64,
    ) -> Tensor<B, 2>;
    /// Rows of a table: `[U, D] -> [N, D]`.
    fn select(&self, table: Tensor<B, 2>, slots: &Arc<[u32]>) -> Tensor<B, 2>;
    /// Self-attention of each sequence over itself (Vaswani et al. 2017, eq. 1): `qkv: [N, 3D] -> [N, D]`.
    fn attention(&self, qkv: Tensor<B, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<B, 2>;
    /// Convolution over time, as long as its input: `x: [N, I]`, `w: [K·I, O]`, `b: [O]`, zeros beyond both ends,
    /// ⌊(K−1)/2⌋ of the K taps before the token.
    fn convolution(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>, layout: &Layout) -> Tensor<B, 2>;
    /// A layer of LSTM (Hochreiter & Schmidhuber 1997, with forget gates) in one direction: `gates: [N, 4D]` are the
    /// inputs' part of the gates i, f, g, o with their bias; `w: [D, 4D]` the recurrence.
    fn lstm(&self, gates: Tensor<B, 2>, w: Tensor<B, 2>, layout: &Layout, backwards: bool) -> Tensor<B, 2>;
    /// `Σ_t w_t x_t / Σ_t w_t` of each sequence, `[B, D]`; without weights they are 1. A sequence without tokens is 0.
    fn mean(&self, x: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, layout: &Layout) -> Tensor<B, 2>;
    /// The largest of each column over each sequence, `[B, D]`. A sequence without tokens is 0.
    fn max(&self, x: Tensor<B, 2>, layout: &Layout) -> Tensor<B, 2>;
    /// [`Ops::mean`] of selected rows of a table, whose weights belong to the rows: `table: [U, D]`, `weights: [U]`.
    fn bag(&self, table: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, bags: &Bags) -> Tensor<B, 2>;
    fn dropout(&self, x: Tensor<B, 2>, dropout: Dropout) -> Tensor<B, 2>;
}

/// Keeps divisions by a sum of weights defined.
pub const TINY: f32 = 1e-12;
/// Keeps divisions by a length defined, as its square: a row of zeros stays one, any other gets length 1.
pub const SHORTEST: f32 = 1e-30;

impl Layout {
    /// From the number of tokens of each sequence.
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

    pub fn sequences(&self) -> usize {
        self.ends.len()
    }

    pub fn tokens(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    pub fn longest(&self) -> usize {
        self.longest
    }

    pub fn range(&self, sequence: usize) -> std::ops::Range<usize> {
        let start = if sequence == 0 { 0 } else { self.ends[sequence - 1] };
        start..self.ends[sequence]
    }

    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        (0..self.sequences()).map(|sequence| self.range(sequence))
    }
}

impl Dropout {
    /// One generator a layer: another stream of the same seed.
    pub fn threshold(&self) -> u32 {
        (f64::from(self.probability) * f64::from(u32::MAX)) as u32
    }

    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    /// 0, or the scale, for the number at this place.
    #[inline(always)]
    pub fn factor(threshold: u32, scale: f32, key: u32, place: u32) -> f32 {
        if mix(place ^ key) >= threshold { scale } else { 0.0 }
    }

    /// The seed as the 32 bits that places are mixed with.
    pub fn key(&self) -> u32 {
        mix(self.seed as u32) ^ mix((self.seed >> 32) as u32 ^ 0x9e37_79b9)
    }

    /// Where the attention of token `i` (of the batch) to the `j`-th of its sequence lies, in head `h`.
    #[inline(always)]
    pub fn attention_row(h: usize, i: usize) -> u32 {
        (h as u32).wrapping_mul(0x85eb_ca6b) ^ (i as u32).wrapping_mul(0xc2b2_ae35)
    }
}

/// A bijection of 32 bits without visible pattern (lowbias32 of Wellons' hash-prospector).
#[inline(always)]
pub fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
