//! NumPy files, written row by row.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use bundle::vectors::{MATRIX, QUANTISED, SCALES, quantise};
use ledger::ensure;

use crate::{Result, error::Context, npy};

/// Writes the f32 matrix, its i8 copy and the scales of the i8 rows.
pub struct MatrixWriter {
    matrix: BufWriter<File>,
    quantised: BufWriter<File>,
    scales: BufWriter<File>,
    dimension: usize,
    expected: usize,
    written: usize,
}

impl MatrixWriter {
    /// Creates the three files of `[rows, dimension]` in a folder.
    pub fn create(dir: &Path, rows: usize, dimension: usize) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let create = |name: &str, descr: &str, shape: &[usize]| npy::create(&dir.join(name), descr, shape);
        Ok(Self {
            matrix: create(MATRIX, "<f4", &[rows, dimension])?,
            quantised: create(QUANTISED, "|i1", &[rows, dimension])?,
            scales: create(SCALES, "<f4", &[rows])?,
            dimension,
            expected: rows,
            written: 0,
        })
    }

    /// Writes the next row.
    ///
    /// # Errors
    /// A row of another dimension, or with a number that is not finite.
    pub fn write(&mut self, row: &[f32]) -> Result<()> {
        ensure!(row.len() == self.dimension, "vector {} has {} numbers, expected {}", self.written, row.len(), self.dimension);
        ensure!(row.iter().all(|value| value.is_finite()), "vector {} has a number that is not finite", self.written);
        let (codes, scale) = quantise(row);
        self.matrix.write_all(&row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        self.quantised.write_all(&codes.iter().map(|&code| code.to_le_bytes()[0]).collect::<Vec<u8>>())?;
        self.scales.write_all(&scale.to_le_bytes())?;
        self.written += 1;
        Ok(())
    }

    /// Completes the files.
    pub fn finish(mut self) -> Result<()> {
        ensure!(self.written == self.expected, "{} vectors for {} rows", self.written, self.expected);
        self.matrix.flush()?;
        self.quantised.flush()?;
        self.scales.flush()?;
        Ok(())
    }
}
