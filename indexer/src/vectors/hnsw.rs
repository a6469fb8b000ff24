//! Builds HNSW graphs, one for each fixed range of rows. A nightly build keeps graphs of the build before ([`super::kept_graphs`]) and builds
//! graphs of the other rows, where they are many.
//!
//! usearch draws levels and links in the order in which rows are added. So one thread writes each graph, and the graphs are written in
//! parallel: equal inputs give equal bytes on any number of threads.

use std::{ops::Range, path::Path};

use bundle::vectors::{HnswFile, HnswInfo, Vectors, codes, index_options};
use ledger::ensure;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usearch::Index;

use crate::{Error, Result, error::Context};

/// Section `index.hnsw`: approximate nearest neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hnsw {
    /// Number of functions from which graphs are built; smaller bundles are searched exactly.
    pub from_rows: u64,
    /// Functions in one graph; graphs are built in parallel.
    pub graph_rows: u64,
    /// Neighbours of a function in a graph (M), at least 2.
    pub connectivity: usize,
    /// Functions that are visited when one is added (ef at construction).
    pub expansion_add: usize,
    /// Functions that a search visits in each graph (ef).
    pub expansion_search: usize,
}

impl Hnsw {
    /// Checks that the numbers are in range.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.graph_rows > 0 && self.connectivity > 1 && self.expansion_add > 0 && self.expansion_search > 0,
            "index.hnsw: graph-rows, expansion-add and expansion-search must be positive, connectivity at least 2"
        );
        Ok(())
    }
}

/// Rows that are searched for to measure recall.
const MEASURED: u64 = 200;

fn usearch_error(error: impl std::fmt::Display) -> Error {
    Error::Vectors(format!("usearch: {error}"))
}

/// Rows that get a graph.
pub enum GraphRows<'a> {
    /// With their numbers as keys.
    All(Range<u64>),
    /// With their places in the list as keys.
    Listed(&'a [u32]),
}

/// Builds the graphs of all rows in the folder `dir`; `done` is called after each row. The recall in the result is 0: [`recall`] measures
/// it with the open graphs.
pub fn build(vectors: &Vectors, hnsw: &Hnsw, dir: &Path, done: impl Fn() + Sync) -> Result<HnswInfo> {
    let rows = vectors.rows() as u64;
    let largest = (0..u32::try_from(rows)?)
        .into_par_iter()
        .map(|row| vectors.row(row).fold(0f32, |largest, value| largest.max(value.abs())))
        .reduce(|| 0f32, f32::max);
    let scale = if largest > 0.0 { 127.0 / largest } else { 1.0 };
    let files = (0..rows.div_ceil(hnsw.graph_rows))
        .into_par_iter()
        .map(|number| {
            let start = number * hnsw.graph_rows;
            let rows = GraphRows::All(start..(start + hnsw.graph_rows).min(rows));
            build_graph(vectors, hnsw, scale, &rows, &dir.join(file_name(number)), &done)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(HnswInfo {
        engine: engine(),
        connectivity: hnsw.connectivity,
        expansion_add: hnsw.expansion_add,
        expansion_search: hnsw.expansion_search,
        scale,
        recall_at_10: 0.0,
        files,
        nodes: None,
    })
}

/// Program and version that builds graphs.
pub fn engine() -> String {
    format!("usearch {}", usearch::version())
}

/// Name of the file of a graph.
pub fn file_name(number: u64) -> String {
    format!("hnsw-{number}.usearch")
}

/// Builds the graph of some rows. `scale`: factor from a number to its i8 code.
pub fn build_graph(
    vectors: &Vectors,
    hnsw: &Hnsw,
    scale: f32,
    rows: &GraphRows<'_>,
    path: &Path,
    done: &(impl Fn() + Sync),
) -> Result<HnswFile> {
    let options = index_options(vectors.dimension(), hnsw.connectivity, hnsw.expansion_add, hnsw.expansion_search);
    let index = Index::new(&options).map_err(usearch_error)?;
    let (start, count) = match rows {
        GraphRows::All(rows) => (rows.start, rows.end - rows.start),
        GraphRows::Listed(rows) => (0, rows.len() as u64),
    };
    index.reserve_capacity_and_threads(usize::try_from(count)?, 1).map_err(usearch_error)?;
    let mut vector = Vec::with_capacity(vectors.dimension());
    for key in start..start + count {
        let row = match rows {
            GraphRows::All(_) => u32::try_from(key)?,
            GraphRows::Listed(rows) => rows[usize::try_from(key)?],
        };
        vector.clear();
        vector.extend(vectors.row(row));
        index.add(key, &codes(&vector, scale)).map_err(usearch_error).with_context(|| format!("adding row {row}"))?;
        done();
    }
    let text = path.to_str().with_context(|| format!("{} is not UTF-8, as usearch needs: choose another data folder", path.display()))?;
    index.save(text).map_err(usearch_error).with_context(|| format!("writing {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(HnswFile { name, start, rows: count, bytes: std::fs::metadata(path)?.len() })
}

/// Share of the ten nearest rows of an exact search that the graphs find, with rows of the bundle as queries.
pub fn recall(vectors: &Vectors) -> Result<f64> {
    let graphs = vectors.hnsw().context("there are no graphs to measure")?;
    let rows = vectors.rows() as u64;
    let count = MEASURED.min(rows);
    let (found, all) = (0..count)
        .into_par_iter()
        .map(|number| {
            let query: Vec<f32> = vectors.row(u32::try_from(number * rows / count)?).collect();
            let exact = vectors.search_quantised(&query, 10, None)?;
            let approximate = vectors.search_hnsw(graphs, &query, 10, None)?;
            Ok((exact.iter().filter(|scored| approximate.contains(scored)).count(), exact.len()))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .fold((0, 0), |(found, all), counts| (found + counts.0, all + counts.1));
    Ok(found as f64 / all.max(1) as f64)
}
