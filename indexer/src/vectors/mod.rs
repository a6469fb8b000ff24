//! Writes the vectors of a bundle: matrices and HNSW graphs.

mod hnsw;
mod kept_graphs;
mod matrix;

pub use hnsw::{Hnsw, build, recall};
pub use kept_graphs::{EarlierGraphs, GraphPlan, extend};
pub use matrix::MatrixWriter;

#[cfg(test)]
mod tests;
