//! Custom nodes of burn's autodiff graph: an output that a kernel computed, with the function that computes the gradients of its inputs.

use std::{fmt, sync::Arc};

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops as Node, OpsKind},
        },
    },
    tensor::{Tensor, TensorPrimitive, ops::FloatTensor},
};
use burn_flex::FlexTensor;

use crate::matrix::Matrix;

/// burn's CPU backend with automatic differentiation.
pub type Cpu = Autodiff<Flex>;
/// The device of [`Cpu`].
pub type CpuDevice = burn_flex::FlexDevice;

/// Gradients of N inputs, from the gradient of the output.
type Gradient<const N: usize> = dyn Fn(&Matrix) -> [Option<FlexTensor>; N] + Send + Sync;

#[derive(Clone)]
struct GradientFn<const N: usize>(Arc<Gradient<N>>);

impl<const N: usize> fmt::Debug for GradientFn<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gradient function")
    }
}

#[derive(Debug)]
struct KernelBackward<const N: usize>;

impl<const N: usize> Backward<Flex, N> for KernelBackward<N> {
    type State = GradientFn<N>;

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

/// Adds an output to the graph, with the function that computes the gradients of its inputs.
pub fn record<const N: usize, const D: usize>(
    inputs: [FloatTensor<Cpu>; N],
    output: FlexTensor,
    gradient: impl Fn(&Matrix) -> [Option<FlexTensor>; N] + Send + Sync + 'static,
) -> Tensor<Cpu, D> {
    let output = match KernelBackward.prepare::<NoCheckpointing>(inputs.map(|input| input.node)).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish(GradientFn(Arc::new(gradient)), output),
        OpsKind::UnTracked(node) => node.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// The graph node of an input, and its values.
pub fn input<const D: usize>(x: Tensor<Cpu, D>) -> (FloatTensor<Cpu>, Matrix) {
    let node = x.into_primitive().tensor();
    let matrix = Matrix::of(&node.primitive);
    (node, matrix)
}
