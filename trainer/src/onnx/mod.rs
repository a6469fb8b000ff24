//! A small writer of ONNX graphs. No Rust training framework exports ONNX; an encoder needs little.

mod proto;

use prost::Message;

use proto::{Attribute, Dimension, Extent, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo};

use crate::nbow::{EPSILON, Weights};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// IR version that goes with opset 20.
const IR_VERSION: i64 = 9;

/// Builds a graph node by node; every method returns the name of what it made.
#[derive(Default)]
struct Builder {
    graph: Graph,
}

impl Builder {
    fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, i64)]) -> String {
        let output = format!("{}_{}", kind.to_lowercase(), self.graph.node.len());
        self.op_named(kind, inputs, attributes, &output);
        output
    }

    fn op_named(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, i64)], output: &str) {
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("make_{output}"),
            op_type: kind.to_owned(),
            attribute: attributes.iter().map(|&(name, value)| Attribute { name: name.to_owned(), i: Some(value), kind: 2 }).collect(),
        });
    }

    fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        self.tensor(name, dims, FLOAT, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.tensor(name, &[values.len() as i64], INT64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn tensor(&mut self, name: &str, dims: &[i64], data_type: i32, raw_data: Vec<u8>) -> String {
        self.graph.initializer.push(Tensor { dims: dims.to_vec(), data_type, name: name.to_owned(), raw_data });
        name.to_owned()
    }
}

fn value(name: &str, element: i32, dims: &[Extent]) -> ValueInfo {
    let dim = dims.iter().map(|extent| Dimension { extent: Some(extent.clone()) }).collect();
    let tensor = Some(TensorType { element, shape: Some(Shape { dim }) });
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor }) }
}

/// `nbow` as a graph: `input_ids, attention_mask: i64 [batch, length] -> embedding: f32 [batch, D]`.
///
/// A token's pooling weight depends on its embedding only, and the division by `Σ w` cancels in the
/// normalisation. So both are folded into one table `E'_v = sigmoid(E_v·a + b) · E_v`, and the
/// graph is `e = mask[B,1,T] × E'[ids][B,T,D]`, `e / max(‖e‖₂, ε)`.
pub fn nbow(weights: &Weights, opset: i64) -> Vec<u8> {
    let dimension = weights.dimension;
    let folded: Vec<f32> = weights
        .embedding
        .chunks(dimension)
        .flat_map(|row| {
            let score = row.iter().zip(&weights.weigher).map(|(x, a)| f64::from(x * a)).sum::<f64>() + f64::from(weights.weigher_bias);
            let weight = 1.0 / (1.0 + (-score).exp());
            row.iter().map(move |x| (weight * f64::from(*x)) as f32)
        })
        .collect();
    let mut builder = Builder::default();
    let named = |name: &str| Extent::Named(name.to_owned());
    let ids = [named("batch"), named("length")];
    builder.graph.name = "encoder".to_owned();
    builder.graph.input = vec![value("input_ids", INT64, &ids), value("attention_mask", INT64, &ids)];
    builder.graph.output = vec![value("embedding", FLOAT, &[named("batch"), Extent::Fixed(dimension as i64)])];
    let table = builder.floats("weighted_embedding", &[weights.vocabulary as i64, dimension as i64], &folded);
    let middle = builder.integers("axis_1", &[1]);
    let epsilon = builder.floats("epsilon", &[1], &[EPSILON as f32]);
    let hidden = builder.op("Gather", &[&table, "input_ids"], &[("axis", 0)]);
    let mask = builder.op("Cast", &["attention_mask"], &[("to", i64::from(FLOAT))]);
    let mask = builder.op("Unsqueeze", &[&mask, &middle], &[]);
    let sum = builder.op("MatMul", &[&mask, &hidden], &[]);
    let sum = builder.op("Squeeze", &[&sum, &middle], &[]);
    let norm = builder.op("ReduceL2", &[&sum, &middle], &[("keepdims", 1)]);
    let norm = builder.op("Max", &[&norm, &epsilon], &[]);
    builder.op_named("Div", &[&sum, &norm], &[], "embedding");
    Model {
        ir_version: IR_VERSION,
        producer_name: "codenets".to_owned(),
        graph: Some(builder.graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: opset }],
    }
    .encode_to_vec()
}
