//! The differentiable operations: kernels recorded on the autodiff graph.
//!
//! B = sequences, N = tokens of all sequences, D = width, H = heads, U = rows of a table.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{
    attention as self_attention,
    autodiff::{Cpu, input, record},
    dense,
    dropout::Dropout,
    layout::{Bags, Layout},
    matrix::Matrix,
    pooling, recurrent,
};

/// `x·w + b`, with `x: [N, I]`, `w: [I, O]` and `b: [O]`.
pub fn linear(x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>) -> Tensor<Cpu, 2> {
    let ((x_node, x), (w_node, w), (b_node, b)) = (input(x), input(w), input(b));
    let y = dense::linear(&x, &w, &b);
    record([x_node, w_node, b_node], y, move |dy| dense::linear_gradient(&x, &w, dy).map(Some))
}

/// `x Φ(x)` (Hendrycks & Gimpel 2016), Φ being the distribution function of the standard normal distribution.
pub fn gelu(x: Tensor<Cpu, 2>) -> Tensor<Cpu, 2> {
    let (node, x) = input(x);
    let y = dense::gelu(&x);
    record([node], y, move |dy| [Some(dense::gelu_gradient(&x, dy))])
}

/// Layer normalisation of `x + residual` over the width (Ba et al. 2016): `x, residual: [N, D]`, `gamma, beta: [D]`.
pub fn add_norm(
    x: Tensor<Cpu, 2>,
    residual: Option<Tensor<Cpu, 2>>,
    gamma: Tensor<Cpu, 1>,
    beta: Tensor<Cpu, 1>,
    epsilon: f64,
) -> Tensor<Cpu, 2> {
    let ((x_node, x), (gamma_node, gamma), (beta_node, beta)) = (input(x), input(gamma), input(beta));
    let (residual_node, residual) = residual.map(input).unzip();
    let (y, norm) = dense::add_norm(&x, residual.as_ref(), &gamma, &beta, epsilon as f32);
    let gradient = move |dy: &Matrix| dense::add_norm_gradient(&norm, &gamma, dy);
    match residual_node {
        None => record([x_node, gamma_node, beta_node], y, move |dy| gradient(dy).map(Some)),
        Some(residual_node) => record([x_node, residual_node, gamma_node, beta_node], y, move |dy| {
            let [dx, dgamma, dbeta] = gradient(dy);
            [Some(dx.clone()), Some(dx), Some(dgamma), Some(dbeta)]
        }),
    }
}

/// Rows of a table: `[U, D] -> [N, D]`.
pub fn select(table: Tensor<Cpu, 2>, slots: &Arc<[u32]>) -> Tensor<Cpu, 2> {
    let (node, table) = input(table);
    let (y, slots) = (pooling::select(&table, slots), slots.clone());
    record([node], y, move |dy| [Some(pooling::select_gradient(table.rows, &slots, dy))])
}

/// Self-attention within each sequence (Vaswani et al. 2017, eq. 1): `qkv: [N, 3D] -> [N, D]`.
///
/// # Panics
/// D is not a multiple of `heads`.
pub fn attention(qkv: Tensor<Cpu, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<Cpu, 2> {
    let (node, qkv) = input(qkv);
    let shape = self_attention::Shape::new(&qkv, layout, heads, dropout);
    let (y, saved) = self_attention::forward(&qkv, &shape);
    record([node], y, move |dy| [Some(self_attention::backward(&qkv, &saved, dy, &shape))])
}

/// Convolution over time with as many outputs as inputs: `x: [N, I]`, `w: [K·I, O]`, `b: [O]`. Zeros extend a sequence at both ends;
/// ⌊(K−1)/2⌋ of the K taps precede the token.
pub fn convolution(x: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, b: Tensor<Cpu, 1>, layout: &Layout) -> Tensor<Cpu, 2> {
    let ((x_node, x), (w_node, w), (b_node, b)) = (input(x), input(w), input(b));
    let (y, layout) = (dense::convolution(&x, &w, &b, layout), layout.clone());
    record([x_node, w_node, b_node], y, move |dy| dense::convolution_gradient(&x, &w, dy, &layout).map(Some))
}

/// One layer of an LSTM in one direction (Hochreiter & Schmidhuber 1997, with forget gates). `gates: [N, 4D]` is the part of the gates
/// i, f, g, o that the inputs give, with the bias; `w: [D, 4D]` is the recurrent weight.
pub fn lstm(gates: Tensor<Cpu, 2>, w: Tensor<Cpu, 2>, layout: &Layout, backwards: bool) -> Tensor<Cpu, 2> {
    let ((gates_node, gates), (w_node, w)) = (input(gates), input(w));
    let order = recurrent::Order::new(layout, backwards);
    let (y, saved) = recurrent::forward(&gates, &w, &order);
    record([gates_node, w_node], y, move |dy| recurrent::backward(&w, &saved, dy, &order).map(Some))
}

/// `Σ_t w_t x_t / Σ_t w_t` of each sequence, `[B, D]`; weights are 1 where none are given. A sequence without tokens gives 0.
pub fn mean(x: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, layout: &Layout) -> Tensor<Cpu, 2> {
    let (x_node, x) = input(x);
    let layout = layout.clone();
    match weights.map(input) {
        None => {
            let y = pooling::mean(&x, None, &layout);
            record([x_node], y, move |dy| [Some(pooling::mean_gradient(&x, &layout, dy))])
        }
        Some((weights_node, weights)) => {
            let y = pooling::mean(&x, Some(&weights), &layout);
            let mean = Matrix::of(&y);
            record([x_node, weights_node], y, move |dy| pooling::weighted_mean_gradient(&x, &weights, &mean, &layout, dy).map(Some))
        }
    }
}

/// Maximum of each column over each sequence, `[B, D]`. A sequence without tokens gives 0.
pub fn max(x: Tensor<Cpu, 2>, layout: &Layout) -> Tensor<Cpu, 2> {
    let (node, x) = input(x);
    let (y, winners) = pooling::max(&x, layout);
    record([node], y, move |dy| [Some(pooling::max_gradient(&x, &winners, dy))])
}

/// [`mean`] over selected rows of a table, `table: [U, D]`; each weight belongs to a row, `weights: [U]`.
pub fn bag(table: Tensor<Cpu, 2>, weights: Option<Tensor<Cpu, 1>>, bags: &Bags) -> Tensor<Cpu, 2> {
    let (table_node, table) = input(table);
    let bags = bags.clone();
    match weights.map(input) {
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
    }
}

/// Applies dropout factors to `x: [N, D]`.
pub fn dropout(x: Tensor<Cpu, 2>, dropout: Dropout) -> Tensor<Cpu, 2> {
    let (node, x) = input(x);
    let y = dense::dropout(&x, dropout);
    record([node], y, move |dy| [Some(dense::dropout(dy, dropout))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(x: Tensor<Cpu, 2>) -> Vec<f64> {
        x.into_data().convert::<f64>().to_vec().unwrap()
    }

    #[test]
    fn a_sequence_without_tokens_is_pooled_to_zero() {
        let layout = Layout::of_lengths([0, 0]);
        let x = Tensor::<Cpu, 2>::zeros([0, 4], &Default::default());
        assert_eq!(numbers(mean(x.clone(), None, &layout)), [0.0; 8]);
        assert_eq!(numbers(max(x, &layout)), [0.0; 8]);
    }

    #[test]
    fn dropout_drops_its_share_and_preserves_the_mean() {
        let y = numbers(dropout(Tensor::ones([400, 250], &Default::default()), Dropout { probability: 0.25, seed: 5 }));
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / y.len() as f64;
        assert!((dropped - 0.25).abs() < 0.005, "{dropped}");
        assert!((y.iter().sum::<f64>() / y.len() as f64 - 1.0).abs() < 0.01);
    }

    #[test]
    fn two_dropout_seeds_are_independent() {
        let drop = |seed| numbers(dropout(Tensor::ones([400, 250], &Default::default()), Dropout { probability: 0.25, seed }));
        let (a, b) = (drop(5), drop(6));
        let same = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
        assert!((same - (0.75 * 0.75 + 0.25 * 0.25)).abs() < 0.01, "{same}");
    }
}
