//! [`Math`] on tensors: one forward pass over a packed batch, recorded for the backward pass if the backend differentiates.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use burn::tensor::{DType, Tensor, TensorData, activation::sigmoid, backend::Backend};
use kernels::{Bags, Dropout, Layout};

use super::{
    math::Math,
    ops::{LENGTH_EPSILON, Ops},
    parameters::{Parameters, Role},
};

/// Concatenated sequences of token ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    pub ids: Vec<u32>,
    pub layout: Layout,
}

impl Packed {
    /// Concatenates rows of token ids.
    pub fn of_rows<R: AsRef<[u32]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for row in rows {
            ids.extend_from_slice(row.as_ref());
            lengths.push(row.as_ref().len());
        }
        Self { ids, layout: Layout::of_lengths(lengths) }
    }
}

/// Parameters on the device, for one step. Tables are reduced to the rows that the step reads.
#[derive(Debug)]
pub struct DeviceParameters<B: Backend> {
    pub vectors: HashMap<String, Tensor<B, 1>>,
    pub matrices: HashMap<String, Tensor<B, 2>>,
    /// The rows of each table that its matrix contains, ascending.
    pub rows: BTreeMap<String, Vec<u32>>,
}

impl<B: Backend> DeviceParameters<B> {
    /// Copies parameters to the device: the rows that `rows` names for a table, and all values of other parameters. With `track`, gradients
    /// are computed.
    pub fn new(parameters: &Parameters, rows: BTreeMap<String, Vec<u32>>, track: bool, dtype: DType, device: &B::Device) -> Self {
        let (mut vectors, mut matrices) = (HashMap::new(), HashMap::new());
        for (name, parameter) in &parameters.0 {
            let (values, shape) = match (parameter.role, rows.get(name)) {
                (Role::Table, None) => continue,
                (Role::Table, Some(rows)) => {
                    let width = parameter.shape[1];
                    let mut values = Vec::with_capacity(rows.len() * width);
                    rows.iter().for_each(|&row| values.extend_from_slice(&parameter.values[row as usize * width..][..width]));
                    (values, vec![rows.len(), width])
                }
                _ => (parameter.values.clone(), parameter.shape.clone()),
            };
            let data = TensorData::new(values, shape.clone());
            if shape.len() == 1 {
                let tensor = Tensor::<B, 1>::from_data(data, (device, dtype));
                vectors.insert(name.clone(), if track { tensor.require_grad() } else { tensor });
            } else {
                let tensor = Tensor::<B, 2>::from_data(data, (device, dtype));
                matrices.insert(name.clone(), if track { tensor.require_grad() } else { tensor });
            }
        }
        Self { vectors, matrices, rows }
    }
}

/// A forward pass of one encoder.
pub struct ForwardPass<'a, B: Backend> {
    pub parameters: &'a DeviceParameters<B>,
    pub ops: &'a dyn Ops<B>,
    pub batch: &'a Packed,
    pub scope: &'a str,
    /// Seed of the dropout of this step; none outside training.
    pub dropout: Option<u64>,
    /// Number of dropouts so far: each has a seed of its own.
    pub dropouts: u64,
}

impl<B: Backend> ForwardPass<'_, B> {
    fn matrix(&self, name: &str) -> Tensor<B, 2> {
        let name = format!("{}{name}", self.scope);
        self.parameters
            .matrices
            .get(&name)
            .unwrap_or_else(|| panic!("an encoder reads the parameter {name}, which its specs do not list"))
            .clone()
    }

    fn vector(&self, name: &str) -> Tensor<B, 1> {
        let name = format!("{}{name}", self.scope);
        self.parameters
            .vectors
            .get(&name)
            .unwrap_or_else(|| panic!("an encoder reads the parameter {name}, which its specs do not list"))
            .clone()
    }

    fn slots(&self, table: &str) -> Arc<[u32]> {
        let rows = &self.parameters.rows[&format!("{}{table}", self.scope)];
        let slot = |id: &u32| rows.binary_search(id).unwrap_or_else(|_| panic!("token {id} is not among the rows of the batch")) as u32;
        self.batch.ids.iter().map(slot).collect()
    }

    fn next_dropout(&mut self, probability: f32) -> Option<Dropout> {
        let seed = self.dropout.filter(|_| probability > 0.0)?;
        self.dropouts += 1;
        Some(Dropout { probability, seed: seed ^ self.dropouts.wrapping_mul(0xd1b5_4a32_d192_ed03) })
    }

    fn weights(&self, x: &Tensor<B, 2>, name: &str) -> Tensor<B, 1> {
        let rows = x.dims()[0];
        let scores = x.clone().matmul(self.matrix(&format!("{name}.weight"))).reshape([rows]);
        sigmoid(scores + self.vector(&format!("{name}.bias")))
    }
}

impl<B: Backend> Math for ForwardPass<'_, B> {
    type Tokens = Tensor<B, 2>;
    type Rows = Tensor<B, 2>;

    fn embed(&mut self, table: &str) -> Tensor<B, 2> {
        self.ops.select(self.matrix(table), &self.slots(table))
    }

    fn positions(&mut self, table: &str) -> Tensor<B, 2> {
        let slots: Arc<[u32]> = self.batch.layout.ranges().flat_map(|range| 0..range.len() as u32).collect();
        self.ops.select(self.matrix(table), &slots)
    }

    fn linear(&mut self, x: &Tensor<B, 2>, name: &str) -> Tensor<B, 2> {
        self.ops.linear(x.clone(), self.matrix(&format!("{name}.weight")), self.vector(&format!("{name}.bias")))
    }

    fn add(&mut self, a: &Tensor<B, 2>, b: &Tensor<B, 2>) -> Tensor<B, 2> {
        a.clone() + b.clone()
    }

    fn concat(&mut self, a: &Tensor<B, 2>, b: &Tensor<B, 2>) -> Tensor<B, 2> {
        Tensor::cat(vec![a.clone(), b.clone()], 1)
    }

    fn add_norm(&mut self, x: &Tensor<B, 2>, residual: Option<&Tensor<B, 2>>, name: &str, epsilon: f64) -> Tensor<B, 2> {
        let (gamma, beta) = (self.vector(&format!("{name}.gamma")), self.vector(&format!("{name}.beta")));
        self.ops.add_norm(x.clone(), residual.cloned(), gamma, beta, epsilon)
    }

    fn gelu(&mut self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.ops.gelu(x.clone())
    }

    fn tanh(&mut self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        x.clone().tanh()
    }

    fn attention(&mut self, qkv: &Tensor<B, 2>, heads: usize, dropout: f32) -> Tensor<B, 2> {
        let dropout = self.next_dropout(dropout);
        self.ops.attention(qkv.clone(), &self.batch.layout, heads, dropout)
    }

    fn convolution(&mut self, x: &Tensor<B, 2>, name: &str, _kernel: usize) -> Tensor<B, 2> {
        let (w, b) = (self.matrix(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        self.ops.convolution(x.clone(), w, b, &self.batch.layout)
    }

    fn lstm(&mut self, x: &Tensor<B, 2>, name: &str, backwards: bool) -> Tensor<B, 2> {
        let gates = self.linear(x, &format!("{name}.input"));
        self.ops.lstm(gates, self.matrix(&format!("{name}.recurrent")), &self.batch.layout, backwards)
    }

    fn dropout(&mut self, x: &Tensor<B, 2>, probability: f32) -> Tensor<B, 2> {
        match self.next_dropout(probability) {
            Some(dropout) => self.ops.dropout(x.clone(), dropout),
            None => x.clone(),
        }
    }

    fn mean(&mut self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.ops.mean(x.clone(), None, &self.batch.layout)
    }

    fn max(&mut self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.ops.max(x.clone(), &self.batch.layout)
    }

    fn weighted_mean(&mut self, x: &Tensor<B, 2>, name: &str) -> Tensor<B, 2> {
        let weights = self.weights(x, name);
        self.ops.mean(x.clone(), Some(weights), &self.batch.layout)
    }

    fn first(&mut self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        let [tokens, width] = x.dims();
        let slots: Arc<[u32]> =
            self.batch.layout.ranges().map(|range| if range.is_empty() { tokens as u32 } else { range.start as u32 }).collect();
        let zero = Tensor::<B, 2>::zeros([1, width], (&x.device(), x.dtype()));
        self.ops.select(Tensor::cat(vec![x.clone(), zero], 0), &slots)
    }

    fn bag(&mut self, table: &str, weigher: Option<&str>) -> Tensor<B, 2> {
        let bags = Bags { layout: self.batch.layout.clone(), slots: self.slots(table) };
        let rows = self.matrix(table);
        let weights = weigher.map(|name| self.weights(&rows, name));
        self.ops.bag(rows, weights, &bags)
    }

    fn normalise(&mut self, rows: &Tensor<B, 2>) -> Tensor<B, 2> {
        let length = (rows.clone().powi_scalar(2).sum_dim(1) + f64::from(LENGTH_EPSILON)).sqrt();
        rows.clone() / length
    }
}
