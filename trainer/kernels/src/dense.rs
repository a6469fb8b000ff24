//! Kernels that work row by row: linear, GELU, add + LayerNorm, dropout, convolution.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::{
    dropout::Dropout,
    layout::Layout,
    matrix::{BLOCK, Matrix, filled_in_blocks, split_sequences, tensor, zeros},
    product::{Target, View, product},
    vector::{add, normal, simd, sum},
};

/// Maximum number of blocks whose weight gradients are added.
const PARTS: usize = 8;

pub fn linear(x: &Matrix, w: &Matrix, b: &Matrix) -> FlexTensor {
    let (n, inputs, outputs) = (x.rows, x.columns, w.columns);
    let y = filled_in_blocks(n * outputs, BLOCK * outputs, |block, y| {
        let rows = y.len() / outputs;
        for row in y.chunks_exact_mut(outputs) {
            row.copy_from_slice(b.values());
        }
        let x = &x.values()[block * BLOCK * inputs..][..rows * inputs];
        product(Target::new(y, outputs), true, View::new(x, rows, inputs, inputs), View::new(w.values(), inputs, outputs, outputs), 1.0);
    });
    tensor(y, [n, outputs])
}

pub fn linear_gradient(x: &Matrix, w: &Matrix, dy: &Matrix) -> [FlexTensor; 3] {
    let (n, inputs, outputs) = (x.rows, x.columns, w.columns);
    let dx = filled_in_blocks(n * inputs, BLOCK * inputs, |block, dx| {
        let rows = dx.len() / inputs;
        let dy = &dy.values()[block * BLOCK * outputs..][..rows * outputs];
        let w = View::new(w.values(), inputs, outputs, outputs).transposed();
        product(Target::new(dx, inputs), false, View::new(dy, rows, outputs, outputs), w, 1.0);
    });
    let (dw, db) = weight_gradient(x.values(), inputs, dy.values(), outputs);
    [tensor(dx, [n, inputs]), tensor(dw, [inputs, outputs]), tensor(db, [outputs])]
}

/// `xᵀ·dy: [I, O]` and the column sums of `dy`, computed in blocks of rows that are added in order.
pub fn weight_gradient(x: &[f32], inputs: usize, dy: &[f32], outputs: usize) -> (Vec<f32>, Vec<f32>) {
    let block = (dy.len() / outputs).div_ceil(PARTS).max(BLOCK);
    let parts: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks(block * inputs)
        .zip(dy.par_chunks(block * outputs))
        .map(|(x, dy)| {
            let rows = dy.len() / outputs;
            let (mut dw, mut db) = (vec![0.0; inputs * outputs], vec![0.0; outputs]);
            let x = View::new(x, rows, inputs, inputs).transposed();
            product(Target::new(&mut dw, outputs), false, x, View::new(dy, rows, outputs, outputs), 1.0);
            simd(|| dy.chunks_exact(outputs).for_each(|row| add(&mut db, row)));
            (dw, db)
        })
        .collect();
    let mut parts = parts.into_iter();
    let (mut dw, mut db) = parts.next().unwrap_or_else(|| (vec![0.0; inputs * outputs], vec![0.0; outputs]));
    for (more, bias) in parts {
        simd(|| {
            add(&mut dw, &more);
            add(&mut db, &bias);
        });
    }
    (dw, db)
}

pub fn gelu(x: &Matrix) -> FlexTensor {
    let length = BLOCK * x.columns;
    let y = filled_in_blocks(x.values().len(), length, |block, y| {
        simd(|| {
            for (y, &x) in y.iter_mut().zip(&x.values()[block * length..]) {
                *y = x * normal(x).0;
            }
        });
    });
    tensor(y, [x.rows, x.columns])
}

pub fn gelu_gradient(x: &Matrix, dy: &Matrix) -> FlexTensor {
    const INVERSE_SQRT_TWO_PI: f32 = 0.398_942_3;
    let length = BLOCK * x.columns;
    let dx = filled_in_blocks(x.values().len(), length, |block, dx| {
        let (x, dy) = (&x.values()[block * length..], &dy.values()[block * length..]);
        simd(|| {
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                let (below, density) = normal(x);
                *dx = dy * (below + x * density * INVERSE_SQRT_TWO_PI);
            }
        });
    });
    tensor(dx, [x.rows, x.columns])
}

/// Values of the forward pass that the backward pass of a norm needs: the normalised rows, and 1/σ of each row.
pub struct Norm {
    normalised: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

pub fn add_norm(x: &Matrix, residual: Option<&Matrix>, gamma: &Matrix, beta: &Matrix, epsilon: f32) -> (FlexTensor, Norm) {
    let (n, width) = (x.rows, x.columns);
    let (mut y, mut normalised, mut inverse_deviation) = (zeros(n * width), zeros(n * width), zeros(n));
    let (gamma, beta) = (gamma.values(), beta.values());
    let blocks = y.par_chunks_mut(BLOCK * width).zip(normalised.par_chunks_mut(BLOCK * width)).zip(inverse_deviation.par_chunks_mut(BLOCK));
    blocks.zip(x.values().par_chunks(BLOCK * width)).enumerate().for_each(|(block, (((y, normalised), inverse_deviation), x))| {
        let residual = residual.map(|residual| &residual.values()[block * BLOCK * width..]);
        simd(|| {
            for (row, inverse) in inverse_deviation.iter_mut().enumerate() {
                let at = row * width..(row + 1) * width;
                let (x, y, hat) = (&x[at.clone()], &mut y[at.clone()], &mut normalised[at.clone()]);
                hat.copy_from_slice(x);
                if let Some(residual) = residual {
                    add(hat, &residual[at]);
                }
                let mean = sum(width, |i| hat[i]) / width as f32;
                let variance = sum(width, |i| (hat[i] - mean) * (hat[i] - mean)) / width as f32;
                *inverse = 1.0 / (variance + epsilon).sqrt();
                for i in 0..width {
                    hat[i] = (hat[i] - mean) * *inverse;
                    y[i] = hat[i] * gamma[i] + beta[i];
                }
            }
        });
    });
    (tensor(y, [n, width]), Norm { normalised, inverse_deviation })
}

pub fn add_norm_gradient(norm: &Norm, gamma: &Matrix, dy: &Matrix) -> [FlexTensor; 3] {
    let (n, width, gamma) = (dy.rows, dy.columns, gamma.values());
    let mut dx = zeros(n * width);
    let blocks = dx.par_chunks_mut(BLOCK * width).zip(norm.normalised.par_chunks(BLOCK * width));
    let parts: Vec<(Vec<f32>, Vec<f32>)> = blocks
        .zip(norm.inverse_deviation.par_chunks(BLOCK))
        .zip(dy.values().par_chunks(BLOCK * width))
        .map(|(((dx, normalised), inverse_deviation), dy)| {
            let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
            simd(|| {
                for (row, &inverse) in inverse_deviation.iter().enumerate() {
                    let at = row * width..(row + 1) * width;
                    let (dx, hat, dy) = (&mut dx[at.clone()], &normalised[at.clone()], &dy[at]);
                    let mean = sum(width, |i| dy[i] * gamma[i]) / width as f32;
                    let slope = sum(width, |i| dy[i] * gamma[i] * hat[i]) / width as f32;
                    for i in 0..width {
                        dx[i] = inverse * (dy[i] * gamma[i] - mean - hat[i] * slope);
                        dgamma[i] += dy[i] * hat[i];
                        dbeta[i] += dy[i];
                    }
                }
            });
            (dgamma, dbeta)
        })
        .collect();
    let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
    for (gamma, beta) in &parts {
        add(&mut dgamma, gamma);
        add(&mut dbeta, beta);
    }
    [tensor(dx, [n, width]), tensor(dgamma, [width]), tensor(dbeta, [width])]
}

/// The forward pass, and the backward pass with `dy` as `x`: both multiply by the factors.
pub fn dropout(x: &Matrix, dropout: Dropout) -> FlexTensor {
    let (threshold, scale, key) = (dropout.threshold(), dropout.scale(), dropout.key());
    let length = BLOCK * x.columns;
    let y = filled_in_blocks(x.values().len(), length, |block, y| {
        let first = (block * length) as u32;
        simd(|| {
            for (position, (y, &x)) in y.iter_mut().zip(&x.values()[block * length..]).enumerate() {
                *y = x * Dropout::factor(threshold, scale, key, first.wrapping_add(position as u32));
            }
        });
    });
    tensor(y, [x.rows, x.columns])
}

/// A sequence with zeros at both ends, so that every window of the convolution is inside.
fn padded(x: &[f32], width: usize, kernel: usize) -> Vec<f32> {
    let mut padded = vec![0.0; x.len() + (kernel - 1) * width];
    let before = (kernel - 1) / 2 * width;
    padded[before..before + x.len()].copy_from_slice(x);
    padded
}

/// One matrix product for each sequence: its windows are overlapping rows, `[T, K·I]` with a stride of I.
pub fn convolution(x: &Matrix, w: &Matrix, b: &Matrix, layout: &Layout) -> FlexTensor {
    let (width, outputs) = (x.columns, w.columns);
    let kernel = w.rows / width;
    let mut y = zeros(x.rows * outputs);
    split_sequences(&mut y, outputs, layout).into_par_iter().enumerate().for_each(|(sequence, y)| {
        let range = layout.range(sequence);
        let window = padded(&x.values()[range.start * width..range.end * width], width, kernel);
        for row in y.chunks_exact_mut(outputs) {
            row.copy_from_slice(b.values());
        }
        let window = View::new(&window, range.len(), kernel * width, width);
        product(Target::new(y, outputs), true, window, View::new(w.values(), w.rows, outputs, outputs), 1.0);
    });
    tensor(y, [x.rows, outputs])
}

pub fn convolution_gradient(x: &Matrix, w: &Matrix, dy: &Matrix, layout: &Layout) -> [FlexTensor; 3] {
    let (width, outputs) = (x.columns, w.columns);
    let kernel = w.rows / width;
    let before = (kernel - 1) / 2 * width;
    let mut dx = zeros(x.rows * width);
    let mut parts: Vec<&mut [f32]> = split_sequences(&mut dx, width, layout);
    let block = layout.sequences().div_ceil(PARTS).max(1);
    let sums: Vec<(Vec<f32>, Vec<f32>)> = parts
        .par_chunks_mut(block)
        .enumerate()
        .map(|(index, parts)| {
            let (mut dw, mut db) = (vec![0.0; w.rows * outputs], vec![0.0; outputs]);
            for (offset, dx) in parts.iter_mut().enumerate() {
                let range = layout.range(index * block + offset);
                let length = range.len();
                let window = padded(&x.values()[range.start * width..range.end * width], width, kernel);
                let dy = &dy.values()[range.start * outputs..range.end * outputs];
                let windows = View::new(&window, length, kernel * width, width).transposed();
                product(Target::new(&mut dw, outputs), true, windows, View::new(dy, length, outputs, outputs), 1.0);
                simd(|| dy.chunks_exact(outputs).for_each(|row| add(&mut db, row)));
                let mut padded = vec![0.0; window.len()];
                for tap in 0..kernel {
                    let tap_weights = View::new(&w.values()[tap * width * outputs..], width, outputs, outputs).transposed();
                    let target = Target::new(&mut padded[tap * width..], width);
                    product(target, true, View::new(dy, length, outputs, outputs), tap_weights, 1.0);
                }
                dx.copy_from_slice(&padded[before..before + dx.len()]);
            }
            (dw, db)
        })
        .collect();
    let (mut dw, mut db) = (vec![0.0; w.rows * outputs], vec![0.0; outputs]);
    for (weights, bias) in &sums {
        add(&mut dw, weights);
        add(&mut db, bias);
    }
    [tensor(dx, [x.rows, width]), tensor(dw, [w.rows, outputs]), tensor(db, [outputs])]
}
