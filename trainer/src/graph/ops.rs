//! The operations that encoders consist of, over packed rows: the sequences of a batch, concatenated without padding.
//!
//! There are two implementations. [`Stock`](super::stock::Stock) composes burn's own operations and runs on every backend.
//! [`Fused`](super::fused::Fused) calls the CPU kernels of the crate `kernels` (`docs/fused-ops.md`).
//!
//! B = sequences, N = tokens of all sequences, T = tokens of the longest sequence, D = width, H = heads, U = rows of a table.

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};
use kernels::{Bags, Dropout, Layout};

/// The operations. `slots` are row numbers of a table.
pub trait Ops<B: Backend>: Sync + Send {
    /// `x·w + b`, with `x: [N, I]`, `w: [I, O]` and `b: [O]`.
    fn linear(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>) -> Tensor<B, 2>;
    /// `x Φ(x)` (Hendrycks & Gimpel 2016), Φ being the distribution function of the standard normal distribution.
    fn gelu(&self, x: Tensor<B, 2>) -> Tensor<B, 2>;
    /// Layer normalisation of `x + residual` over the width (Ba et al. 2016).
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
    /// Self-attention within each sequence (Vaswani et al. 2017, eq. 1): `qkv: [N, 3D] -> [N, D]`.
    fn attention(&self, qkv: Tensor<B, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<B, 2>;
    /// Convolution over time with as many outputs as inputs: `x: [N, I]`, `w: [K·I, O]`, `b: [O]`. Zeros extend a sequence at both ends;
    /// ⌊(K−1)/2⌋ of the K taps precede the token.
    fn convolution(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>, layout: &Layout) -> Tensor<B, 2>;
    /// One layer of an LSTM in one direction (Hochreiter & Schmidhuber 1997, with forget gates). `gates: [N, 4D]` is the part of the
    /// gates i, f, g, o that the inputs give, with the bias; `w: [D, 4D]` is the recurrent weight.
    fn lstm(&self, gates: Tensor<B, 2>, w: Tensor<B, 2>, layout: &Layout, backwards: bool) -> Tensor<B, 2>;
    /// `Σ_t w_t x_t / Σ_t w_t` of each sequence, `[B, D]`; weights are 1 where none are given. A sequence without tokens gives 0.
    fn mean(&self, x: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, layout: &Layout) -> Tensor<B, 2>;
    /// Maximum of each column over each sequence, `[B, D]`. A sequence without tokens gives 0.
    fn max(&self, x: Tensor<B, 2>, layout: &Layout) -> Tensor<B, 2>;
    /// [`Ops::mean`] over selected rows of a table, `table: [U, D]`; each weight belongs to a row, `weights: [U]`.
    fn bag(&self, table: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, bags: &Bags) -> Tensor<B, 2>;
    /// Applies dropout factors to `x: [N, D]`.
    fn dropout(&self, x: Tensor<B, 2>, dropout: Dropout) -> Tensor<B, 2>;
}

/// Added to a squared length before a division by the length: a row of zeros remains 0, any other row gets length 1.
pub const LENGTH_EPSILON: f32 = 1e-30;
