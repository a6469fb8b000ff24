//! Runs encoders with ONNX Runtime.

mod runtime;

pub use runtime::{environment, load};
