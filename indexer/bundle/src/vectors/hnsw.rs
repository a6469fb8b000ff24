//! Approximate nearest neighbours: HNSW graphs (Malkov & Yashunin 2018) by usearch, i8, inner product, one file for each fixed range of
//! rows. All rows share one scale, `code = round(x · scale)`, so that products of codes keep the order of cosines.
//!
//! A nightly build keeps the graphs of the build before, which hold their own vectors: [`NODE_ROWS`] says which row a node is now. Rows
//! without a node are searched exactly.
//!
//! usearch maps its files without checking them: opening a graph checks its length and head, `CHECKSUMS` the rest.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::matrix::Npy;
use crate::{Error, Result, error::Context};

/// File with the row of each node of the graphs, where graphs of an earlier bundle were kept: a vector u32 `[nodes]`, graphs in the order of
/// the manifest, or [`GONE`].
pub const NODE_ROWS: &str = "hnsw-rows.npy";
/// The node belongs to no row: no function of the bundle has its vector.
pub const GONE: u32 = u32::MAX;

/// The graphs in a bundle's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HnswInfo {
    /// Program and version that built the graphs.
    pub engine: String,
    /// Neighbours of a row (M).
    pub connectivity: usize,
    /// Rows visited when a row is added (ef at construction).
    pub expansion_add: usize,
    /// Rows visited by a search (ef).
    pub expansion_search: usize,
    /// Factor from a number to its i8 code: 127 / largest number of all rows.
    pub scale: f32,
    /// Share of the ten nearest rows of an exact search that the graphs find, for rows of the bundle as queries.
    pub recall_at_10: f64,
    pub files: Vec<HnswFile>,
    /// Number of nodes in [`NODE_ROWS`]; none: each row has a node, whose key is the number of the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
}

/// One graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HnswFile {
    pub name: String,
    /// Key of the first node.
    pub start: u64,
    /// Number of nodes; their keys are consecutive.
    pub rows: u64,
    pub bytes: u64,
}

/// Open graphs.
pub struct HnswGraphs {
    graphs: Vec<Graph>,
    scale: f32,
    expansion: usize,
    rows: u64,
    /// Rows without a node, ascending.
    without_node: Vec<u32>,
}

struct Graph {
    index: Index,
    /// Key of the first node.
    start: u64,
    /// The row of each node, or [`GONE`]; none: keys are rows.
    rows: Option<Vec<u32>>,
}

/// Rows searched in each graph beyond the wanted number, because quantisation changes the order of near ones.
const MARGIN: usize = 10;

/// A vector in codes of i8.
pub fn codes(vector: &[f32], scale: f32) -> Vec<i8> {
    // Compiled for the widest vector instructions of this processor.
    pulp::Arch::new().dispatch(|| vector.iter().map(|value| (value * scale).round().clamp(-127.0, 127.0) as i8).collect())
}

/// usearch's options for a graph of a bundle.
pub fn index_options(dimension: usize, connectivity: usize, expansion_add: usize, expansion_search: usize) -> IndexOptions {
    IndexOptions {
        dimensions: dimension,
        metric: MetricKind::IP,
        quantization: ScalarKind::I8,
        connectivity,
        expansion_add,
        expansion_search,
        multi: false,
    }
}

impl std::fmt::Debug for HnswGraphs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HnswGraphs").field("graphs", &self.graphs.len()).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl HnswGraphs {
    /// Maps the graphs of a folder for `threads` searches at the same time.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the files are not those of `info`, or do not hold `rows` rows.
    pub fn open(dir: &Path, info: &HnswInfo, rows: usize, dimension: usize, threads: usize) -> Result<Self> {
        let node_rows = node_rows(dir, info, rows)?;
        if !(info.scale.is_finite() && info.scale > 0.0) {
            return Err(Error::damaged(dir, format!("the manifest gives its graphs a scale of {}", info.scale)));
        }
        // usearch reads the position of every row when it maps a file: map the files in parallel.
        let indexes: Vec<Index> =
            info.files.par_iter().map(|file| open_graph(dir, file, info, dimension, threads)).collect::<Result<_>>()?;
        let mut without_node = vec![node_rows.is_some(); rows];
        let mut rest = node_rows.as_deref();
        let graph = |(index, file): (Index, &HnswFile)| {
            let rows = rest.map(|nodes| {
                let (of_graph, others) = nodes.split_at(usize::try_from(file.rows).unwrap_or(nodes.len()).min(nodes.len()));
                of_graph.iter().filter(|row| **row != GONE).for_each(|row| without_node[*row as usize] = false);
                rest = Some(others);
                of_graph.to_vec()
            });
            Graph { index, start: file.start, rows }
        };
        let graphs = indexes.into_iter().zip(&info.files).map(graph).collect();
        let without_node = (0..).zip(without_node).filter(|(_, is_without)| *is_without).map(|(row, _)| row).collect();
        Ok(Self { graphs, scale: info.scale, expansion: info.expansion_search, rows: rows as u64, without_node })
    }

    /// Rows that no graph has: a search compares all of them.
    pub fn without_node(&self) -> &[u32] {
        &self.without_node
    }

    /// Rows that a search for the nearest `k` visits, in all graphs.
    pub fn rows_visited(&self, k: usize) -> usize {
        self.graphs.len() * self.expansion.max(k + MARGIN)
    }

    /// Sets how many rows a search visits in each graph (ef), to measure recall and latency.
    pub fn set_expansion(&self, expansion: usize) {
        self.graphs.iter().for_each(|graph| graph.index.change_expansion_search(expansion));
    }

    /// The nearest `k` rows of each graph and some more, of the rows that `allowed` has (none: all), in no order.
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<u32>> {
        let (codes, k) = (codes(query, self.scale), k + MARGIN);
        let mut found = Vec::with_capacity(k * self.graphs.len());
        for graph in &self.graphs {
            let is_allowed = |key| {
                graph.row(key).is_some_and(|row| allowed.is_none_or(|rows| rows.get(row as usize).is_some_and(|is_allowed| *is_allowed)))
            };
            let matches = match (allowed, &graph.rows) {
                (None, None) => graph.index.search(&codes, k),
                _ => graph.index.filtered_search(&codes, k, is_allowed),
            };
            for key in matches.map_err(usearch_error)?.keys {
                let row = graph.row(key).filter(|row| u64::from(*row) < self.rows);
                found.push(
                    row.ok_or_else(|| Error::Vectors(format!("a graph is damaged: it has node {key}, the bundle {} rows", self.rows)))?,
                );
            }
        }
        Ok(found)
    }
}

impl Graph {
    /// The row of a node; none where it belongs to no row.
    fn row(&self, key: u64) -> Option<u32> {
        match &self.rows {
            None => u32::try_from(key).ok(),
            Some(rows) => rows.get(usize::try_from(key.checked_sub(self.start)?).ok()?).copied().filter(|row| *row != GONE),
        }
    }
}

/// The row of each node, where the bundle lists them. Checks that the graphs have the listed nodes, or a node for each row.
pub fn node_rows(dir: &Path, info: &HnswInfo, rows: usize) -> Result<Option<Vec<u32>>> {
    let (mut next, is_listed) = (0u64, info.nodes.is_some());
    for file in &info.files {
        if !is_listed && file.start != next {
            return Err(Error::damaged(dir, format!("no graph holds row {next}")));
        }
        next = file.rows.checked_add(next).ok_or_else(|| Error::damaged(dir, "its graphs hold too many rows"))?;
    }
    let Some(nodes) = info.nodes else {
        let is_complete = next == rows as u64;
        return if is_complete { Ok(None) } else { Err(Error::damaged(dir, format!("its graphs hold {next} rows of {rows}"))) };
    };
    if next != nodes {
        return Err(Error::damaged(dir, format!("its graphs hold {next} nodes of {nodes}")));
    }
    let path = dir.join(NODE_ROWS);
    let listed = Npy::open(&path, "<u4", &[usize::try_from(nodes)?], 4)?;
    let listed: Vec<u32> = listed.bytes().as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row)).collect();
    let mut seen = vec![false; rows];
    for row in listed.iter().filter(|row| **row != GONE) {
        match seen.get_mut(*row as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::damaged(&path, format!("row {row} has two nodes, or is none of {rows} rows"))),
        }
    }
    Ok(Some(listed))
}

fn usearch_error(error: impl std::fmt::Display) -> Error {
    Error::Vectors(format!("usearch: {error}"))
}

/// Maps one graph.
fn open_graph(dir: &Path, file: &HnswFile, info: &HnswInfo, dimension: usize, threads: usize) -> Result<Index> {
    let path = checked_path(dir, &file.name)?;
    let damaged = |why: &dyn std::fmt::Display| Error::damaged(&path, format!("it is not the graph of the manifest ({why})"));
    let text =
        path.to_str().ok_or_else(|| Error::Vectors(format!("{} is not UTF-8, as usearch needs: move the bundle", path.display())))?;
    let bytes = std::fs::metadata(&path).with_context(|| format!("opening {}", path.display()))?.len();
    if bytes != file.bytes {
        return Err(damaged(&format!("{bytes} bytes instead of {}", file.bytes)));
    }
    let index =
        Index::new(&index_options(dimension, info.connectivity, info.expansion_add, info.expansion_search)).map_err(usearch_error)?;
    let head: IndexOptions = Index::metadata(text).map_err(|error| damaged(&error))?.into();
    if head.dimensions != dimension || head.metric != MetricKind::IP || head.quantization != ScalarKind::I8 {
        return Err(damaged(&"other dimensions or numbers"));
    }
    index.view(text).map_err(|error| damaged(&error))?;
    if index.size() as u64 != file.rows || index.dimensions() != dimension {
        return Err(damaged(&format!("{} rows instead of {}", index.size(), file.rows)));
    }
    index.reserve_capacity_and_threads(index.size(), threads.max(1)).map_err(usearch_error)?;
    index.change_expansion_search(info.expansion_search);
    Ok(index)
}

/// The path of a file that the manifest names; the name cannot lead out of the folder.
fn checked_path(dir: &Path, name: &str) -> Result<PathBuf> {
    if Path::new(name).file_name().is_some_and(|file_name| file_name == name) {
        return Ok(dir.join(name));
    }
    Err(Error::damaged(dir, format!("the manifest names a graph {name:?}, which is not a file name")))
}
