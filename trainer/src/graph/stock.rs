//! [`Ops`] composed of burn's own operations, for any backend and any float type: the reference for [`super::fused`], and what a GPU runs.
//! An operation that needs rectangles pads its sequences itself.

use std::sync::Arc;

use burn::tensor::{
    Int, Tensor, TensorData,
    activation::{sigmoid, softmax},
    backend::Backend,
};
use kernels::{Bags, Dropout, Layout, WEIGHT_EPSILON};

use super::ops::Ops;

/// The composed operations.
#[derive(Debug, Clone, Copy)]
pub struct Stock;

fn indices<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// A tensor of these numbers, with the float type and device of `like`.
fn floats<B: Backend, const D: usize>(values: Vec<f32>, shape: [usize; D], like: &Tensor<B, 2>) -> Tensor<B, D> {
    Tensor::<B, D>::from_data(TensorData::new(values, shape), &like.device()).cast(like.dtype())
}

/// `[N, D] -> [B, T, D]`, with zeros after the end of each sequence.
fn pad<B: Backend>(x: Tensor<B, 2>, layout: &Layout) -> Tensor<B, 3> {
    let ([tokens, width], longest) = (x.dims(), layout.longest().max(1));
    let mut positions = vec![tokens as i32; layout.sequences() * longest];
    for (sequence, range) in layout.ranges().enumerate() {
        for (t, token) in range.enumerate() {
            positions[sequence * longest + t] = token as i32;
        }
    }
    let device = x.device();
    let zero = floats(vec![0.0; width], [1, width], &x);
    Tensor::cat(vec![x, zero], 0).select(0, indices(positions, &device)).reshape([layout.sequences(), longest, width])
}

/// The inverse of [`pad`].
fn unpad<B: Backend>(x: Tensor<B, 3>, layout: &Layout) -> Tensor<B, 2> {
    let [sequences, longest, width] = x.dims();
    let positions = layout.ranges().enumerate().flat_map(|(b, range)| (0..range.len()).map(move |t| (b * longest + t) as i32)).collect();
    let device = x.device();
    x.reshape([sequences * longest, width]).select(0, indices(positions, &device))
}

/// `[B, T]`: `inside` where a sequence has a token, `outside` after its end.
fn rectangle<B: Backend>(layout: &Layout, inside: f32, outside: f32, like: &Tensor<B, 2>) -> Tensor<B, 2> {
    let longest = layout.longest().max(1);
    let values = layout.ranges().flat_map(|range| (0..longest).map(move |t| if t < range.len() { inside } else { outside })).collect();
    floats(values, [layout.sequences(), longest], like)
}

impl<B: Backend> Ops<B> for Stock {
    fn linear(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>) -> Tensor<B, 2> {
        x.matmul(w) + b.unsqueeze::<2>()
    }

    fn gelu(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        burn::tensor::activation::gelu(x)
    }

    fn add_norm(
        &self,
        x: Tensor<B, 2>,
        residual: Option<Tensor<B, 2>>,
        gamma: Tensor<B, 1>,
        beta: Tensor<B, 1>,
        epsilon: f64,
    ) -> Tensor<B, 2> {
        let x = match residual {
            Some(residual) => x + residual,
            None => x,
        };
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().powi_scalar(2).mean_dim(1);
        centred / (variance + epsilon).sqrt() * gamma.unsqueeze::<2>() + beta.unsqueeze::<2>()
    }

    fn select(&self, table: Tensor<B, 2>, slots: &Arc<[u32]>) -> Tensor<B, 2> {
        let device = table.device();
        table.select(0, indices(slots.iter().map(|&slot| slot as i32).collect(), &device))
    }

    fn attention(&self, qkv: Tensor<B, 2>, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Tensor<B, 2> {
        let (sequences, longest, width) = (layout.sequences(), layout.longest().max(1), qkv.dims()[1] / 3);
        let depth = width / heads;
        let mask_bias = rectangle(layout, 0.0, f32::from_bits(0xff7f_ffff) / 2.0, &qkv).reshape([sequences, 1, 1, longest]);
        let factors = dropout.map(|dropout| floats(attention_factors(layout, heads, dropout), [sequences, heads, longest, longest], &qkv));
        // [B, T, 3, H, D/H] -> three tensors [B, H, T, D/H]
        let parts = pad(qkv, layout).reshape([sequences, longest, 3, heads, depth]).permute([2, 0, 3, 1, 4]);
        let part = |index: usize| parts.clone().narrow(0, index, 1).reshape([sequences, heads, longest, depth]);
        let scores = part(0).matmul(part(1).transpose()) / (depth as f64).sqrt() + mask_bias;
        let mut weights = softmax(scores, 3);
        if let Some(factors) = factors {
            weights = weights * factors;
        }
        let out = weights.matmul(part(2)).permute([0, 2, 1, 3]).reshape([sequences, longest, width]);
        unpad(out, layout)
    }

    fn convolution(&self, x: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>, layout: &Layout) -> Tensor<B, 2> {
        let [tokens, width] = x.dims();
        let kernel = w.dims()[0] / width;
        let (before, device) = ((kernel - 1) / 2, x.device());
        let zero = floats(vec![0.0; width], [1, width], &x);
        let padded = Tensor::cat(vec![x, zero], 0);
        let taps = (0..kernel).map(|tap| {
            let positions = layout
                .ranges()
                .flat_map(|range| {
                    let (start, end) = (range.start as i64, range.end as i64);
                    range.map(move |token| {
                        let position = token as i64 + tap as i64 - before as i64;
                        if (start..end).contains(&position) { position as i32 } else { tokens as i32 }
                    })
                })
                .collect();
            padded.clone().select(0, indices(positions, &device))
        });
        Tensor::cat(taps.collect(), 1).matmul(w) + b.unsqueeze::<2>()
    }

    fn lstm(&self, gates: Tensor<B, 2>, w: Tensor<B, 2>, layout: &Layout, backwards: bool) -> Tensor<B, 2> {
        let (sequences, longest, width) = (layout.sequences(), layout.longest().max(1), w.dims()[0]);
        let mask = rectangle(layout, 1.0, 0.0, &gates);
        let zeros = floats(vec![0.0; sequences * width], [sequences, width], &gates);
        let gates = pad(gates, layout);
        let (mut hidden, mut cell) = (zeros.clone(), zeros);
        let mut outputs = vec![None; longest];
        for step in 0..longest {
            let t = if backwards { longest - 1 - step } else { step };
            let all = gates.clone().slice([0..sequences, t..t + 1]).reshape([sequences, 4 * width]) + hidden.clone().matmul(w.clone());
            let gate = |index: usize| all.clone().slice([0..sequences, index * width..(index + 1) * width]);
            let active = mask.clone().slice([0..sequences, t..t + 1]);
            // The state is 0 after the end of a sequence. In backward direction, the sequence starts there.
            cell = (sigmoid(gate(1)) * cell + sigmoid(gate(0)) * gate(2).tanh()) * active.clone();
            hidden = sigmoid(gate(3)) * cell.clone().tanh() * active;
            outputs[t] = Some(hidden.clone().reshape([sequences, 1, width]));
        }
        unpad(Tensor::cat(outputs.into_iter().flatten().collect(), 1), layout)
    }

    fn mean(&self, x: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, layout: &Layout) -> Tensor<B, 2> {
        let (sequences, longest, [tokens, width]) = (layout.sequences(), layout.longest().max(1), x.dims());
        let weights = match weights {
            Some(weights) => pad(weights.reshape([tokens, 1]), layout).reshape([sequences, longest]),
            None => rectangle(layout, 1.0, 0.0, &x),
        };
        let total = weights.clone().sum_dim(1) + f64::from(WEIGHT_EPSILON);
        weights.reshape([sequences, 1, longest]).matmul(pad(x, layout)).reshape([sequences, width]) / total
    }

    fn max(&self, x: Tensor<B, 2>, layout: &Layout) -> Tensor<B, 2> {
        let (sequences, longest, width) = (layout.sequences(), layout.longest().max(1), x.dims()[1]);
        let mask_bias = rectangle(layout, 0.0, f32::MIN / 2.0, &x).reshape([sequences, longest, 1]);
        let some = layout.ranges().map(|range| if range.is_empty() { 0.0 } else { 1.0 }).collect();
        let some = floats(some, [sequences, 1], &x);
        (pad(x, layout) + mask_bias).max_dim(1).reshape([sequences, width]) * some
    }

    fn bag(&self, table: Tensor<B, 2>, weights: Option<Tensor<B, 1>>, bags: &Bags) -> Tensor<B, 2> {
        let weights = weights.map(|weights| {
            let device = weights.device();
            weights.select(0, indices(bags.slots.iter().map(|&slot| slot as i32).collect(), &device))
        });
        self.mean(self.select(table, &bags.slots), weights, &bags.layout)
    }

    fn dropout(&self, x: Tensor<B, 2>, dropout: Dropout) -> Tensor<B, 2> {
        let [tokens, width] = x.dims();
        let (threshold, scale, key) = (dropout.threshold(), dropout.scale(), dropout.key());
        let factors = (0..tokens * width).map(|position| Dropout::factor(threshold, scale, key, position as u32)).collect();
        let factors = floats(factors, [tokens, width], &x);
        x * factors
    }
}

/// Dropout factors of attention weights, padded to `[B, H, T, T]`.
fn attention_factors(layout: &Layout, heads: usize, dropout: Dropout) -> Vec<f32> {
    let longest = layout.longest().max(1);
    let (threshold, scale, key) = (dropout.threshold(), dropout.scale(), dropout.key());
    let mut factors = vec![0.0; layout.sequences() * heads * longest * longest];
    for (sequence, range) in layout.ranges().enumerate() {
        for head in 0..heads {
            for (i, token) in range.clone().enumerate() {
                let row = Dropout::attention_row(head, token);
                let start = ((sequence * heads + head) * longest + i) * longest;
                for j in 0..range.len() {
                    factors[start + j] = Dropout::factor(threshold, scale, key, row.wrapping_add(j as u32));
                }
            }
        }
    }
    factors
}
