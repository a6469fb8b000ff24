//! Approximate nearest neighbours: HNSW graphs (Malkov & Yashunin 2018) by usearch, i8, inner product, one file for each fixed range of
//! rows. All rows share one scale, `code = round(x · scale)`, so that products of codes keep the order of cosines.
//!
//! usearch maps its files without checking them: opening a graph checks its length and head, `CHECKSUMS` the rest.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use crate::{Error, Result, error::Context};

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
}

/// One graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HnswFile {
    pub name: String,
    /// First row.
    pub start: u64,
    /// Number of rows, each with its row number as key.
    pub rows: u64,
    pub bytes: u64,
}

/// Open graphs.
pub struct HnswGraphs {
    graphs: Vec<Index>,
    scale: f32,
    expansion: usize,
    rows: u64,
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
        let mut next = 0;
        for file in &info.files {
            if file.start != next {
                return Err(Error::damaged(dir, format!("no graph holds row {next}")));
            }
            next = file.rows.checked_add(next).ok_or_else(|| Error::damaged(dir, "its graphs hold too many rows"))?;
        }
        if next != rows as u64 {
            return Err(Error::damaged(dir, format!("its graphs hold {next} rows of {rows}")));
        }
        if !(info.scale.is_finite() && info.scale > 0.0) {
            return Err(Error::damaged(dir, format!("the manifest gives its graphs a scale of {}", info.scale)));
        }
        // usearch reads the position of every row when it maps a file: map the files in parallel.
        let graphs = info.files.par_iter().map(|file| open_graph(dir, file, info, dimension, threads)).collect::<Result<_>>()?;
        Ok(Self { graphs, scale: info.scale, expansion: info.expansion_search, rows: rows as u64 })
    }

    /// Rows that a search for the nearest `k` visits, in all graphs.
    pub fn rows_visited(&self, k: usize) -> usize {
        self.graphs.len() * self.expansion.max(k + MARGIN)
    }

    /// Sets how many rows a search visits in each graph (ef), to measure recall and latency.
    pub fn set_expansion(&self, expansion: usize) {
        self.graphs.iter().for_each(|graph| graph.change_expansion_search(expansion));
    }

    /// The nearest `k` rows of each graph and some more, of the rows that `allowed` has (none: all), in no order.
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<u32>> {
        let (codes, k) = (codes(query, self.scale), k + MARGIN);
        let mut found = Vec::with_capacity(k * self.graphs.len());
        for graph in &self.graphs {
            let matches = match allowed {
                None => graph.search(&codes, k),
                Some(rows) => graph.filtered_search(&codes, k, |row| rows.get(row as usize).is_some_and(|is_allowed| *is_allowed)),
            };
            for key in matches.map_err(usearch_error)?.keys {
                if key >= self.rows {
                    return Err(Error::Vectors(format!("a graph is damaged: it has row {key}, the bundle {} rows", self.rows)));
                }
                found.push(u32::try_from(key)?);
            }
        }
        Ok(found)
    }
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
