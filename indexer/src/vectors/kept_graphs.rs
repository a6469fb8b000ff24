//! Which graphs of an earlier bundle are kept. A graph holds its own vectors: a node belongs to the row that has its vector now, or to no row.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use bundle::vectors::{GONE, HnswFile, HnswInfo, NODE_ROWS, Vectors, node_rows};
use rayon::prelude::*;

use super::hnsw::{GraphRows, Hnsw, build_graph, engine, file_name};
use crate::{Result, error::Context, npy};

/// Share of the nodes of a graph without a row, above which the graph is not kept.
const MANY_GONE: f64 = 0.3;
/// Part of a full graph: fewer rows without a graph are searched exactly, more get one.
const EXACT: u64 = 10;
/// Number of small graphs (with less than a quarter of the rows of a full one) that are kept. Where there are more, none of them is.
const SMALL_GRAPHS: usize = 4;

/// The graphs of an earlier bundle.
pub struct EarlierGraphs {
    /// Folder of its vectors.
    dir: PathBuf,
    info: HnswInfo,
    vectors: Vectors,
    /// The row of each node in that bundle, or [`GONE`].
    node_rows: Vec<u32>,
}

/// A graph that is kept.
#[derive(Debug, Clone)]
pub struct KeptGraph {
    pub file: HnswFile,
    /// The row of each node, or [`GONE`].
    pub rows: Vec<u32>,
}

/// What the graphs of a build are made of.
#[derive(Debug)]
pub struct GraphPlan {
    /// Folder of the kept graphs.
    pub from: PathBuf,
    /// The earlier graphs.
    pub info: HnswInfo,
    pub kept: Vec<KeptGraph>,
    /// Rows without a node in a kept graph, ascending.
    pub other_rows: Vec<u32>,
}

impl EarlierGraphs {
    /// Reads the graphs in a folder of vectors.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn open(dir: &Path, info: &HnswInfo, rows: usize, dimension: usize) -> Result<Self> {
        let listed = node_rows(dir, info, rows)?;
        let node_rows = listed.map_or_else(|| Ok((0..u32::try_from(rows)?).collect()), Ok::<_, crate::Error>)?;
        Ok(Self { dir: dir.to_owned(), info: info.clone(), vectors: Vectors::open(dir, rows, dimension)?, node_rows })
    }
}

impl GraphPlan {
    /// Keeps the graphs that `is_intact` accepts by their paths, and whose nodes have rows; none where graphs with other settings, or none of
    /// the earlier graphs, would be kept.
    pub fn of(earlier: &EarlierGraphs, vectors: &Vectors, hnsw: &Hnsw, is_intact: impl Fn(&Path) -> bool) -> Result<Option<Self>> {
        let info = &earlier.info;
        let settings = (info.connectivity, info.expansion_add, &*info.engine, earlier.vectors.dimension());
        if settings != (hnsw.connectivity, hnsw.expansion_add, &*engine(), vectors.dimension()) {
            return Ok(None);
        }
        let mut rows = RowsByVector::of(vectors)?;
        let mut nodes = earlier.node_rows.iter();
        let graph = |file: &HnswFile| {
            let of_graph = nodes.by_ref().take(usize::try_from(file.rows).unwrap_or(usize::MAX));
            let row_now = |row: &u32| if *row == GONE { GONE } else { rows.take(earlier.vectors.row(*row)).unwrap_or(GONE) };
            KeptGraph { file: file.clone(), rows: of_graph.map(row_now).collect() }
        };
        let mut kept: Vec<KeptGraph> = info.files.iter().map(graph).collect();
        let gone = |graph: &KeptGraph| graph.rows.iter().filter(|row| **row == GONE).count() as f64;
        kept.retain(|graph| gone(graph) <= MANY_GONE * graph.rows.len() as f64 && is_intact(&earlier.dir.join(&graph.file.name)));
        let is_small = |graph: &KeptGraph| graph.file.rows < hnsw.graph_rows / 4;
        if kept.iter().filter(|graph| is_small(graph)).count() > SMALL_GRAPHS {
            kept.retain(|graph| !is_small(graph));
        }
        if kept.is_empty() {
            return Ok(None);
        }
        let mut is_other = vec![true; vectors.rows()];
        kept.iter().flat_map(|graph| &graph.rows).filter(|row| **row != GONE).for_each(|row| is_other[*row as usize] = false);
        let other_rows = (0..).zip(is_other).filter(|(_, is_other)| *is_other).map(|(row, _)| row).collect();
        Ok(Some(Self { from: earlier.dir.clone(), info: info.clone(), kept, other_rows }))
    }
}

/// Links the graphs of a plan into the folder `dir`, and builds graphs of its other rows, where they are many.
pub fn extend(vectors: &Vectors, hnsw: &Hnsw, plan: GraphPlan, dir: &Path, done: impl Fn() + Sync) -> Result<HnswInfo> {
    let GraphPlan { from, info, kept, other_rows } = plan;
    for graph in &kept {
        let (file, target) = (from.join(&graph.file.name), dir.join(&graph.file.name));
        if fs::hard_link(&file, &target).is_err() {
            fs::copy(&file, &target).with_context(|| format!("copying {}", file.display()))?;
        }
    }
    let is_free = |number: &u64| kept.iter().all(|graph| graph.file.name != file_name(*number));
    let groups: Vec<&[u32]> = other_rows.chunks(usize::try_from(hnsw.graph_rows)?).collect();
    let groups = if other_rows.len() as u64 > hnsw.graph_rows / EXACT { groups } else { Vec::new() };
    let numbers: Vec<u64> = (0..).filter(is_free).take(groups.len()).collect();
    let new = groups
        .par_iter()
        .zip(numbers)
        .map(|(rows, number)| build_graph(vectors, hnsw, info.scale, &GraphRows::Listed(rows), &dir.join(file_name(number)), &done))
        .collect::<Result<Vec<_>>>()?;
    let nodes: Vec<u32> = kept.iter().flat_map(|graph| &graph.rows).chain(groups.into_iter().flatten()).copied().collect();
    npy::write(&dir.join(NODE_ROWS), &nodes)?;
    let files = kept.into_iter().map(|graph| graph.file).chain(new).collect();
    Ok(HnswInfo { expansion_search: hnsw.expansion_search, recall_at_10: 0.0, files, nodes: Some(nodes.len() as u64), ..info })
}

/// The rows with each vector; equal vectors are interchangeable.
struct RowsByVector {
    /// The first row that is left, by digest of the vector.
    first: HashMap<[u8; 16], u32>,
    /// The next row with the same vector, or [`GONE`].
    next: Vec<u32>,
}

impl RowsByVector {
    fn of(vectors: &Vectors) -> Result<Self> {
        let rows = u32::try_from(vectors.rows())?;
        let (mut first, mut next) = (HashMap::with_capacity(vectors.rows()), vec![GONE; vectors.rows()]);
        for row in (0..rows).rev() {
            if let Some(later) = first.insert(digest(vectors.row(row)), row) {
                next[row as usize] = later;
            }
        }
        Ok(Self { first, next })
    }

    /// Takes the first row that has this vector.
    fn take(&mut self, vector: impl Iterator<Item = f32>) -> Option<u32> {
        let first = self.first.get_mut(&digest(vector)).filter(|row| **row != GONE)?;
        let row = *first;
        *first = self.next[row as usize];
        Some(row)
    }
}

fn digest(vector: impl Iterator<Item = f32>) -> [u8; 16] {
    let bytes: Vec<u8> = vector.flat_map(f32::to_le_bytes).collect();
    ledger::Digest::of_bytes(&bytes).half()
}
