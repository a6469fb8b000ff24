//! The vectors of a bundle: a plain f32 matrix, an i8 copy of it that is scanned, and above a number of rows graphs of
//! near neighbours.
//!
//! The matrices are NumPy files (`.npy` version 1.0, C order, little-endian), mapped into memory:
//! `embeddings.npy` f32 `[rows, dimension]` of unit vectors, `embeddings.i8.npy` i8 of the same
//! shape and `scales.npy` f32 `[rows]` with `x ≈ i8 · scale`. A scan reads all of the i8 matrix; the `graph`s (HNSW, i8)
//! read a few thousand rows. Either way the best candidates are ranked again by the f32 rows.

mod graph;
mod matrix;

use std::path::Path;

use anyhow::Result;

use crate::ranking::{Best, Scored, best_first};
pub use graph::{GraphFacts, Graphs, Hnsw, build as build_graphs, recall as graph_recall};
pub use matrix::MatrixWriter;
use matrix::{Npy, quantise};

pub const MATRIX: &str = "embeddings.npy";
pub const QUANTISED: &str = "embeddings.i8.npy";
pub const SCALES: &str = "scales.npy";

/// More candidates than asked for are ranked again, for what quantisation puts in the wrong order.
const MARGIN: usize = 40;
/// A row that a graph looks at costs as much time as so many that are scanned (`make bench` measures both).
const LOOKED_AT: f64 = 110.0;

/// The vectors of an open bundle.
#[derive(Debug)]
pub struct Vectors {
    matrix: Npy,
    quantised: Npy,
    scales: Npy,
    graphs: Option<Graphs>,
    rows: usize,
    dimension: usize,
}

impl Vectors {
    pub fn open(dir: &Path, rows: usize, dimension: usize) -> Result<Self> {
        Ok(Self {
            matrix: Npy::open(&dir.join(MATRIX), "<f4", &[rows, dimension], 4)?,
            quantised: Npy::open(&dir.join(QUANTISED), "|i1", &[rows, dimension], 1)?,
            scales: Npy::open(&dir.join(SCALES), "<f4", &[rows], 4)?,
            graphs: None,
            rows,
            dimension,
        })
    }

    /// With the graphs of a folder, for as many searches at a time as `threads`.
    pub fn with_graphs(mut self, dir: &Path, facts: &GraphFacts, threads: usize) -> Result<Self> {
        self.graphs = Some(Graphs::open(dir, facts, self.rows, self.dimension, threads)?);
        Ok(self)
    }

    pub fn graphs(&self) -> Option<&Graphs> {
        self.graphs.as_ref()
    }

    /// The numbers of a row.
    pub fn row(&self, row: u32) -> impl Iterator<Item = f32> + '_ {
        let bytes = &self.matrix.bytes()[row as usize * self.dimension * 4..][..self.dimension * 4];
        bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number))
    }

    /// Inner product of a row with a query, in f32.
    pub fn score(&self, row: u32, query: &[f32]) -> f32 {
        let bytes = &self.matrix.bytes()[row as usize * self.dimension * 4..][..self.dimension * 4];
        pulp::Arch::new().dispatch(|| dot(bytes, query))
    }

    /// The best `k` of the rows that `allowed` has (none: all), best first; equal scores by row. By the graphs where there are
    /// any and they should be faster, or else by a scan.
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        let (k, rows) = (k.min(self.rows), self.rows.max(1) as f64);
        let share = allowed.map_or(1.0, |rows| rows.iter().filter(|row| **row).count() as f64 / rows.len().max(1) as f64);
        match &self.graphs {
            // Behind a filter a graph passes by all that is not allowed.
            Some(graphs) if graphs.looked_at(k) as f64 * LOOKED_AT < rows * share => self.search_graphs(graphs, query, k, allowed),
            _ => Ok(self.search_all(query, k, allowed)),
        }
    }

    /// [`Vectors::search`] by the graphs, whatever the share of the rows.
    pub fn search_graphs(&self, graphs: &Graphs, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        Ok(self.ranked(graphs.search(query, k, allowed)?, query, k))
    }

    /// [`Vectors::search`] by a scan.
    pub fn search_all(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Vec<Scored> {
        self.ranked(self.scan(query, k.min(self.rows) + MARGIN, allowed), query, k)
    }

    /// Candidates, ranked by their f32 rows.
    fn ranked(&self, candidates: impl IntoIterator<Item = u32>, query: &[f32], k: usize) -> Vec<Scored> {
        let mut exact: Vec<Scored> = candidates.into_iter().map(|row| (row, self.score(row, query))).collect();
        exact.sort_by(best_first);
        exact.truncate(k);
        exact
    }

    /// The best `k` rows by the i8 matrix, in no order.
    fn scan(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Vec<u32> {
        let (codes, _) = quantise(query);
        let codes: Vec<i16> = codes.into_iter().map(i16::from).collect();
        let arch = pulp::Arch::new();
        let mut best = Best::new(k.min(self.rows));
        let blocks = self.quantised.bytes().chunks(BLOCK * self.dimension).zip(self.scales.bytes().as_chunks::<4>().0.chunks(BLOCK));
        for (block, (bytes, scales)) in blocks.enumerate() {
            let keep = |place: usize| allowed.is_none_or(|rows| rows.get(block * BLOCK + place).is_some_and(|kept| *kept));
            if allowed.is_some() && !(0..scales.len()).any(keep) {
                continue;
            }
            let mut products = [0i32; BLOCK];
            // Compiled for the widest vectors that this processor has.
            arch.dispatch(|| dots(bytes, &codes, &mut products));
            for (place, (product, scale)) in products.iter().zip(scales).enumerate() {
                let score = *product as f32 * f32::from_le_bytes(*scale);
                if score > best.least && keep(place) {
                    best.offer(((block * BLOCK + place) as u32, score), ());
                }
            }
        }
        best.rows().into_iter().map(|((row, _), ())| row).collect()
    }

    /// [`Vectors::search`] without quantisation: the truth that recall is measured against.
    pub fn search_exact(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Vec<Scored> {
        let rows = u32::try_from(self.rows).unwrap_or(u32::MAX);
        let kept = (0..rows).filter(|&row| allowed.is_none_or(|rows| rows.get(row as usize).is_some_and(|kept| *kept)));
        self.ranked(kept, query, k)
    }
}

/// Sums that an inner product is kept in.
const LANES: usize = 16;

/// Inner product of f32 bytes with a query: sixteen sums of every sixteenth component, added in their order, whatever the processor.
#[inline(always)]
fn dot(bytes: &[u8], query: &[f32]) -> f32 {
    let (numbers, rest) = bytes.as_chunks::<4>().0.as_chunks::<LANES>();
    let (queries, query_rest) = query.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (numbers, query) in numbers.iter().zip(queries) {
        for ((sum, number), query) in sums.iter_mut().zip(numbers).zip(query) {
            *sum += f32::from_le_bytes(*number) * query;
        }
    }
    for ((sum, number), query) in sums.iter_mut().zip(rest).zip(query_rest) {
        *sum += f32::from_le_bytes(*number) * query;
    }
    sums.iter().sum()
}

/// Rows whose products are made at a time.
const BLOCK: usize = 256;

/// Products of rows of i8 with a query. Of 127² at most: 65,536 components fit 32 bits.
#[inline(always)]
fn dots(rows: &[u8], codes: &[i16], products: &mut [i32; BLOCK]) {
    for (row, product) in rows.chunks_exact(codes.len()).zip(products) {
        *product = row.iter().zip(codes).map(|(&byte, &code)| i32::from(i16::from(byte.cast_signed())) * i32::from(code)).sum();
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn matrix(rows: usize, dimension: usize) -> Vec<Vec<f32>> {
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
        let even: Vec<bool> = (0..3000).map(|row| row % 2 == 0).collect();
        for query in matrix(20, 48) {
            let found = vectors.search(&query, 10, Some(&even)).unwrap();
            assert_eq!(found, vectors.search_exact(&query, 10, Some(&even)));
            assert!(found.iter().all(|(row, _)| row % 2 == 0));
            assert_eq!(found.len(), 10);
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
