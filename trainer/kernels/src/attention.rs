//! Self-attention, one sequence and one head at a time, without padding.
//!
//! The forward pass saves the logarithm of each row's sum of exponentials: one number for each token and head. The backward pass computes
//! the probabilities again from these sums, so that no `[T, T]` matrix is stored between the passes (FlashAttention, Dao et al. 2022,
//! algorithms 1 and 4). Unlike FlashAttention there are no tiles: the T × T scores of one sequence fit the processor's cache.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::{
    dropout::Dropout,
    layout::Layout,
    matrix::{Matrix, split_sequences, tensor, zeros},
    product::{Target, View, product},
    vector::{dot, exp, exp_sum, max, simd},
};

/// Sizes and settings of both passes.
pub struct Shape {
    layout: Layout,
    heads: usize,
    width: usize,
    depth: usize,
    scale: f32,
    dropout: Option<(u32, f32, u32)>,
}

/// The output, and the logarithm of each row's sum of exponentials, `[N, heads]`.
pub struct Saved {
    output: Matrix,
    log_sums: Vec<f32>,
}

impl Shape {
    pub fn new(qkv: &Matrix, layout: &Layout, heads: usize, dropout: Option<Dropout>) -> Self {
        let width = qkv.columns / 3;
        let depth = width / heads;
        assert_eq!(depth * heads * 3, qkv.columns, "the width is not a multiple of the heads");
        let dropout = dropout.map(|dropout| (dropout.threshold(), dropout.scale(), dropout.key()));
        Self { layout: layout.clone(), heads, width, depth, scale: 1.0 / (depth as f32).sqrt(), dropout }
    }

    /// Multiplies the row of a token by its dropout factors.
    #[inline(always)]
    fn apply_dropout(&self, head: usize, token: usize, row: &mut [f32]) {
        if let Some((threshold, scale, key)) = self.dropout {
            let start = Dropout::attention_row(head, token);
            for (j, value) in row.iter_mut().enumerate() {
                *value *= Dropout::factor(threshold, scale, key, start.wrapping_add(j as u32));
            }
        }
    }

    /// Replaces a row of scores by the probabilities after dropout, and the gradients by these probabilities by the gradients by the
    /// scores.
    #[inline(always)]
    fn score_gradients(&self, head: usize, token: usize, scores: &mut [f32], gradients: &mut [f32], log_sum: f32, mean: f32) {
        let row = scores.iter_mut().zip(gradients);
        match self.dropout {
            None => {
                for (score, gradient) in row {
                    let probability = exp(*score - log_sum);
                    *score = probability;
                    *gradient = probability * (*gradient - mean) * self.scale;
                }
            }
            Some((threshold, scale, key)) => {
                let start = Dropout::attention_row(head, token);
                for (j, (score, gradient)) in row.enumerate() {
                    let probability = exp(*score - log_sum);
                    let factor = Dropout::factor(threshold, scale, key, start.wrapping_add(j as u32));
                    *score = probability * factor;
                    *gradient = probability * (*gradient * factor - mean) * self.scale;
                }
            }
        }
    }
}

pub fn forward(qkv: &Matrix, shape: &Shape) -> (FlexTensor, Saved) {
    let (n, width, depth, heads) = (qkv.rows, shape.width, shape.depth, shape.heads);
    let mut out = zeros(n * width);
    let mut log_sums = vec![0.0; n * heads];
    let longest = shape.layout.longest();
    let work: Vec<_> =
        split_sequences(&mut out, width, &shape.layout).into_iter().zip(split_sequences(&mut log_sums, heads, &shape.layout)).collect();
    work.into_par_iter().enumerate().for_each_init(
        || (vec![0.0; longest * longest], vec![0.0; longest]),
        |(scratch, inverse), (sequence, (out, log_sums))| {
            let range = shape.layout.range(sequence);
            let length = range.len();
            if length == 0 {
                return;
            }
            let x = &qkv.values()[range.start * 3 * width..range.end * 3 * width];
            let scores = &mut scratch[..length * length];
            for head in 0..heads {
                let part = |index: usize| View::new(&x[index * width + head * depth..], length, depth, 3 * width);
                product(Target::new(scores, length), false, part(0), part(1).transposed(), shape.scale);
                simd(|| {
                    for (i, row) in scores.chunks_exact_mut(length).enumerate() {
                        let most = max(row);
                        let total = exp_sum(row, most);
                        inverse[i] = 1.0 / total;
                        log_sums[i * heads + head] = most + total.ln();
                        shape.apply_dropout(head, range.start + i, row);
                    }
                });
                let target = Target::new(&mut out[head * depth..], width);
                product(target, false, View::new(scores, length, length, length), part(2), 1.0);
                // Dividing here divides D numbers of a row instead of T.
                for (row, inverse) in out.chunks_exact_mut(width).zip(&*inverse) {
                    row[head * depth..(head + 1) * depth].iter_mut().for_each(|value| *value *= inverse);
                }
            }
        },
    );
    let out = tensor(out, [n, width]);
    let output = Matrix::of(&out);
    (out, Saved { output, log_sums })
}

pub fn backward(qkv: &Matrix, saved: &Saved, dy: &Matrix, shape: &Shape) -> FlexTensor {
    let (n, width, depth, heads) = (qkv.rows, shape.width, shape.depth, shape.heads);
    let mut gradient = zeros(n * 3 * width);
    let longest = shape.layout.longest();
    let work = split_sequences(&mut gradient, 3 * width, &shape.layout);
    work.into_par_iter().enumerate().for_each_init(
        || (vec![0.0; longest * longest], vec![0.0; longest * longest]),
        |(scores, slopes), (sequence, gradient)| {
            let range = shape.layout.range(sequence);
            let length = range.len();
            if length == 0 {
                return;
            }
            let x = &qkv.values()[range.start * 3 * width..range.end * 3 * width];
            let rows = |matrix: &'_ Matrix| -> std::ops::Range<usize> { range.start * matrix.columns..range.end * matrix.columns };
            let (out, dy) = (&saved.output.values()[rows(&saved.output)], &dy.values()[rows(dy)]);
            let square = length * length;
            let (weights, slopes) = (&mut scores[..square], &mut slopes[..square]);
            for head in 0..heads {
                let part = |index: usize| View::new(&x[index * width + head * depth..], length, depth, 3 * width);
                let own = View::new(&dy[head * depth..], length, depth, width);
                product(Target::new(weights, length), false, part(0), part(1).transposed(), shape.scale);
                product(Target::new(slopes, length), false, own, part(2).transposed(), 1.0);
                // From here on `weights` holds probabilities after dropout, and `slopes` the gradients by the scores.
                simd(|| {
                    for (i, (weights, slopes)) in weights.chunks_exact_mut(length).zip(slopes.chunks_exact_mut(length)).enumerate() {
                        let at = i * width + head * depth..i * width + (head + 1) * depth;
                        let mean = dot(&out[at.clone()], &dy[at]);
                        let log_sum = saved.log_sums[(range.start + i) * heads + head];
                        shape.score_gradients(head, range.start + i, weights, slopes, log_sum, mean);
                    }
                });
                let starts: [usize; 3] = std::array::from_fn(|index| index * width + head * depth);
                let target = Target::new(&mut gradient[starts[2]..], 3 * width);
                product(target, false, View::new(weights, length, length, length).transposed(), own, 1.0);
                let slopes = View::new(slopes, length, length, length);
                product(Target::new(&mut gradient[starts[0]..], 3 * width), false, slopes, part(1), 1.0);
                product(Target::new(&mut gradient[starts[1]..], 3 * width), false, slopes.transposed(), part(0), 1.0);
            }
        },
    );
    tensor(gradient, [n, 3 * width])
}
