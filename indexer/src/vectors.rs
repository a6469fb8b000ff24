//! The vectors of a bundle: a plain f32 matrix, and an i8 copy of it that is scanned.
//!
//! Both are NumPy files (`.npy` version 1.0, C order, little-endian), mapped into memory:
//! `embeddings.npy` f32 `[rows, dimension]` of unit vectors, `embeddings.i8.npy` i8 of the same
//! shape and `scales.npy` f32 `[rows]` with `x ≈ i8 · scale`. A search scans all of the i8 matrix
//! exactly and ranks the best candidates again by the f32 rows.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

use crate::fusion::Scored;

pub const MATRIX: &str = "embeddings.npy";
pub const QUANTISED: &str = "embeddings.i8.npy";
pub const SCALES: &str = "scales.npy";

/// More candidates than asked for are ranked again, for what quantisation puts in the wrong order.
const MARGIN: usize = 40;
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
fn quantise(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    (row.iter().map(|value| (value / scale).round() as i8).collect(), scale)
}

/// A memory-mapped `.npy` file.
#[derive(Debug)]
struct Npy {
    map: Mmap,
    start: usize,
}

impl Npy {
    /// Maps a file and checks that it is exactly what is expected.
    fn open(path: &Path, descr: &str, shape: &[usize], item: usize) -> Result<Self> {
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

    fn bytes(&self) -> &[u8] {
        &self.map[self.start..]
    }
}

/// The vectors of an open bundle.
#[derive(Debug)]
pub struct Vectors {
    matrix: Npy,
    quantised: Npy,
    scales: Npy,
    rows: usize,
    dimension: usize,
}

impl Vectors {
    pub fn open(dir: &Path, rows: usize, dimension: usize) -> Result<Self> {
        Ok(Self {
            matrix: Npy::open(&dir.join(MATRIX), "<f4", &[rows, dimension], 4)?,
            quantised: Npy::open(&dir.join(QUANTISED), "|i1", &[rows, dimension], 1)?,
            scales: Npy::open(&dir.join(SCALES), "<f4", &[rows], 4)?,
            rows,
            dimension,
        })
    }

    /// Inner product of a row with a query, in f32: sixteen sums of every sixteenth component, added in their order.
    pub fn score(&self, row: u32, query: &[f32]) -> f32 {
        let bytes = &self.matrix.bytes()[row as usize * self.dimension * 4..][..self.dimension * 4];
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut sums = [0f32; LANES];
        for (numbers, query) in numbers.chunks(LANES).zip(query.chunks(LANES)) {
            for ((sum, number), query) in sums.iter_mut().zip(numbers).zip(query) {
                *sum += f32::from_le_bytes(*number) * query;
            }
        }
        sums.iter().sum()
    }

    /// The best `k` rows that `keep` accepts, best first; equal scores by row.
    pub fn search(&self, query: &[f32], k: usize, keep: impl Fn(u32) -> bool) -> Vec<Scored> {
        let (codes, _) = quantise(query);
        let codes: Vec<i16> = codes.into_iter().map(i16::from).collect();
        let arch = pulp::Arch::new();
        let mut best = Best::new((k + MARGIN).min(self.rows));
        let blocks = self.quantised.bytes().chunks(BLOCK * self.dimension).zip(self.scales.bytes().as_chunks::<4>().0.chunks(BLOCK));
        for (block, (bytes, scales)) in blocks.enumerate() {
            let mut products = [0i32; BLOCK];
            // Compiled for the widest vectors that this processor has.
            arch.dispatch(|| dots(bytes, &codes, &mut products));
            for (place, (product, scale)) in products.iter().zip(scales).enumerate() {
                let row = (block * BLOCK + place) as u32;
                let score = *product as f32 * f32::from_le_bytes(*scale);
                if score > best.least && keep(row) {
                    best.offer((row, score));
                }
            }
        }
        let mut exact: Vec<Scored> = best.rows().into_iter().map(|(row, _)| (row, self.score(row, query))).collect();
        exact.sort_by(best_first);
        exact.truncate(k);
        exact
    }

    /// [`Vectors::search`] without quantisation: the truth that recall is measured against.
    pub fn search_exact(&self, query: &[f32], k: usize, keep: impl Fn(u32) -> bool) -> Vec<Scored> {
        let rows = u32::try_from(self.rows).unwrap_or(u32::MAX);
        let mut all: Vec<Scored> = (0..rows).filter(|&row| keep(row)).map(|row| (row, self.score(row, query))).collect();
        all.sort_by(best_first);
        all.truncate(k);
        all
    }
}

/// Sums that an inner product is kept in.
const LANES: usize = 16;

/// Rows whose products are made at a time.
const BLOCK: usize = 256;

/// Products of rows of i8 with a query. Of 127² at most: 65,536 components fit 32 bits.
#[inline(always)]
fn dots(rows: &[u8], codes: &[i16], products: &mut [i32; BLOCK]) {
    for (row, product) in rows.chunks_exact(codes.len()).zip(products) {
        *product = row.iter().zip(codes).map(|(&byte, &code)| i32::from(i16::from(byte.cast_signed())) * i32::from(code)).sum();
    }
}

/// The best so many of what is offered.
struct Best {
    most: usize,
    /// Up to twice as many; those beyond are sorted out when it is full.
    rows: Vec<Scored>,
    /// What a row must score to be looked at.
    least: f32,
}

impl Best {
    fn new(most: usize) -> Self {
        Self { most, rows: Vec::with_capacity(2 * most), least: f32::NEG_INFINITY }
    }

    fn offer(&mut self, scored: Scored) {
        // Rows come in their order: of equal scores the earlier row is in already.
        if scored.1 > self.least {
            self.rows.push(scored);
            if self.rows.len() == 2 * self.most {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if self.rows.len() > self.most {
            self.rows.select_nth_unstable_by(self.most - 1, best_first);
            self.rows.truncate(self.most);
            self.least = self.rows[self.most - 1].1;
        }
    }

    fn rows(mut self) -> Vec<Scored> {
        self.shrink();
        self.rows
    }
}

/// Orders by score, falling, then by row.
pub fn best_first(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, dimension: usize) -> Vec<Vec<f32>> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let unit = |row: Vec<f32>| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().map(|x| x / norm).collect()
        };
        (0..rows).map(|_| unit((0..dimension).map(|_| next()).collect())).collect()
    }

    #[test]
    fn a_search_finds_what_brute_force_finds() {
        let dir = tempfile::tempdir().unwrap();
        let rows = matrix(3000, 48);
        let mut writer = MatrixWriter::create(dir.path(), rows.len(), 48).unwrap();
        rows.iter().for_each(|row| writer.write(row).unwrap());
        writer.finish().unwrap();
        let vectors = Vectors::open(dir.path(), 3000, 48).unwrap();
        for query in matrix(20, 48) {
            let found = vectors.search(&query, 10, |row| row % 2 == 0);
            assert_eq!(found, vectors.search_exact(&query, 10, |row| row % 2 == 0));
            assert_eq!(found.len(), 10);
        }
    }

    #[test]
    fn the_best_are_those_of_a_sort_ties_included() {
        for (count, most) in [(0, 3), (2, 3), (3, 3), (1000, 7), (1000, 400)] {
            let rows: Vec<Scored> = (0..count).map(|row| (row, ((row * 7919) % 13) as f32)).collect();
            let mut best = Best::new(most);
            rows.iter().for_each(|&row| best.offer(row));
            let (mut found, mut sorted) = (best.rows(), rows);
            found.sort_by(best_first);
            sorted.sort_by(best_first);
            sorted.truncate(most);
            assert_eq!(found, sorted, "{most} of {count}");
        }
    }

    #[test]
    fn a_damaged_or_foreign_matrix_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = MatrixWriter::create(dir.path(), 2, 4).unwrap();
        writer.write(&[1.0, 0.0, 0.0, 0.0]).unwrap();
        assert!(writer.write(&[f32::NAN; 4]).is_err());
        writer.write(&[0.0, 1.0, 0.0, 0.0]).unwrap();
        writer.finish().unwrap();
        assert!(Vectors::open(dir.path(), 2, 4).is_ok());
        assert!(Vectors::open(dir.path(), 3, 4).is_err());
        let path = dir.path().join(MATRIX);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Vectors::open(dir.path(), 2, 4).is_err());
    }
}
