//! Contiguous matrices and vectors that are filled in parallel blocks.

use std::mem::MaybeUninit;

use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::layout::Layout;

/// Rows in one block of work.
pub const BLOCK: usize = 256;

/// Numbers that a thread sets to zero at a time.
const ZEROS: usize = 1 << 16;

/// Values and shape of a contiguous tensor; the storage is shared with the tensor.
#[derive(Debug, Clone)]
pub struct Matrix {
    tensor: FlexTensor,
    pub rows: usize,
    pub columns: usize,
}

impl Matrix {
    /// A view of a tensor; a vector is one row.
    pub fn of(tensor: &FlexTensor) -> Self {
        let tensor = tensor.to_contiguous();
        let shape = tensor.layout().shape();
        let columns = shape[shape.num_dims() - 1];
        let rows = shape.num_elements() / columns.max(1);
        Self { tensor, rows, columns }
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        match self.tensor.layout().contiguous_offsets() {
            Some((start, end)) => &self.tensor.storage::<f32>()[start..end],
            None => unreachable!("`Matrix::of` makes the tensor contiguous"),
        }
    }
}

/// A tensor of these values.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A vector that is filled in blocks, in parallel. `fill` gets the number of a block and its numbers, which are 0. The same thread wrote
/// these zeros just before: they are in its cache, and no thread clears the whole vector while the others wait.
pub fn filled_in_blocks(length: usize, block: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    values.spare_capacity_mut()[..length].par_chunks_mut(block.max(1)).enumerate().for_each(|(index, part)| {
        part.fill(MaybeUninit::new(0.0));
        // SAFETY: the line above wrote every element of the part.
        fill(index, unsafe { part.assume_init_mut() });
    });
    // SAFETY: the parts cover the first `length` elements, and each element was written.
    unsafe { values.set_len(length) };
    values
}

/// A vector of zeros, written by all threads.
pub fn zeros(length: usize) -> Vec<f32> {
    filled_in_blocks(length, ZEROS, |_, _| {})
}

/// Splits packed rows of `width` numbers into their sequences.
pub fn split_sequences<'a>(mut rest: &'a mut [f32], width: usize, layout: &Layout) -> Vec<&'a mut [f32]> {
    layout
        .ranges()
        .map(|range| {
            let (sequence, tail) = std::mem::take(&mut rest).split_at_mut(range.len() * width);
            rest = tail;
            sequence
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_filled_whatever_its_size() {
        for (length, block) in [(0, 4), (1, 4), (4, 4), (1000, 7), (3 * ZEROS + 5, ZEROS)] {
            let values = filled_in_blocks(length, block, |index, part| {
                assert!(part.iter().all(|value| *value == 0.0));
                part.iter_mut().enumerate().for_each(|(place, value)| *value = (index * block + place) as f32);
            });
            assert!(values.len() == length && values.iter().enumerate().all(|(place, value)| *value == place as f32));
            assert!(zeros(length).iter().all(|value| *value == 0.0));
        }
    }
}
