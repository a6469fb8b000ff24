//! The operations that encoders and poolers are written in: they name parameters and work on the tokens of a batch.
//!
//! An encoder is written once. [`tape`](super::tape) runs it on tensors for training; `onnx` writes it as an ONNX graph for the export. A
//! new encoder is therefore one file, and can be exported as soon as it compiles.

/// Operations over a batch. B = sequences, N = tokens of all sequences, D = width. Names of parameters are relative to the scope of the
/// encoder that runs.
pub trait Math {
    /// `[N, D]`
    type Tokens: Clone;
    /// `[B, D]`
    type Rows: Clone;

    /// Rows of a table, selected by token id.
    fn embed(&mut self, table: &str) -> Self::Tokens;
    /// Rows of a table, selected by position in the sequence.
    fn positions(&mut self, table: &str) -> Self::Tokens;
    /// `x·W + b` with `name.weight` and `name.bias`.
    fn linear(&mut self, x: &Self::Tokens, name: &str) -> Self::Tokens;
    fn add(&mut self, a: &Self::Tokens, b: &Self::Tokens) -> Self::Tokens;
    /// `[a, b]`: the columns of `a`, then those of `b`.
    fn concat(&mut self, a: &Self::Tokens, b: &Self::Tokens) -> Self::Tokens;
    /// Layer normalisation of `x + residual` with `name.gamma` and `name.beta`.
    fn add_norm(&mut self, x: &Self::Tokens, residual: Option<&Self::Tokens>, name: &str, epsilon: f64) -> Self::Tokens;
    fn gelu(&mut self, x: &Self::Tokens) -> Self::Tokens;
    fn tanh(&mut self, x: &Self::Tokens) -> Self::Tokens;
    /// Self-attention within each sequence, from queries, keys and values: `[N, 3D] -> [N, D]`.
    fn attention(&mut self, qkv: &Self::Tokens, heads: usize, dropout: f32) -> Self::Tokens;
    /// Convolution over time with as many outputs as inputs, with `name.weight: [K·I, O]` and `name.bias`.
    fn convolution(&mut self, x: &Self::Tokens, name: &str, kernel: usize) -> Self::Tokens;
    /// One direction of an LSTM layer, with the linear `name.input` (gates i, f, g, o) and `name.recurrent: [D, 4D]`.
    fn lstm(&mut self, x: &Self::Tokens, name: &str, backwards: bool) -> Self::Tokens;
    /// Dropout in training; elsewhere `x` itself.
    fn dropout(&mut self, x: &Self::Tokens, probability: f32) -> Self::Tokens;

    fn mean(&mut self, x: &Self::Tokens) -> Self::Rows;
    fn max(&mut self, x: &Self::Tokens) -> Self::Rows;
    /// `Σ w h / Σ w`, `w = sigmoid(h·a + b)` with the linear `name`.
    fn weighted_mean(&mut self, x: &Self::Tokens, name: &str) -> Self::Rows;
    /// The vector of the first token.
    fn first(&mut self, x: &Self::Tokens) -> Self::Rows;
    /// [`Math::mean`] of [`Math::embed`], or with a linear `weigher` [`Math::weighted_mean`]; the rows of the tokens are not stored.
    fn bag(&mut self, table: &str, weigher: Option<&str>) -> Self::Rows;
    /// Divides each row by its Euclidean length.
    fn normalise(&mut self, rows: &Self::Rows) -> Self::Rows;
}
