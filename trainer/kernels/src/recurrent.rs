//! One direction of an LSTM layer: sequences of a group take each step together, until each sequence ends.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::{
    dense::weight_gradient,
    layout::Layout,
    matrix::{Matrix, tensor},
    product::{Target, View, product},
    vector::{sigmoid, simd, tanh},
};

/// Maximum number of sequences in a group.
const GROUP: usize = 32;

/// Groups of sequences, the longest first: the sequences that are active at a step are the first of their group.
pub struct Order {
    groups: Vec<Vec<std::ops::Range<usize>>>,
    backwards: bool,
    tokens: usize,
}

/// Gates after their activation functions (`[N, 4D]`: i, f, g, o), cell states and outputs (`[N, D]`).
pub struct Saved {
    gates: Vec<f32>,
    cells: Vec<f32>,
    output: Matrix,
}

impl Order {
    pub fn new(layout: &Layout, backwards: bool) -> Self {
        let mut ranges: Vec<_> = layout.ranges().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| (std::cmp::Reverse(range.len()), range.start));
        Self { groups: ranges.chunks(GROUP).map(<[_]>::to_vec).collect(), backwards, tokens: layout.tokens() }
    }

    /// The token that a sequence reads at a step.
    fn token(&self, range: &std::ops::Range<usize>, step: usize) -> usize {
        if self.backwards { range.end - 1 - step } else { range.start + step }
    }

    fn active(group: &[std::ops::Range<usize>], step: usize) -> usize {
        group.partition_point(|range| range.len() > step)
    }
}

/// Results of one group, in the order of its steps; they are copied to the positions of their tokens afterwards.
struct Steps {
    gates: Vec<f32>,
    cells: Vec<f32>,
    hidden: Vec<f32>,
}

pub fn forward(gates: &Matrix, w: &Matrix, order: &Order) -> (FlexTensor, Saved) {
    let width = w.rows;
    let results: Vec<Steps> = order
        .groups
        .par_iter()
        .map(|group| {
            let mut steps = Steps { gates: Vec::new(), cells: Vec::new(), hidden: Vec::new() };
            let (mut hidden, mut cells) = (vec![0.0; group.len() * width], vec![0.0; group.len() * width]);
            let mut all = vec![0.0; group.len() * 4 * width];
            for step in 0..group[0].len() {
                let active = Order::active(group, step);
                let all = &mut all[..active * 4 * width];
                for (row, range) in all.chunks_exact_mut(4 * width).zip(group) {
                    let token = order.token(range, step);
                    row.copy_from_slice(&gates.values()[token * 4 * width..(token + 1) * 4 * width]);
                }
                let before = View::new(&hidden, active, width, width);
                product(Target::new(all, 4 * width), true, before, View::new(w.values(), width, 4 * width, 4 * width), 1.0);
                simd(|| {
                    for (row, (hidden, cells)) in
                        all.chunks_exact_mut(4 * width).zip(hidden.chunks_exact_mut(width).zip(cells.chunks_exact_mut(width)))
                    {
                        let (i, rest) = row.split_at_mut(width);
                        let (f, rest) = rest.split_at_mut(width);
                        let (g, o) = rest.split_at_mut(width);
                        for d in 0..width {
                            i[d] = sigmoid(i[d]);
                            f[d] = sigmoid(f[d]);
                            g[d] = tanh(g[d]);
                            o[d] = sigmoid(o[d]);
                            cells[d] = f[d] * cells[d] + i[d] * g[d];
                            hidden[d] = o[d] * tanh(cells[d]);
                        }
                    }
                });
                steps.gates.extend_from_slice(all);
                steps.cells.extend_from_slice(&cells[..active * width]);
                steps.hidden.extend_from_slice(&hidden[..active * width]);
            }
            steps
        })
        .collect();
    let mut saved_gates = vec![0.0; order.tokens * 4 * width];
    let (mut cells, mut out) = (vec![0.0; order.tokens * width], vec![0.0; order.tokens * width]);
    for (group, steps) in order.groups.iter().zip(results) {
        let mut at = 0;
        for step in 0..group[0].len() {
            for range in &group[..Order::active(group, step)] {
                let token = order.token(range, step);
                saved_gates[token * 4 * width..][..4 * width].copy_from_slice(&steps.gates[at * 4 * width..][..4 * width]);
                cells[token * width..][..width].copy_from_slice(&steps.cells[at * width..][..width]);
                out[token * width..][..width].copy_from_slice(&steps.hidden[at * width..][..width]);
                at += 1;
            }
        }
    }
    let out = tensor(out, [order.tokens, width]);
    let output = Matrix::of(&out);
    (out, Saved { gates: saved_gates, cells, output })
}

/// The hidden state before each token: the output of the token that was read before it, 0 for the first token. `[N, D]`
fn earlier_states(output: &Matrix, width: usize, order: &Order) -> Vec<f32> {
    let mut earlier = vec![0.0; order.tokens * width];
    for range in order.groups.iter().flatten() {
        for step in 1..range.len() {
            let (token, before) = (order.token(range, step), order.token(range, step - 1));
            earlier[token * width..][..width].copy_from_slice(&output.values()[before * width..][..width]);
        }
    }
    earlier
}

pub fn backward(w: &Matrix, saved: &Saved, dy: &Matrix, order: &Order) -> [FlexTensor; 2] {
    let width = w.rows;
    let earlier = earlier_states(&saved.output, width, order);
    let groups: Vec<Vec<(usize, Vec<f32>)>> = order
        .groups
        .par_iter()
        .map(|group| {
            let (mut dhidden, mut dcells) = (vec![0.0; group.len() * width], vec![0.0; group.len() * width]);
            let mut written = Vec::new();
            for step in (0..group[0].len()).rev() {
                let active = Order::active(group, step);
                let mut dall = vec![0.0; active * 4 * width];
                for (row, range) in group[..active].iter().enumerate() {
                    let token = order.token(range, step);
                    let gates = &saved.gates[token * 4 * width..][..4 * width];
                    let cells = &saved.cells[token * width..][..width];
                    let before = (step > 0).then(|| &saved.cells[order.token(range, step - 1) * width..][..width]);
                    let dy = &dy.values()[token * width..][..width];
                    let (dhidden, dcells) = (&dhidden[row * width..][..width], &mut dcells[row * width..][..width]);
                    let out = &mut dall[row * 4 * width..][..4 * width];
                    simd(|| {
                        let (i, rest) = gates.split_at(width);
                        let (f, rest) = rest.split_at(width);
                        let (g, o) = rest.split_at(width);
                        let (di, rest) = out.split_at_mut(width);
                        let (df, rest) = rest.split_at_mut(width);
                        let (dg, dout) = rest.split_at_mut(width);
                        for d in 0..width {
                            let dh = dy[d] + dhidden[d];
                            let activated = tanh(cells[d]);
                            let dc = dcells[d] + dh * o[d] * (1.0 - activated * activated);
                            let earlier = before.map_or(0.0, |before| before[d]);
                            di[d] = dc * g[d] * i[d] * (1.0 - i[d]);
                            df[d] = dc * earlier * f[d] * (1.0 - f[d]);
                            dg[d] = dc * i[d] * (1.0 - g[d] * g[d]);
                            dout[d] = dh * activated * o[d] * (1.0 - o[d]);
                            dcells[d] = dc * f[d];
                        }
                    });
                }
                let transposed = View::new(w.values(), width, 4 * width, 4 * width).transposed();
                product(Target::new(&mut dhidden, width), false, View::new(&dall, active, 4 * width, 4 * width), transposed, 1.0);
                written.push((step, dall));
            }
            written
        })
        .collect();
    let mut dgates = vec![0.0; order.tokens * 4 * width];
    for (group, steps) in order.groups.iter().zip(groups) {
        for (step, dall) in steps {
            for (range, row) in group.iter().zip(dall.chunks_exact(4 * width)) {
                dgates[order.token(range, step) * 4 * width..][..4 * width].copy_from_slice(row);
            }
        }
    }
    let (dw, _) = weight_gradient(&earlier, width, &dgates, 4 * width);
    [tensor(dgates, [order.tokens, 4 * width]), tensor(dw, [width, 4 * width])]
}
