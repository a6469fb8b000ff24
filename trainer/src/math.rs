//! What encoders and poolers are written in: operations by name of parameter, over the tokens of a batch.
//!
//! An encoder is written once. [`crate::tape`] runs it on tensors, for training; [`crate::onnx`] writes it down as a
//! graph, for the export. A new encoder therefore is one file, and can be exported when it compiles.

/// B = sequences, N = their tokens, D = width. Every name is below the scope of the encoder that is run.
pub trait Math {
    /// `[N, D]`
    type Tokens: Clone;
    /// `[B, D]`
    type Rows: Clone;

    /// Rows of a table by token id.
    fn embed(&mut self, table: &str) -> Self::Tokens;
    /// Rows of a table by place in the sequence.
    fn positions(&mut self, table: &str) -> Self::Tokens;
    /// `x·W + b` with `name.weight` and `name.bias`.
    fn linear(&mut self, x: &Self::Tokens, name: &str) -> Self::Tokens;
    fn add(&mut self, a: &Self::Tokens, b: &Self::Tokens) -> Self::Tokens;
    /// `a` and `b` side by side.
    fn concat(&mut self, a: &Self::Tokens, b: &Self::Tokens) -> Self::Tokens;
    /// LayerNorm of `x + residual` with `name.gamma` and `name.beta`.
    fn add_norm(&mut self, x: &Self::Tokens, residual: Option<&Self::Tokens>, name: &str, epsilon: f64) -> Self::Tokens;
    fn gelu(&mut self, x: &Self::Tokens) -> Self::Tokens;
    fn tanh(&mut self, x: &Self::Tokens) -> Self::Tokens;
    /// Queries, keys and values `[N, 3D] -> [N, D]`, each token over those of its sequence.
    fn attention(&mut self, qkv: &Self::Tokens, heads: usize, dropout: f32) -> Self::Tokens;
    /// Over time, as long as its input, with `name.weight: [K·I, O]` and `name.bias`.
    fn convolution(&mut self, x: &Self::Tokens, name: &str, kernel: usize) -> Self::Tokens;
    /// One direction of a layer, with `name.input` (linear, gates i, f, g, o) and `name.recurrent: [D, 4D]`.
    fn lstm(&mut self, x: &Self::Tokens, name: &str, backwards: bool) -> Self::Tokens;
    /// Nothing outside training.
    fn dropout(&mut self, x: &Self::Tokens, probability: f32) -> Self::Tokens;

    fn mean(&mut self, x: &Self::Tokens) -> Self::Rows;
    fn max(&mut self, x: &Self::Tokens) -> Self::Rows;
    /// `Σ w h / Σ w`, `w = sigmoid(h·a + b)` with the linear `name`.
    fn weighted_mean(&mut self, x: &Self::Tokens, name: &str) -> Self::Rows;
    /// The first token's.
    fn first(&mut self, x: &Self::Tokens) -> Self::Rows;
    /// [`Math::mean`], or with a name [`Math::weighted_mean`], of [`Math::embed`], without making the tokens' rows.
    fn bag(&mut self, table: &str, weigher: Option<&str>) -> Self::Rows;
    /// Divides by the Euclidean length.
    fn normalise(&mut self, rows: &Self::Rows) -> Self::Rows;
}
