//! Operations with kernels of their own for the CPU: one pass forward, one backward, f32 with sums in sixteen lanes.
//! The formulas stand in `docs/fused-ops.md`; every gradient is checked against [`super::stock`] and against finite
//! differences.
//!
//! Work is cut into blocks of a fixed number of rows, and partial sums are added in the order of the blocks: the bits
//! do not depend on the number of threads.

mod attention;
mod dense;
mod pooling;
mod product;
mod recurrent;
mod vector;

use std::{fmt, mem::MaybeUninit, sync::Arc};

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops as Node, OpsKind},
        },
    },
    tensor::{Tensor, TensorData, TensorPrimitive, ops::FloatTensor},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{Bags, Dropout, Layout, Ops};

/// Training on the CPU.
pub type Cpu = Autodiff<Flex>;

/// Rows of a block of work.
const BLOCK: usize = 256;

/// The fused operations.
#[derive(Debug, Clone, Copy)]
pub struct Fused;

/// Numbers and shape of a contiguous tensor, shared with the graph.
#[derive(Debug, Clone)]
struct Matrix {
    tensor: FlexTensor,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// A vector is one row.
    fn of(tensor: &FlexTensor) -> Self {
        let tensor = tensor.to_contiguous();
        let shape = tensor.layout().shape();
        let columns = shape[shape.num_dims() - 1];
        let rows = shape.num_elements() / columns.max(1);
        Self { tensor, rows, columns }
    }

    fn values(&self) -> &[f32] {
        match self.tensor.layout().contiguous_offsets() {
            Some((start, end)) => &self.tensor.storage::<f32>()[start..end],
            None => unreachable!("a matrix is made contiguous"),
        }
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A vector made in blocks, in parallel: `work` gets each block's number and its zeros, which the same thread has just
/// written, so that they lie in its cache and no thread clears the whole vector while the others wait.
fn made(length: usize, block: usize, work: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    values.spare_capacity_mut()[..length].par_chunks_mut(block.max(1)).enumerate().for_each(|(index, part)| {
        part.fill(MaybeUninit::new(0.0));
        // SAFETY: every element of the part was written on the line above.
        work(index, unsafe { part.assume_init_mut() });
    });
    // SAFETY: the parts cover the first `length` elements, and each was written.
    unsafe { values.set_len(length) };
    values
}

/// A vector of zeros, written by all threads.
fn zeros(length: usize) -> Vec<f32> {
    made(length, ZEROS, |_, _| {})
}

/// Zeros that a thread writes at a time.
const ZEROS: usize = 1 << 16;

/// Cuts packed rows of `width` numbers into their sequences.
fn sequences<'a>(mut rest: &'a mut [f32], width: usize, layout: &Layout) -> Vec<&'a mut [f32]> {
    layout
        .ranges()
        .map(|range| {
            let (sequence, behind) = std::mem::take(&mut rest).split_at_mut(range.len() * width);
            rest = behind;
            sequence
        })
        .collect()
}

/// Gradients of the N inputs by that of the output.
type Gradient<const N: usize> = dyn Fn(&Matrix) -> [Option<FlexTensor>; N] + Send + Sync;

#[derive(Clone)]
struct Saved<const N: usize>(Arc<Gradient<N>>);

impl<const N: usize> fmt::Debug for Saved<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("saved for the backward pass")
    }
}

#[derive(Debug)]
struct Custom<const N: usize>;

impl<const N: usize> Backward<Flex, N> for Custom<N> {
    type State = Saved<N>;

    fn backward(self, ops: Node<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let gradients = (ops.state.0)(&Matrix::of(&gradient));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Puts an output that was computed here on the tape, with the function that gives the inputs' gradients.
fn record<const N: usize>(
    inputs: [FloatTensor<Cpu>; N],
    output: FlexTensor,
    gradient: impl Fn(&Matrix) -> [Option<FlexTensor>; N] + Send + Sync + 'static,
) -> FloatTensor<Cpu> {
    match Custom.prepare::<NoCheckpointing>(inputs.map(|input| input.node)).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish(Saved(Arc::new(gradient)), output),
        OpsKind::UnTracked(node) => node.finish(output),
    }
}

fn open<const D: usize>(x: Tensor<Cpu, D>) -> (FloatTensor<Cpu>, Matrix) {
    let node = x.into_primitive().tensor();
    let matrix = Matrix::of(&node.primitive);
    (node, matrix)
}

fn close<const D: usize>(x: FloatTensor<Cpu>) -> Tensor<Cpu, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

impl Ops<Cpu> for Fused {
    fn linear(&self, x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>) -> Tensor<Cpu, 2> {
        let ((x_node, x), (w_node, w), (b_node, b)) = (open(x), open(w), open(b));
        let y = dense::linear(&x, &w, &b);
        close(record([x_node, w_node, b_node], y, move |dy| dense::linear_gradient(&x, &w, dy).map(Some)))
    }

    fn gelu(&self, x: Tensor<Cpu, 2>) -> Tensor<Cpu, 2> {
        let (node, x) = open(x);
        let y = dense::gelu(&x);
        close(record([node], y, move |dy| [Some(dense::gelu_gradient(&x, dy))]))
    }

    fn add_norm(
        &self,
        x: Tensor<Cpu, 2>,
        residual: Option<Tensor<Cpu, 2>>,
        gamma: Tensor<Cpu, 1>,
        beta: Tensor<Cpu, 1>,
        epsilon: f64,
    ) -> Tensor<Cpu, 2> {
        let ((x_node, x), (gamma_node, gamma), (beta_node, beta)) = (open(x), open(gamma), open(beta));
        let (residual_node, residual) = match residual.map(open) {
            Some((node, residual)) => (Some(node), Some(residual)),
            None => (None, None),
        };
        let (y, norm) = dense::add_norm(&x, residual.as_ref(), &gamma, &beta, epsilon as f32);
        let gradient = move |dy: &Matrix| dense::add_norm_gradient(&norm, &gamma, dy);
        close(match residual_node {
            None => record([x_node, gamma_node, beta_node], y, move |dy| gradient(dy).map(Some)),
            Some(residual_node) => record([x_node, residual_node, gamma_node, beta_node], y, move |dy| {
                let [dx, dgamma, dbeta] = gradient(dy);
                [Some(dx.clone()), Some(dx), Some(dgamma), Some(dbeta)]
            }),
        })
    }

    fn select(&self, table: Tensor<Cpu, 2>, slots: &Arc<[u32]>) -> Tensor<Cpu, 2> {
        let (node, table) = open(table);
        let (y, slots) = (pooling::select(&table, slots), slots.clone());
        close(record([node], y, move |dy| [Some(pooling::select_gradient(table.rows, &slots, dy))]))
    }

    fn attention(&self, qkv: Tensor<Cpu, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<Cpu, 2> {
        let (node, qkv) = open(qkv);
        let shape = attention::Shape::new(&qkv, layout, heads, dropout);
        let (y, saved) = attention::forward(&qkv, &shape);
        close(record([node], y, move |dy| [Some(attention::backward(&qkv, &saved, dy, &shape))]))
    }

    fn convolution(&self, x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>, layout: &Layout) -> Tensor<Cpu, 2> {
        let ((x_node, x), (w_node, w), (b_node, b)) = (open(x), open(w), open(b));
        let (y, layout) = (dense::convolution(&x, &w, &b, layout), layout.clone());
        close(record([x_node, w_node, b_node], y, move |dy| dense::convolution_gradient(&x, &w, dy, &layout).map(Some)))
    }

    fn lstm(&self, gates: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, layout: &Layout, backwards: bool) -> Tensor<Cpu, 2> {
        let ((gates_node, gates), (w_node, w)) = (open(gates), open(w));
        let order = recurrent::Order::new(layout, backwards);
        let (y, saved) = recurrent::forward(&gates, &w, &order);
        close(record([gates_node, w_node], y, move |dy| recurrent::backward(&w, &saved, dy, &order).map(Some)))
    }

    fn mean(&self, x: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, layout: &Layout) -> Tensor<Cpu, 2> {
        let (x_node, x) = open(x);
        let layout = layout.clone();
        close(match weights.map(open) {
            None => {
                let y = pooling::mean(&x, None, &layout);
                record([x_node], y, move |dy| [Some(pooling::mean_gradient(&x, &layout, dy))])
            }
            Some((weights_node, weights)) => {
                let y = pooling::mean(&x, Some(&weights), &layout);
                let mean = Matrix::of(&y);
                record([x_node, weights_node], y, move |dy| pooling::weighted_mean_gradient(&x, &weights, &mean, &layout, dy).map(Some))
            }
        })
    }

    fn max(&self, x: Tensor<Cpu, 2>, layout: &Layout) -> Tensor<Cpu, 2> {
        let (node, x) = open(x);
        let (y, winners) = pooling::max(&x, layout);
        close(record([node], y, move |dy| [Some(pooling::max_gradient(&x, &winners, dy))]))
    }

    fn bag(&self, table: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, bags: &Bags) -> Tensor<Cpu, 2> {
        let (table_node, table) = open(table);
        let bags = bags.clone();
        close(match weights.map(open) {
            None => {
                let y = pooling::bag(&table, None, &bags);
                let mean = Matrix::of(&y);
                record([table_node], y, move |dy| [Some(pooling::bag_gradient(&table, None, &mean, &bags, dy).0)])
            }
            Some((weights_node, weights)) => {
                let y = pooling::bag(&table, Some(&weights), &bags);
                let mean = Matrix::of(&y);
                record([table_node, weights_node], y, move |dy| {
                    let (table, weights) = pooling::bag_gradient(&table, Some(&weights), &mean, &bags, dy);
                    [Some(table), Some(weights)]
                })
            }
        })
    }

    fn dropout(&self, x: Tensor<Cpu, 2>, dropout: Dropout) -> Tensor<Cpu, 2> {
        let (node, x) = open(x);
        let y = dense::dropout(&x, dropout);
        close(record([node], y, move |dy| [Some(dense::dropout(dy, dropout))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_made_whatever_their_size() {
        for (length, block) in [(0, 4), (1, 4), (4, 4), (1000, 7), (3 * ZEROS + 5, ZEROS)] {
            let values = made(length, block, |index, part| {
                assert!(part.iter().all(|value| *value == 0.0));
                part.iter_mut().enumerate().for_each(|(place, value)| *value = (index * block + place) as f32);
            });
            assert!(values.len() == length && values.iter().enumerate().all(|(place, value)| *value == place as f32));
            assert!(zeros(length).iter().all(|value| *value == 0.0));
        }
    }
}
