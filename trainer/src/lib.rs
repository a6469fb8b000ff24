//! Token ids to an encoder: stages `train` and `export`, or `adopt`.
//!
//! ```text
//! config      section `train`
//! stages      train, export, adopt
//! training    loop, steps, optimizer, checkpoints, validation
//! data        token columns to batches
//! encoders    architectures and poolers, written in graph::math
//! graph       tensors, weights, operations; the fused CPU kernels are the crate `kernels`
//! losses      losses of a batch
//! teacher     another encoder that grades pairs or initialises token vectors
//! onnx        an encoder as an ONNX graph
//! tracking    TensorBoard, MLflow, the page of the learning curve
//! ```

pub mod config;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod encoders;
mod error;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod losses;
mod onnx;
mod stages;
#[doc(hidden)]
pub mod teacher;
pub mod tracking;
#[doc(hidden)]
pub mod training;

pub use error::{Error, Result};
pub use stages::{
    adopt::Adopt,
    export::Export,
    start::{recorded_config, require_checkpoint, restored_config},
    train::Train,
};
