//! Builds a graph node by node; every method returns the name of a value.

use std::collections::HashSet;

use prost::Message;

use super::proto::{Attribute, Dimension, Extent, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo};

/// `TensorProto.DataType`
pub const FLOAT: i32 = 1;
pub const INT8: i32 = 3;
pub const INT32: i32 = 6;
pub const INT64: i32 = 7;
pub const FLOAT16: i32 = 10;

/// IR version of opset 20.
const IR_VERSION: i64 = 9;

/// Value of an attribute.
#[derive(Debug, Clone)]
pub enum Value {
    Float(f32),
    Integer(i64),
    Text(&'static str),
    Integers(Vec<i64>),
}

/// A graph under construction.
#[derive(Default)]
pub struct Builder {
    graph: Graph,
    initialised: HashSet<String>,
}

impl Builder {
    /// Adds a node with one output.
    pub fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        self.ops::<1>(kind, inputs, attributes).concat()
    }

    /// Adds a node with N outputs.
    pub fn ops<const N: usize>(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> [String; N] {
        let number = self.graph.node.len();
        let outputs = std::array::from_fn(|index| match index {
            0 => format!("{}_{number}", kind.to_lowercase()),
            _ => format!("{}_{number}_{index}", kind.to_lowercase()),
        });
        self.node(kind, inputs, attributes, outputs.to_vec());
        outputs
    }

    /// Adds a node whose output has this name.
    pub fn op_named(&mut self, kind: &str, inputs: &[&str], output: &str) {
        self.node(kind, inputs, &[], vec![output.to_owned()]);
    }

    fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Value)], output: Vec<String>) {
        let attribute = |(name, value): &(&str, Value)| {
            let mut attribute = Attribute { name: (*name).to_owned(), f: None, i: None, s: None, ints: Vec::new(), kind: 0 };
            match value {
                Value::Float(value) => (attribute.f, attribute.kind) = (Some(*value), 1),
                Value::Integer(value) => (attribute.i, attribute.kind) = (Some(*value), 2),
                Value::Text(value) => (attribute.s, attribute.kind) = (Some(value.as_bytes().to_vec()), 3),
                Value::Integers(values) => (attribute.ints, attribute.kind) = (values.clone(), 7),
            }
            attribute
        };
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            name: format!("make_{}", output[0]),
            output,
            op_type: kind.to_owned(),
            attribute: attributes.iter().map(attribute).collect(),
        });
    }

    /// Adds a constant tensor.
    pub fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        self.tensor(name, dims, FLOAT, || values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Adds a constant vector of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.tensor(name, &[values.len() as i64], INT64, || values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Adds a constant integer without dimensions.
    pub fn integer(&mut self, name: &str, value: i64) -> String {
        self.tensor(name, &[], INT64, || value.to_le_bytes().to_vec())
    }

    /// Adds a constant. A second constant with the same name is not stored: shared weights are stored once.
    pub fn tensor(&mut self, name: &str, dims: &[i64], data_type: i32, raw_data: impl FnOnce() -> Vec<u8>) -> String {
        if self.initialised.insert(name.to_owned()) {
            self.graph.initializer.push(Tensor { dims: dims.to_vec(), data_type, name: name.to_owned(), raw_data: raw_data() });
        }
        name.to_owned()
    }

    /// Declares inputs and output, and returns the contents of the file; `width` is that of the output.
    pub fn finish(mut self, width: i64, opset: i64) -> Vec<u8> {
        let named = |name: &str| Extent::Named(name.to_owned());
        let value = |name: &str, element: i32, dims: &[Extent]| {
            let dim = dims.iter().map(|extent| Dimension { extent: Some(extent.clone()) }).collect();
            let tensor = Some(TensorType { element, shape: Some(Shape { dim }) });
            ValueInfo { name: name.to_owned(), kind: Some(Type { tensor }) }
        };
        let ids = [named("batch"), named("length")];
        self.graph.name = "encoder".to_owned();
        self.graph.input = vec![value("input_ids", INT64, &ids), value("attention_mask", INT64, &ids)];
        self.graph.output = vec![value("embedding", FLOAT, &[named("batch"), Extent::Fixed(width)])];
        Model {
            ir_version: IR_VERSION,
            producer_name: "codenets".to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: opset }],
        }
        .encode_to_vec()
    }
}
