//! ONNX: no Rust training framework exports it, and an encoder needs little. `proto` is the file format, `graph` writes
//! nodes, `math` writes an encoder down by running it.

mod graph;
mod math;
mod proto;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{model::Tower, parameters::Parameters, poolers::Pooler};

/// How the weights are stored, and linears computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    F32,
    /// Matrices and tables in half precision, computed in single: half the size.
    F16,
    /// Matrices and tables in 8 bits with a scale for each column or row; linears multiply integers, the input being
    /// quantised as it comes (onnxruntime's dynamic quantisation): a quarter of the size.
    Int8,
}

/// One encoder as a graph: `input_ids, attention_mask: i64 [batch, length] -> embedding: f32 [batch, D]`, unit length.
pub fn write(tower: &Tower, pooler: Pooler, parameters: &Parameters, precision: Precision, opset: i64) -> Result<Vec<u8>> {
    let mut writer = math::Writer::new(parameters, &tower.scope, precision);
    let rows = pooler.vectors(&tower.encoder, &mut writer);
    Ok(writer.finish(&rows, opset))
}
