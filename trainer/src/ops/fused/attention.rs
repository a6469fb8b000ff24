//! Self-attention of each sequence and head for itself, without padding: forward keeps the logarithm of each row's sum
//! (one number a token and head) and backward makes the probabilities again from it, so that no [T, T] matrix outlives
//! its head (the trade of FlashAttention, Dao et al. 2022, algorithms 1 and 4, without tiles: a code row's T × T fits
//! the cache).

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Dropout, Layout, Matrix,
    product::{Target, View, product},
    sequences, tensor,
    vector::{dot, exp, exp_sum, largest, wide},
    zeros,
};

/// What both passes agree on.
pub struct Shape {
    layout: Layout,
    heads: usize,
    width: usize,
    depth: usize,
    scale: f32,
    dropout: Option<(u32, f32, u32)>,
}

/// The output and the log of each row's sum of exponentials, `[N, heads]`.
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

    /// `factor(j)` of dropout for the row of a token.
    #[inline(always)]
    fn drop_row(&self, head: usize, token: usize, row: &mut [f32]) {
        if let Some((threshold, scale, key)) = self.dropout {
            let start = Dropout::attention_row(head, token);
            for (j, value) in row.iter_mut().enumerate() {
                *value *= Dropout::factor(threshold, scale, key, start.wrapping_add(j as u32));
            }
        }
    }

    /// A row of scores and one of the gradients of its dropped probabilities, made into the probabilities that met the
    /// values and the slopes of the scores.
    #[inline(always)]
    fn turn_row(&self, head: usize, token: usize, scores: &mut [f32], gradients: &mut [f32], log_sum: f32, mean: f32) {
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
    let work: Vec<_> = sequences(&mut out, width, &shape.layout).into_iter().zip(sequences(&mut log_sums, heads, &shape.layout)).collect();
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
                wide(|| {
                    for (i, row) in scores.chunks_exact_mut(length).enumerate() {
                        let most = largest(row);
                        let total = exp_sum(row, most);
                        inverse[i] = 1.0 / total;
                        log_sums[i * heads + head] = most + total.ln();
                        shape.drop_row(head, range.start + i, row);
                    }
                });
                let target = Target::new(&mut out[head * depth..], width);
                product(target, false, View::new(scores, length, length, length), part(2), 1.0);
                // The sums divide D numbers of a row here, not T.
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
    let work = sequences(&mut gradient, 3 * width, &shape.layout);
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
            let (met, slopes) = (&mut scores[..square], &mut slopes[..square]);
            for head in 0..heads {
                let part = |index: usize| View::new(&x[index * width + head * depth..], length, depth, 3 * width);
                let own = View::new(&dy[head * depth..], length, depth, width);
                product(Target::new(met, length), false, part(0), part(1).transposed(), shape.scale);
                product(Target::new(slopes, length), false, own, part(2).transposed(), 1.0);
                // Scores become the probabilities that met the values, gradients of these become slopes of the scores.
                wide(|| {
                    for (i, (met, slopes)) in met.chunks_exact_mut(length).zip(slopes.chunks_exact_mut(length)).enumerate() {
                        let at = i * width + head * depth..i * width + (head + 1) * depth;
                        let mean = dot(&out[at.clone()], &dy[at]);
                        let log_sum = saved.log_sums[(range.start + i) * heads + head];
                        shape.turn_row(head, range.start + i, met, slopes, log_sum, mean);
                    }
                });
                let starts: [usize; 3] = std::array::from_fn(|index| index * width + head * depth);
                let target = Target::new(&mut gradient[starts[2]..], 3 * width);
                product(target, false, View::new(met, length, length, length).transposed(), own, 1.0);
                let slopes = View::new(slopes, length, length, length);
                product(Target::new(&mut gradient[starts[0]..], 3 * width), false, slopes, part(1), 1.0);
                product(Target::new(&mut gradient[starts[1]..], 3 * width), false, slopes.transposed(), part(0), 1.0);
            }
        },
    );
    tensor(gradient, [n, 3 * width])
}
