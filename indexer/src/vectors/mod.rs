//! Writes the vectors of a bundle: matrices and HNSW graphs.

mod hnsw;
mod matrix;

pub use hnsw::{Hnsw, build, recall};
pub use matrix::MatrixWriter;

#[cfg(test)]
mod tests;
