//! Runs encoders with ONNX Runtime.
//!
//! ```text
//! installation  which ONNX Runtime library is installed
//! runtime       loads the ONNX Runtime library, once a process
//! provider      where a graph runs: CPU, CUDA, TensorRT
//! graph         one ONNX graph: a session, padded rows of ids, the named output, pooling
//! tokenizer     text to token ids, with the tokens that `encoder.json` puts before and after them
//! encoder       an encoder folder (`encoder.json`, `tokenizer.json`, graphs): text to vectors
//! ```
//!
//! ```no_run
//! use std::path::Path;
//! use inference::{BATCH_TOKENS, Provider, TextEncoder};
//!
//! # fn main() -> inference::Result<()> {
//! inference::load_installed()?;
//! let encoder = TextEncoder::open(Path::new("encoder"), Provider::Cpu, 4)?;
//! let ids = encoder.query_ids("parse an iso date")?;
//! let vector = encoder.encode_queries(&[ids], BATCH_TOKENS)?;
//! assert_eq!(vector.len(), encoder.spec().dimension);
//! # Ok(())
//! # }
//! ```

mod encoder;
mod error;
mod graph;
mod installation;
mod provider;
mod runtime;
mod token_counts;
mod tokenizer;

pub use encoder::{BATCH_TOKENS, TextEncoder};
pub use error::{Error, LIBRARY_VARIABLE, Result};
pub use graph::{Graph, GraphOptions, PaddedRows};
pub use installation::{ChosenBy, InstalledLibrary, LIBRARY, PINNED_VERSION, installed, load_installed, user_folder};
pub use provider::{Provider, UnknownProvider};
pub use runtime::{API_VERSION, TELEMETRY_VARIABLE, environment, is_loaded, load};
pub use token_counts::TokenCounts;
pub use tokenizer::EncoderTokenizer;
