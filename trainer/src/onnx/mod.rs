//! ONNX export: [`proto`] is the file format, [`builder`] adds nodes, [`writer`] writes an encoder by running it on the graph.

pub mod builder;
pub mod precision;
mod proto;
pub mod writer;
