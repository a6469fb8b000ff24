//! Columns of token ids to an encoder: `train -> export`.
//!
//! `nbow` is the encoder and `batches` what it sees; `loss` and `schedule` are pure functions;
//! `train` is the loop; `onnx` writes the graph and `export` checks it against the trainer.

mod batches;
pub mod cli;
mod export;
mod loss;
mod nbow;
mod onnx;
mod runtime;
mod schedule;
mod train;
mod vocabulary;

pub use export::Export;
pub use train::Train;
