//! Number formats of weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of the weights, and how linears are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Matrices and tables in half precision, computed in single precision: half the size.
    F16,
    /// Matrices and tables in 8 bits, with a scale for each column or row: a quarter of the size. Linears multiply integers; their input is
    /// quantised in each call (dynamic quantisation of ONNX Runtime).
    Int8,
}
