//! [`Ops`] by the CPU kernels of the crate `kernels`.

use std::sync::Arc;

use burn::tensor::Tensor;
pub use kernels::Cpu;
use kernels::{Bags, Dropout, Layout};

use super::ops::Ops;

/// The fused operations.
#[derive(Debug, Clone, Copy)]
pub struct Fused;

impl Ops<Cpu> for Fused {
    fn linear(&self, x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>) -> Tensor<Cpu, 2> {
        kernels::linear(x, w, b)
    }

    fn gelu(&self, x: Tensor<Cpu, 2>) -> Tensor<Cpu, 2> {
        kernels::gelu(x)
    }

    fn add_norm(
        &self,
        x: Tensor<Cpu, 2>,
        residual: Option<Tensor<Cpu, 2>>,
        gamma: Tensor<Cpu, 1>,
        beta: Tensor<Cpu, 1>,
        epsilon: f64,
    ) -> Tensor<Cpu, 2> {
        kernels::add_norm(x, residual, gamma, beta, epsilon)
    }

    fn select(&self, table: Tensor<Cpu, 2>, slots: &Arc<[u32]>) -> Tensor<Cpu, 2> {
        kernels::select(table, slots)
    }

    fn attention(&self, qkv: Tensor<Cpu, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<Cpu, 2> {
        kernels::attention(qkv, layout, heads, dropout)
    }

    fn convolution(&self, x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>, layout: &Layout) -> Tensor<Cpu, 2> {
        kernels::convolution(x, w, b, layout)
    }

    fn lstm(&self, gates: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, layout: &Layout, backwards: bool) -> Tensor<Cpu, 2> {
        kernels::lstm(gates, w, layout, backwards)
    }

    fn mean(&self, x: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, layout: &Layout) -> Tensor<Cpu, 2> {
        kernels::mean(x, weights, layout)
    }

    fn max(&self, x: Tensor<Cpu, 2>, layout: &Layout) -> Tensor<Cpu, 2> {
        kernels::max(x, layout)
    }

    fn bag(&self, table: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, bags: &Bags) -> Tensor<Cpu, 2> {
        kernels::bag(table, weights, bags)
    }

    fn dropout(&self, x: Tensor<Cpu, 2>, dropout: Dropout) -> Tensor<Cpu, 2> {
        kernels::dropout(x, dropout)
    }
}
