//! Kernels that select rows of a table, and kernels that pool the rows of a sequence into one.

use std::sync::Arc;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::{
    layout::{Bags, Layout},
    matrix::{BLOCK, Matrix, split_sequences, tensor},
    vector::{add, add_scaled, dot, simd},
};

/// Added to a sum of weights before a division by the sum, so that a sum of 0 is allowed.
pub const WEIGHT_EPSILON: f32 = 1e-12;

pub fn select(table: &Matrix, slots: &Arc<[u32]>) -> FlexTensor {
    let width = table.columns;
    let mut y = vec![0.0; slots.len() * width];
    y.par_chunks_mut(BLOCK * width).zip(slots.par_chunks(BLOCK)).for_each(|(y, slots)| {
        for (y, &slot) in y.chunks_exact_mut(width).zip(slots) {
            y.copy_from_slice(&table.values()[slot as usize * width..][..width]);
        }
    });
    tensor(y, [slots.len(), width])
}

/// For each row of a table, the positions that select the row: `positions[starts[row]..starts[row + 1]]`, ascending.
struct Inverse {
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Inverse {
    fn new(rows: usize, slots: &[u32]) -> Self {
        let mut starts = vec![0u32; rows + 1];
        for &slot in slots {
            starts[slot as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut positions = vec![0u32; slots.len()];
        for (position, &slot) in slots.iter().enumerate() {
            positions[next[slot as usize] as usize] = position as u32;
            next[slot as usize] += 1;
        }
        Self { starts, positions }
    }

    fn of(&self, row: usize) -> &[u32] {
        &self.positions[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

pub fn select_gradient(rows: usize, slots: &Arc<[u32]>, dy: &Matrix) -> FlexTensor {
    let width = dy.columns;
    let inverse = Inverse::new(rows, slots);
    let mut gradient = vec![0.0; rows * width];
    gradient.par_chunks_mut(width).with_min_len(64).enumerate().for_each(|(row, sum)| {
        simd(|| inverse.of(row).iter().for_each(|&position| add(sum, &dy.values()[position as usize * width..][..width])));
    });
    tensor(gradient, [rows, width])
}

pub fn mean(x: &Matrix, weights: Option<&Matrix>, layout: &Layout) -> FlexTensor {
    let width = x.columns;
    let mut y = vec![0.0; layout.sequences() * width];
    y.par_chunks_mut(width).enumerate().for_each(|(sequence, y)| {
        simd(|| {
            let mut total = 0.0;
            for token in layout.range(sequence) {
                let weight = weights.map_or(1.0, |weights| weights.values()[token]);
                total += weight;
                add_scaled(y, &x.values()[token * width..][..width], weight);
            }
            let inverse = 1.0 / (total + WEIGHT_EPSILON);
            y.iter_mut().for_each(|y| *y *= inverse);
        });
    });
    tensor(y, [layout.sequences(), width])
}

pub fn mean_gradient(x: &Matrix, layout: &Layout, dy: &Matrix) -> FlexTensor {
    let width = x.columns;
    let mut dx = vec![0.0; x.rows * width];
    split_sequences(&mut dx, width, layout).into_par_iter().enumerate().for_each(|(sequence, dx)| {
        let dy = &dy.values()[sequence * width..][..width];
        let inverse = 1.0 / ((dx.len() / width) as f32 + WEIGHT_EPSILON);
        simd(|| dx.chunks_exact_mut(width).for_each(|dx| add_scaled(dx, dy, inverse)));
    });
    tensor(dx, [x.rows, width])
}

/// With `e = Σ w x / Σ w`: `dx_t = dy w_t / Σw`, `dw_t = dy·(x_t − e) / Σw`.
pub fn weighted_mean_gradient(x: &Matrix, weights: &Matrix, mean: &Matrix, layout: &Layout, dy: &Matrix) -> [FlexTensor; 2] {
    let width = x.columns;
    let (mut dx, mut dw) = (vec![0.0; x.rows * width], vec![0.0; x.rows]);
    let work: Vec<_> = split_sequences(&mut dx, width, layout).into_iter().zip(split_sequences(&mut dw, 1, layout)).collect();
    work.into_par_iter().enumerate().for_each(|(sequence, (dx, dw))| {
        let range = layout.range(sequence);
        let (dy, mean) = (&dy.values()[sequence * width..][..width], &mean.values()[sequence * width..][..width]);
        simd(|| {
            let total: f32 = weights.values()[range.clone()].iter().sum();
            let inverse = 1.0 / (total + WEIGHT_EPSILON);
            let own = dot(dy, mean);
            for ((dx, dw), token) in dx.chunks_exact_mut(width).zip(dw).zip(range) {
                add_scaled(dx, dy, weights.values()[token] * inverse);
                *dw = (dot(dy, &x.values()[token * width..][..width]) - own) * inverse;
            }
        });
    });
    [tensor(dx, [x.rows, width]), tensor(dw, [x.rows])]
}

/// Maximum of each column, and the first token with that maximum (`u32::MAX`: the sequence has no tokens).
pub fn max(x: &Matrix, layout: &Layout) -> (FlexTensor, Vec<u32>) {
    let width = x.columns;
    let mut y = vec![0.0; layout.sequences() * width];
    let mut winners = vec![u32::MAX; layout.sequences() * width];
    y.par_chunks_mut(width).zip(winners.par_chunks_mut(width)).enumerate().for_each(|(sequence, (y, winners))| {
        for token in layout.range(sequence) {
            let row = &x.values()[token * width..][..width];
            for ((y, winner), &value) in y.iter_mut().zip(winners.iter_mut()).zip(row) {
                if *winner == u32::MAX || value > *y {
                    (*y, *winner) = (value, token as u32);
                }
            }
        }
    });
    (tensor(y, [layout.sequences(), width]), winners)
}

pub fn max_gradient(x: &Matrix, winners: &[u32], dy: &Matrix) -> FlexTensor {
    let width = x.columns;
    let mut dx = vec![0.0; x.rows * width];
    for (position, (&winner, &dy)) in winners.iter().zip(dy.values()).enumerate() {
        if winner != u32::MAX {
            dx[winner as usize * width + position % width] += dy;
        }
    }
    tensor(dx, [x.rows, width])
}

pub fn bag(table: &Matrix, weights: Option<&Matrix>, bags: &Bags) -> FlexTensor {
    let width = table.columns;
    let mut y = vec![0.0; bags.layout.sequences() * width];
    y.par_chunks_mut(width).enumerate().for_each(|(sequence, y)| {
        simd(|| {
            let mut total = 0.0;
            for &slot in &bags.slots[bags.layout.range(sequence)] {
                let weight = weights.map_or(1.0, |weights| weights.values()[slot as usize]);
                total += weight;
                add_scaled(y, &table.values()[slot as usize * width..][..width], weight);
            }
            let inverse = 1.0 / (total + WEIGHT_EPSILON);
            y.iter_mut().for_each(|y| *y *= inverse);
        });
    });
    tensor(y, [bags.layout.sequences(), width])
}

/// [`weighted_mean_gradient`], summed over the positions of each row of the table. With `g_u = Σ dy_b / W_b` over the bags that contain
/// row u: `dx_u = w_u g_u` and `dw_u = g_u·x_u − Σ dy_b·e_b / W_b`.
pub fn bag_gradient(table: &Matrix, weights: Option<&Matrix>, mean: &Matrix, bags: &Bags, dy: &Matrix) -> (FlexTensor, FlexTensor) {
    let width = table.columns;
    let sequences = bags.layout.sequences();
    // dy / W and dy·e / W of each bag.
    let mut scaled = vec![0.0; sequences * width];
    let mut own = vec![0.0; sequences];
    scaled.par_chunks_mut(width).zip(own.par_iter_mut()).enumerate().for_each(|(sequence, (scaled, own))| {
        let slots = &bags.slots[bags.layout.range(sequence)];
        let total: f32 = weights.map_or(slots.len() as f32, |weights| slots.iter().map(|&slot| weights.values()[slot as usize]).sum());
        let inverse = 1.0 / (total + WEIGHT_EPSILON);
        simd(|| {
            add_scaled(scaled, &dy.values()[sequence * width..][..width], inverse);
            *own = dot(scaled, &mean.values()[sequence * width..][..width]);
        });
    });
    let inverse = Inverse::new(table.rows, &bags.slots);
    let mut bag_of = vec![0u32; bags.slots.len()];
    for (sequence, range) in bags.layout.ranges().enumerate() {
        bag_of[range].fill(sequence as u32);
    }
    let (mut dx, mut dw) = (vec![0.0; table.rows * width], vec![0.0; table.rows]);
    dx.par_chunks_mut(width).with_min_len(64).zip(dw.par_iter_mut().with_min_len(64)).enumerate().for_each(|(row, (dx, dw))| {
        simd(|| {
            let mut offset = 0.0;
            for &position in inverse.of(row) {
                let sequence = bag_of[position as usize] as usize;
                add(dx, &scaled[sequence * width..][..width]);
                offset += own[sequence];
            }
            if let Some(weights) = weights {
                *dw = dot(dx, &table.values()[row * width..][..width]) - offset;
                let weight = weights.values()[row];
                dx.iter_mut().for_each(|dx| *dx *= weight);
            }
        });
    });
    (tensor(dx, [table.rows, width]), tensor(dw, [table.rows]))
}
