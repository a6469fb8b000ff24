//! NumPy files: written row by row, and mapped.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

use super::{MATRIX, QUANTISED, SCALES};

/// npy headers are padded so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims = shape.iter().map(|dim| format!("{dim},")).collect::<String>();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padding = ALIGNMENT - (10 + text.len() + 1) % ALIGNMENT;
    text.extend(std::iter::repeat_n(' ', padding % ALIGNMENT));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// Writes the three files row by row.
pub struct MatrixWriter {
    matrix: BufWriter<File>,
    quantised: BufWriter<File>,
    scales: BufWriter<File>,
    dimension: usize,
    expected: usize,
    written: usize,
}

impl MatrixWriter {
    pub fn create(dir: &Path, rows: usize, dimension: usize) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let open = |name: &str, descr: &str, shape: &[usize]| -> Result<BufWriter<File>> {
            let path = dir.join(name);
            let mut file = BufWriter::new(File::create(&path).with_context(|| format!("creating {}", path.display()))?);
            file.write_all(&header(descr, shape))?;
            Ok(file)
        };
        Ok(Self {
            matrix: open(MATRIX, "<f4", &[rows, dimension])?,
            quantised: open(QUANTISED, "|i1", &[rows, dimension])?,
            scales: open(SCALES, "<f4", &[rows])?,
            dimension,
            expected: rows,
            written: 0,
        })
    }

    pub fn write(&mut self, row: &[f32]) -> Result<()> {
        ensure!(row.len() == self.dimension, "a vector has {} numbers, the matrix {}", row.len(), self.dimension);
        ensure!(row.iter().all(|value| value.is_finite()), "vector {} holds a number that is not finite", self.written);
        let (codes, scale) = quantise(row);
        for value in row {
            self.matrix.write_all(&value.to_le_bytes())?;
        }
        self.quantised.write_all(&codes.iter().map(|&code| code.to_le_bytes()[0]).collect::<Vec<u8>>())?;
        self.scales.write_all(&scale.to_le_bytes())?;
        self.written += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        ensure!(self.written == self.expected, "{} vectors for {} rows", self.written, self.expected);
        self.matrix.flush()?;
        self.quantised.flush()?;
        self.scales.flush()?;
        Ok(())
    }
}

/// Symmetric i8 with one scale a row.
pub fn quantise(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    (row.iter().map(|value| (value / scale).round() as i8).collect(), scale)
}

/// A memory-mapped `.npy` file.
#[derive(Debug)]
pub struct Npy {
    map: Mmap,
    start: usize,
}

impl Npy {
    /// Maps a file and checks that it is exactly what is expected.
    pub fn open(path: &Path, descr: &str, shape: &[usize], item: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        // SAFETY: bundle files are sealed: nothing writes to them once they carry their name. A
        // process that truncates one all the same can end this one with SIGBUS, never give it
        // references to freed memory. Covered by `a_search_finds_what_brute_force_finds`.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("mapping {}", path.display()))?;
        let head = header(descr, shape);
        let bytes = shape.iter().try_fold(item, |bytes, dim| bytes.checked_mul(*dim)).context("shape overflows")?;
        ensure!(
            map.len() == head.len() + bytes && map.starts_with(&head),
            "{} is not a {descr} matrix of shape {shape:?}: the bundle is damaged",
            path.display()
        );
        Ok(Self { map, start: head.len() })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..]
    }
}
