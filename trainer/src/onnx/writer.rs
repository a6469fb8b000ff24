//! [`Math`] as an ONNX graph: every operation adds nodes. Tokens are padded to `[B, T, D]`; the mask excludes padding from operations over
//! several tokens.

use kernels::WEIGHT_EPSILON;

use super::{
    builder::{Builder, FLOAT, FLOAT16, INT8, INT32, Value},
    precision::Precision,
};
use crate::{
    encoders::pooler::Pooler,
    graph::{
        math::Math,
        model::Tower,
        ops::LENGTH_EPSILON,
        parameters::{Parameter, Parameters},
    },
};

/// Writes one encoder as a graph: `input_ids, attention_mask: i64 [batch, length] -> embedding: f32 [batch, D]`, vectors of length 1.
pub fn write(tower: &Tower, pooler: Pooler, parameters: &Parameters, precision: Precision, opset: i64) -> Vec<u8> {
    let mut writer = Writer::new(parameters, &tower.scope, precision);
    let rows = pooler.vectors(&tower.encoder, &mut writer);
    writer.finish(&rows, opset)
}

/// An encoder that is being written.
struct Writer<'a> {
    builder: Builder,
    parameters: &'a Parameters,
    scope: &'a str,
    precision: Precision,
    width: i64,
    /// The mask as numbers, `[B, T]`.
    mask: String,
}

fn floats_of(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

/// Maximum absolute integer of a weight. The sum of two products with unsigned inputs then fits the 16 bits in which processors without VNNI
/// add them (`reduce_range` of ONNX Runtime).
const MAX_INTEGER: f32 = 63.0;

/// Quantises rows or columns to 8 bits: `value = scale · integer`. The scale depends on the maximum of the row or column.
fn quantise(values: &[f32], columns: usize, by_row: bool) -> (Vec<u8>, Vec<f32>) {
    let rows = values.len() / columns.max(1);
    let group = |place: usize| if by_row { place / columns } else { place % columns };
    let mut most = vec![0f32; if by_row { rows } else { columns }];
    for (place, value) in values.iter().enumerate() {
        most[group(place)] = most[group(place)].max(value.abs());
    }
    let scales: Vec<f32> = most.iter().map(|most| if *most == 0.0 { 1.0 } else { most / MAX_INTEGER }).collect();
    let bytes = values.iter().enumerate().map(|(place, value)| (value / scales[group(place)]).round() as i8 as u8).collect();
    (bytes, scales)
}

impl<'a> Writer<'a> {
    fn new(parameters: &'a Parameters, scope: &'a str, precision: Precision) -> Self {
        let mut builder = Builder::default();
        let mask = builder.op("Cast", &["attention_mask"], &[("to", Value::Integer(i64::from(FLOAT)))]);
        Self { builder, parameters, scope, precision, width: 0, mask }
    }

    fn finish(mut self, rows: &str, opset: i64) -> Vec<u8> {
        self.builder.op_named("Identity", &[rows], "embedding");
        self.builder.finish(self.width, opset)
    }

    fn parameter(&self, name: &str) -> &'a Parameter {
        self.parameters.get(&format!("{}{name}", self.scope))
    }

    fn dims(parameter: &Parameter) -> Vec<i64> {
        parameter.shape.iter().map(|&extent| extent as i64).collect()
    }

    fn vector(&mut self, name: &str) -> String {
        let parameter = self.parameter(name);
        self.builder.floats(name, &Self::dims(parameter), &parameter.values)
    }

    /// A matrix, stored in the configured precision.
    fn matrix(&mut self, name: &str) -> String {
        let parameter = self.parameter(name);
        self.stored(name, &Self::dims(parameter), &parameter.values)
    }

    fn stored(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        match self.precision {
            Precision::F32 | Precision::Int8 => self.builder.floats(name, dims, values),
            Precision::F16 => {
                let halves = || values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
                let name = self.builder.tensor(name, dims, FLOAT16, halves);
                self.builder.op("Cast", &[&name], &[("to", Value::Integer(i64::from(FLOAT)))])
            }
        }
    }

    /// Rows of a table, `[B, T, D]`.
    fn gather(&mut self, name: &str, dims: &[i64], values: &[f32], places: &str) -> String {
        let axis = [("axis", Value::Integer(0))];
        match self.precision {
            Precision::F32 => {
                let table = self.builder.floats(name, dims, values);
                self.builder.op("Gather", &[&table, places], &axis)
            }
            Precision::F16 => {
                let halves = || values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
                let table = self.builder.tensor(name, dims, FLOAT16, halves);
                let rows = self.builder.op("Gather", &[&table, places], &axis);
                self.builder.op("Cast", &[&rows], &[("to", Value::Integer(i64::from(FLOAT)))])
            }
            Precision::Int8 => {
                let (bytes, scales) = quantise(values, dims[1] as usize, true);
                let table = self.builder.tensor(name, dims, INT8, || bytes);
                let scales = self.builder.floats(&format!("{name}.scale"), &[dims[0], 1], &scales);
                let rows = self.builder.op("Gather", &[&table, places], &axis);
                let rows = self.builder.op("Cast", &[&rows], &[("to", Value::Integer(i64::from(FLOAT)))]);
                let scales = self.builder.op("Gather", &[&scales, places], &axis);
                self.builder.op("Mul", &[&rows, &scales], &[])
            }
        }
    }

    /// `x·W`
    fn multiply(&mut self, x: &str, name: &str) -> String {
        if self.precision != Precision::Int8 {
            let weight = self.matrix(name);
            return self.builder.op("MatMul", &[x, &weight], &[]);
        }
        let parameter = self.parameter(name);
        let (bytes, scales) = quantise(&parameter.values, parameter.shape[1], false);
        let weight = self.builder.tensor(&format!("{name}.int8"), &Self::dims(parameter), INT8, || bytes);
        let scales = self.builder.floats(&format!("{name}.scale"), &[parameter.shape[1] as i64], &scales);
        let zero = self.builder.tensor("zero_int8", &[], INT8, || vec![0]);
        let [quantised, scale, middle] = self.builder.ops("DynamicQuantizeLinear", &[x], &[]);
        let product = self.builder.op("MatMulInteger", &[&quantised, &weight, &middle, &zero], &[]);
        let product = self.builder.op("Cast", &[&product], &[("to", Value::Integer(i64::from(FLOAT)))]);
        let product = self.builder.op("Mul", &[&product, &scale], &[]);
        self.builder.op("Mul", &[&product, &scales], &[])
    }

    fn constant(&mut self, name: &str, value: f32) -> String {
        self.builder.floats(name, &[], &[value])
    }

    fn axes(&mut self, axis: i64) -> String {
        self.builder.integers(&format!("axis_{axis}"), &[axis])
    }

    fn unsqueeze(&mut self, x: &str, axis: i64) -> String {
        let axes = self.axes(axis);
        self.builder.op("Unsqueeze", &[x, &axes], &[])
    }

    fn squeeze(&mut self, x: &str, axis: i64) -> String {
        let axes = self.axes(axis);
        self.builder.op("Squeeze", &[x, &axes], &[])
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let name = shape.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let shape = self.builder.integers(&format!("shape_{name}"), shape);
        self.builder.op("Reshape", &[x, &shape], &[])
    }

    fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.builder.op("Transpose", &[x], &[("perm", Value::Integers(order.to_vec()))])
    }

    /// `large · (mask − 1)`: 0 at tokens and a large negative number at padding, `[B, T]`.
    fn padding_bias(&mut self) -> String {
        let (one, large) = (self.constant("one", 1.0), self.constant("large", 1e9));
        let mask = self.mask.clone();
        let bias = self.builder.op("Sub", &[&mask, &one], &[]);
        self.builder.op("Mul", &[&bias, &large], &[])
    }

    /// `Σ_t w_t x_t / Σ_t w_t` for weights `[B, T]`.
    fn weighted(&mut self, x: &str, weights: &str) -> String {
        let across = self.unsqueeze(weights, 1);
        let sum = self.builder.op("MatMul", &[&across, x], &[]);
        let sum = self.squeeze(&sum, 1);
        let axes = self.axes(1);
        let total = self.builder.op("ReduceSum", &[weights, &axes], &[("keepdims", Value::Integer(1))]);
        let tiny = self.constant("tiny", WEIGHT_EPSILON);
        let total = self.builder.op("Add", &[&total, &tiny], &[]);
        self.builder.op("Div", &[&sum, &total], &[])
    }

    fn weights(&mut self, x: &str, name: &str) -> String {
        let weight = self.parameter(&format!("{name}.weight"));
        let weight = self.builder.floats(&format!("{name}.weight"), &Self::dims(weight), &weight.values);
        let bias = self.vector(&format!("{name}.bias"));
        let scores = self.builder.op("MatMul", &[x, &weight], &[]);
        let scores = self.builder.op("Add", &[&scores, &bias], &[]);
        let scores = self.squeeze(&scores, 2);
        let weights = self.builder.op("Sigmoid", &[&scores], &[]);
        let mask = self.mask.clone();
        self.builder.op("Mul", &[&weights, &mask], &[])
    }

    /// 1 where a row has a token, `[B, 1]`.
    fn has_tokens(&mut self) -> String {
        let (axes, mask) = (self.axes(1), self.mask.clone());
        self.builder.op("ReduceMax", &[&mask, &axes], &[("keepdims", Value::Integer(1))])
    }
}

impl Math for Writer<'_> {
    type Tokens = String;
    type Rows = String;

    fn embed(&mut self, table: &str) -> String {
        let parameter = self.parameter(table);
        self.width = parameter.shape[1] as i64;
        self.gather(table, &Self::dims(parameter), &parameter.values, "input_ids")
    }

    fn positions(&mut self, table: &str) -> String {
        let parameter = self.parameter(table);
        let shape = self.builder.op("Shape", &["input_ids"], &[]);
        let (first, zero, one) =
            (self.builder.integer("one_i64", 1), self.builder.integer("zero_i64", 0), self.builder.integer("one_i64", 1));
        let length = self.builder.op("Gather", &[&shape, &first], &[("axis", Value::Integer(0))]);
        let places = self.builder.op("Range", &[&zero, &length, &one], &[]);
        let rows = self.gather(table, &Self::dims(parameter), &parameter.values, &places);
        self.unsqueeze(&rows, 0)
    }

    fn linear(&mut self, x: &String, name: &str) -> String {
        self.width = self.parameter(&format!("{name}.weight")).shape[1] as i64;
        let product = self.multiply(x, &format!("{name}.weight"));
        let bias = self.vector(&format!("{name}.bias"));
        self.builder.op("Add", &[&product, &bias], &[])
    }

    fn add(&mut self, a: &String, b: &String) -> String {
        self.builder.op("Add", &[a, b], &[])
    }

    fn concat(&mut self, a: &String, b: &String) -> String {
        self.width *= 2;
        self.builder.op("Concat", &[a, b], &[("axis", Value::Integer(2))])
    }

    fn add_norm(&mut self, x: &String, residual: Option<&String>, name: &str, epsilon: f64) -> String {
        let x = match residual {
            Some(residual) => self.builder.op("Add", &[x, residual], &[]),
            None => x.clone(),
        };
        let (gamma, beta) = (self.vector(&format!("{name}.gamma")), self.vector(&format!("{name}.beta")));
        let attributes = [("axis", Value::Integer(-1)), ("epsilon", Value::Float(epsilon as f32))];
        self.builder.op("LayerNormalization", &[&x, &gamma, &beta], &attributes)
    }

    fn gelu(&mut self, x: &String) -> String {
        self.builder.op("Gelu", &[x], &[("approximate", Value::Text("none"))])
    }

    fn tanh(&mut self, x: &String) -> String {
        self.builder.op("Tanh", &[x], &[])
    }

    fn attention(&mut self, qkv: &String, heads: usize, _dropout: f32) -> String {
        let width = self.width / 3;
        let (heads, depth) = (heads as i64, width / heads as i64);
        let parts = self.reshape(qkv, &[0, 0, 3, heads, depth]);
        let [query, key, value] = std::array::from_fn(|index| {
            let place = self.builder.integer(&format!("part_{index}"), index as i64);
            let part = self.builder.op("Gather", &[&parts, &place], &[("axis", Value::Integer(2))]);
            // Keys are transposed in the same step: [B, H, D/H, T].
            self.transpose(&part, if index == 1 { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] })
        });
        let scale = self.constant(&format!("scale_{depth}"), 1.0 / (depth as f32).sqrt());
        let query = self.builder.op("Mul", &[&query, &scale], &[]);
        let scores = self.builder.op("MatMul", &[&query, &key], &[]);
        let bias = self.padding_bias();
        let bias = self.unsqueeze(&bias, 1);
        let bias = self.unsqueeze(&bias, 2);
        let scores = self.builder.op("Add", &[&scores, &bias], &[]);
        let weights = self.builder.op("Softmax", &[&scores], &[("axis", Value::Integer(-1))]);
        let attended = self.builder.op("MatMul", &[&weights, &value], &[]);
        let attended = self.transpose(&attended, &[0, 2, 1, 3]);
        self.width = width;
        self.reshape(&attended, &[0, 0, width])
    }

    fn convolution(&mut self, x: &String, name: &str, kernel: usize) -> String {
        let parameter = self.parameter(&format!("{name}.weight"));
        let (outputs, inputs) = (parameter.shape[1], parameter.shape[0] / kernel);
        // [K·I, O] -> [O, I, K]
        let at = |place: usize| {
            let (output, input, tap) = (place / (inputs * kernel), place / kernel % inputs, place % kernel);
            parameter.values[(tap * inputs + input) * outputs + output]
        };
        let reordered: Vec<f32> = (0..parameter.values.len()).map(at).collect();
        let weight = self.stored(&format!("{name}.weight"), &[outputs as i64, inputs as i64, kernel as i64], &reordered);
        let bias = self.vector(&format!("{name}.bias"));
        let mask = self.mask.clone();
        let mask = self.unsqueeze(&mask, 2);
        let x = self.builder.op("Mul", &[x, &mask], &[]);
        let x = self.transpose(&x, &[0, 2, 1]);
        let before = ((kernel - 1) / 2) as i64;
        let pads = Value::Integers(vec![before, kernel as i64 - 1 - before]);
        let y = self.builder.op("Conv", &[&x, &weight, &bias], &[("kernel_shape", Value::Integers(vec![kernel as i64])), ("pads", pads)]);
        self.width = outputs as i64;
        self.transpose(&y, &[0, 2, 1])
    }

    fn lstm(&mut self, x: &String, name: &str, backwards: bool) -> String {
        let (input, bias, recurrent) = (
            self.parameter(&format!("{name}.input.weight")),
            self.parameter(&format!("{name}.input.bias")),
            self.parameter(&format!("{name}.recurrent")),
        );
        let width = recurrent.shape[0];
        // The gates of ONNX are i, o, f, g; those of our parameters i, f, g, o.
        let order = [0, 3, 1, 2];
        let reordered = |parameter: &Parameter| -> Vec<u8> {
            let rows = parameter.shape[0];
            let of = |gate: usize| (0..width).flat_map(move |d| (0..rows).map(move |row| (row, gate * width + d)));
            floats_of(order.into_iter().flat_map(of).map(|(row, column)| parameter.values[row * 4 * width + column]))
        };
        let gates =
            |values: &[f32]| -> Vec<f32> { order.iter().flat_map(|gate| values[gate * width..(gate + 1) * width].to_vec()).collect() };
        let mut both = gates(&bias.values);
        both.extend(vec![0.0; 4 * width]);
        let four = 4 * width as i64;
        let w = self.builder.tensor(&format!("{name}.input.weight"), &[1, four, input.shape[0] as i64], FLOAT, || reordered(input));
        let r = self.builder.tensor(&format!("{name}.recurrent"), &[1, four, width as i64], FLOAT, || reordered(recurrent));
        let b = self.builder.floats(&format!("{name}.input.bias"), &[1, 2 * four], &both);
        let (axes, mask) = (self.axes(1), self.mask.clone());
        let lengths = self.builder.op("ReduceSum", &[&mask, &axes], &[("keepdims", Value::Integer(0))]);
        let lengths = self.builder.op("Cast", &[&lengths], &[("to", Value::Integer(i64::from(INT32)))]);
        let x = self.transpose(x, &[1, 0, 2]);
        let direction = Value::Text(if backwards { "reverse" } else { "forward" });
        let attributes = [("hidden_size", Value::Integer(width as i64)), ("direction", direction)];
        let y = self.builder.op("LSTM", &[&x, &w, &r, &b, &lengths], &attributes);
        let y = self.squeeze(&y, 1);
        self.width = width as i64;
        self.transpose(&y, &[1, 0, 2])
    }

    fn dropout(&mut self, x: &String, _probability: f32) -> String {
        x.clone()
    }

    fn mean(&mut self, x: &String) -> String {
        let mask = self.mask.clone();
        self.weighted(x, &mask)
    }

    fn max(&mut self, x: &String) -> String {
        let bias = self.padding_bias();
        let bias = self.unsqueeze(&bias, 2);
        let open = self.builder.op("Add", &[x, &bias], &[]);
        let axes = self.axes(1);
        let most = self.builder.op("ReduceMax", &[&open, &axes], &[("keepdims", Value::Integer(0))]);
        let has_tokens = self.has_tokens();
        self.builder.op("Mul", &[&most, &has_tokens], &[])
    }

    fn weighted_mean(&mut self, x: &String, name: &str) -> String {
        let weights = self.weights(x, name);
        self.weighted(x, &weights)
    }

    fn first(&mut self, x: &String) -> String {
        let place = self.builder.integer("zero_i64", 0);
        let first = self.builder.op("Gather", &[x, &place], &[("axis", Value::Integer(1))]);
        let has_tokens = self.has_tokens();
        self.builder.op("Mul", &[&first, &has_tokens], &[])
    }

    /// The weight of a token depends on its row only, and the division by `Σ w` has no effect on a normalised vector. The weights are
    /// therefore multiplied into the table, and the graph adds rows.
    fn bag(&mut self, table: &str, weigher: Option<&str>) -> String {
        let parameter = self.parameter(table);
        let width = parameter.shape[1];
        self.width = width as i64;
        let mut folded = parameter.values.clone();
        if let Some(name) = weigher {
            let (weight, bias) = (self.parameter(&format!("{name}.weight")), self.parameter(&format!("{name}.bias")).values[0]);
            for row in folded.chunks_exact_mut(width) {
                let score = row.iter().zip(&weight.values).map(|(x, a)| f64::from(x * a)).sum::<f64>() + f64::from(bias);
                let weight = 1.0 / (1.0 + (-score).exp());
                row.iter_mut().for_each(|x| *x = (f64::from(*x) * weight) as f32);
            }
        }
        let rows = self.gather("weighted_tokens", &Self::dims(parameter), &folded, "input_ids");
        let mask = self.mask.clone();
        let across = self.unsqueeze(&mask, 1);
        let sum = self.builder.op("MatMul", &[&across, &rows], &[]);
        self.squeeze(&sum, 1)
    }

    fn normalise(&mut self, rows: &String) -> String {
        let (axes, tiny) = (self.axes(1), self.constant("shortest", LENGTH_EPSILON));
        let square = self.builder.op("ReduceSumSquare", &[rows, &axes], &[("keepdims", Value::Integer(1))]);
        let square = self.builder.op("Add", &[&square, &tiny], &[]);
        let length = self.builder.op("Sqrt", &[&square], &[]);
        self.builder.op("Div", &[rows, &length], &[])
    }
}
