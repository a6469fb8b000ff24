//! Columns of token ids to an encoder: `train -> export`.
//!
//! `config` says what; `data` makes batches; `encoders` and `poolers` are written in `math`, which `tape` runs with
//! the operations of `ops` and `onnx` writes down as a graph; `losses` judge a batch, `optimizer` and `schedule`
//! change `parameters`; `fit` is the loop, `checkpoints` and `tracking` what it leaves on its way; `train` and `export`
//! are the stages.

mod adopt;
pub mod bench;
mod checkpoints;
pub mod config;
mod cuda;
mod data;
mod encoders;
mod export;
mod fit;
mod losses;
mod math;
mod model;
mod onnx;
mod ops;
mod optimizer;
pub mod pages;
mod parameters;
mod poolers;
pub mod restore;
mod resume;
mod schedule;
mod tape;
mod teacher;
mod token_start;
pub mod tracking;
mod train;
mod validation;
mod vocabulary;

pub use adopt::Adopt;
pub use export::Export;
pub use resume::{recorded_config, require_checkpoint, restored_config};
pub use train::Train;
