//! Vector search: an f32 matrix, an i8 copy of it for exact search, and in large bundles HNSW graphs.
//!
//! The matrices are NumPy files (`.npy` version 1.0, C order, little-endian), mapped into memory: `embeddings.npy` f32
//! `[rows, dimension]` of unit vectors, `embeddings.i8.npy` i8 of the same shape, and `scales.npy` f32 `[rows]` with
//! `x ≈ i8 · scale`. Exact search reads the whole i8 matrix; approximate search ([`HnswGraphs`], i8) reads a few thousand rows. Both
//! rank their best candidates again with the f32 rows.

mod hnsw;
mod matrix;

use std::path::Path;

use crate::{
    Error, Result,
    ranking::{Best, GroupOf, Scored, best_first, is_allowed, keep_distinct},
};
pub use hnsw::{GONE, HnswFile, HnswGraphs, HnswInfo, NODE_ROWS, codes, index_options, node_rows};
pub(crate) use matrix::Npy;
pub use matrix::{npy_header, quantise};

/// Name of the folder in a bundle.
pub const VECTORS: &str = "vectors";
/// The f32 matrix.
pub const MATRIX: &str = "embeddings.npy";
/// The i8 matrix.
pub const QUANTISED: &str = "embeddings.i8.npy";
/// Scales of the rows of the i8 matrix.
pub const SCALES: &str = "scales.npy";

/// Candidates beyond the wanted number that are ranked again, because quantisation changes the order of near ones.
const MARGIN: usize = 40;
/// Time of one row in an HNSW search, in rows of an exact search (measured with `codenets-bench`).
const HNSW_ROW_COST: f64 = 110.0;

/// The vectors of an open bundle.
#[derive(Debug)]
pub struct Vectors {
    matrix: Npy,
    quantised: Npy,
    scales: Npy,
    hnsw: Option<HnswGraphs>,
    rows: usize,
    dimension: usize,
}

impl Vectors {
    /// Maps the matrices of a folder.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where a file has another shape than `[rows, dimension]`.
    pub fn open(dir: &Path, rows: usize, dimension: usize) -> Result<Self> {
        let scales = Npy::open(&dir.join(SCALES), "<f4", &[rows], 4)?;
        if let Some(row) = scales.bytes().as_chunks::<4>().0.iter().position(|scale| !f32::from_le_bytes(*scale).is_finite()) {
            return Err(Error::damaged(dir.join(SCALES), format!("the scale of row {row} is not a number")));
        }
        Ok(Self {
            matrix: Npy::open(&dir.join(MATRIX), "<f4", &[rows, dimension], 4)?,
            quantised: Npy::open(&dir.join(QUANTISED), "|i1", &[rows, dimension], 1)?,
            scales,
            hnsw: None,
            rows,
            dimension,
        })
    }

    /// Also opens the HNSW graphs of a folder, for `threads` searches at the same time.
    pub fn with_hnsw(mut self, dir: &Path, info: &HnswInfo, threads: usize) -> Result<Self> {
        self.hnsw = Some(HnswGraphs::open(dir, info, self.rows, self.dimension, threads)?);
        Ok(self)
    }

    /// The open graphs, if there are any.
    pub fn hnsw(&self) -> Option<&HnswGraphs> {
        self.hnsw.as_ref()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The vector of a row.
    pub fn row(&self, row: u32) -> impl Iterator<Item = f32> + '_ {
        self.row_bytes(row).as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number))
    }

    fn row_bytes(&self, row: u32) -> &[u8] {
        &self.matrix.bytes()[row as usize * self.dimension * 4..][..self.dimension * 4]
    }

    /// Inner product of a row with a query, in f32.
    pub fn score(&self, row: u32, query: &[f32]) -> f32 {
        let bytes = self.row_bytes(row);
        pulp::Arch::new().dispatch(|| dot(bytes, query))
    }

    /// The best `k` of the rows that `allowed` has (none: all rows), best first; equal scores by row. Uses the graphs where there are
    /// any and they are expected to be faster, else an exact search.
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        self.search_distinct(query, k, allowed, None)
    }

    /// [`Vectors::search`] for the best row of each group only, where `distinct` is given. An HNSW search can then find fewer than `k`.
    pub fn search_distinct(&self, query: &[f32], k: usize, allowed: Option<&[bool]>, distinct: Option<GroupOf<'_>>) -> Result<Vec<Scored>> {
        let k = k.min(self.rows);
        match self.graphs_for(k, allowed) {
            Some(hnsw) => {
                let mut found = self.search_hnsw(hnsw, query, k, allowed)?;
                if let Some(group_of) = distinct {
                    keep_distinct(&mut found, group_of);
                }
                Ok(found)
            }
            None => self.ranked(self.quantised_candidates(query, k + MARGIN, allowed, distinct), query, k),
        }
    }

    /// The graphs, where [`Vectors::search`] uses them: they are expected to be faster than an exact search for the best `k` of the rows that
    /// `allowed` has (none: all rows).
    pub fn graphs_for(&self, k: usize, allowed: Option<&[bool]>) -> Option<&HnswGraphs> {
        let rows = self.rows as f64;
        let share = allowed.map_or(1.0, |rows| rows.iter().filter(|row| **row).count() as f64 / rows.len().max(1) as f64);
        // An HNSW search with a filter also visits rows that are not allowed; an exact search skips them.
        let cost = |hnsw: &&HnswGraphs| hnsw.rows_visited(k) as f64 * HNSW_ROW_COST + hnsw.without_node().len() as f64 * share;
        self.hnsw.as_ref().filter(|hnsw| cost(hnsw) < rows * share)
    }

    /// [`Vectors::search`] with the graphs; rows without a node are compared one by one.
    pub fn search_hnsw(&self, hnsw: &HnswGraphs, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        let mut candidates = hnsw.search(query, k, allowed)?;
        candidates.extend(self.quantised_candidates_of(hnsw.without_node(), query, k + MARGIN, allowed));
        self.ranked(candidates, query, k)
    }

    /// The best `k` of some rows by the i8 matrix, in no order.
    fn quantised_candidates_of(&self, rows: &[u32], query: &[f32], k: usize, allowed: Option<&[bool]>) -> Vec<u32> {
        let (codes, _) = quantise(query);
        let codes: Vec<i16> = codes.into_iter().map(i16::from).collect();
        let arch = pulp::Arch::new();
        let mut best = Best::new(k, None);
        for &row in rows.iter().filter(|row| is_allowed(allowed, **row)) {
            let bytes = &self.quantised.bytes()[row as usize * self.dimension..][..self.dimension];
            let scale = self.scales.bytes().as_chunks::<4>().0[row as usize];
            let product = arch.dispatch(|| product(bytes, &codes));
            best.offer((row, product as f32 * f32::from_le_bytes(scale)), ());
        }
        best.into_rows().into_iter().map(|((row, _), ())| row).collect()
    }

    /// [`Vectors::search`] over the whole i8 matrix.
    pub fn search_quantised(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        self.ranked(self.quantised_candidates(query, k.min(self.rows) + MARGIN, allowed, None), query, k)
    }

    /// [`Vectors::search`] over the whole f32 matrix: the reference that recall is measured against.
    pub fn search_exact(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<Scored>> {
        let rows = u32::try_from(self.rows).unwrap_or(u32::MAX);
        self.ranked((0..rows).filter(|&row| is_allowed(allowed, row)), query, k)
    }

    /// The best `k` candidates by their f32 rows.
    ///
    /// # Errors
    /// [`Error::NotANumber`] where a row has a number that is none: no order would be right.
    fn ranked(&self, candidates: impl IntoIterator<Item = u32>, query: &[f32], k: usize) -> Result<Vec<Scored>> {
        let mut exact: Vec<Scored> = candidates.into_iter().map(|row| (row, self.score(row, query))).collect();
        if let Some((row, _)) = exact.iter().find(|(_, score)| !score.is_finite()) {
            return Err(Error::NotANumber { row: *row });
        }
        exact.sort_by(best_first);
        exact.truncate(k);
        Ok(exact)
    }

    /// The best `k` rows by the i8 matrix, in no order.
    fn quantised_candidates(&self, query: &[f32], k: usize, allowed: Option<&[bool]>, distinct: Option<GroupOf<'_>>) -> Vec<u32> {
        let (codes, _) = quantise(query);
        let codes: Vec<i16> = codes.into_iter().map(i16::from).collect();
        let arch = pulp::Arch::new();
        let mut best = Best::new(k.min(self.rows), distinct);
        let blocks = self.quantised.bytes().chunks(BLOCK * self.dimension).zip(self.scales.bytes().as_chunks::<4>().0.chunks(BLOCK));
        for (block, (bytes, scales)) in blocks.enumerate() {
            let is_allowed = |index: usize| is_allowed(allowed, (block * BLOCK + index) as u32);
            if allowed.is_some() && !(0..scales.len()).any(is_allowed) {
                continue;
            }
            let mut products = [0i32; BLOCK];
            // Compiled for the widest vector instructions of this processor.
            arch.dispatch(|| dots(bytes, &codes, &mut products));
            for (index, (product, scale)) in products.iter().zip(scales).enumerate() {
                let score = *product as f32 * f32::from_le_bytes(*scale);
                if score > best.threshold() && is_allowed(index) {
                    best.offer(((block * BLOCK + index) as u32, score), ());
                }
            }
        }
        best.into_rows().into_iter().map(|((row, _), ())| row).collect()
    }
}

/// Partial sums of an inner product.
const LANES: usize = 16;

/// Inner product of f32 bytes with a query. Sixteen partial sums of every sixteenth component, added in order, give the same bits on
/// every processor.
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

/// Rows whose products are computed together.
const BLOCK: usize = 256;

/// Products of i8 rows with a query. A product of two codes is at most 127²: 65,536 components fit 32 bits.
#[inline(always)]
fn dots(rows: &[u8], codes: &[i16], products: &mut [i32; BLOCK]) {
    for (row, product) in rows.chunks_exact(codes.len()).zip(products) {
        *product = self::product(row, codes);
    }
}

/// Product of an i8 row with a query.
#[inline(always)]
fn product(row: &[u8], codes: &[i16]) -> i32 {
    row.iter().zip(codes).map(|(&byte, &code)| i32::from(i16::from(byte.cast_signed())) * i32::from(code)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_product_has_every_component() {
        for length in [1usize, 15, 16, 17, 35, 64] {
            let (numbers, query): (Vec<f32>, Vec<f32>) = (0..length).map(|place| (place as f32 - 5.0, 2.0 * place as f32 + 1.0)).unzip();
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let expected: f32 = numbers.iter().zip(&query).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&bytes, &query), expected, "{length} components");
        }
    }
}
