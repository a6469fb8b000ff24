//! Graphs of near neighbours (HNSW, Malkov & Yashunin 2018) by usearch: i8, inner product, one file for each fixed range of
//! rows. All rows share one scale, `code = round(x · scale)`, so that products of codes keep the order of cosines.
//!
//! Bytes: usearch draws levels and links as rows come, so each file is written by one thread, and the files in parallel.
//! usearch maps its files and believes them: `CHECKSUMS` says whether they are whole, opening checks length and head only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::Vectors;

/// Section `index.hnsw`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hnsw {
    /// Rows from which graphs are built; fewer are scanned.
    pub from_rows: u64,
    /// Rows a graph; graphs are built in parallel.
    pub graph_rows: u64,
    /// Neighbours of a row (M).
    pub connectivity: usize,
    /// Rows looked at when one is added, and when a query is asked (ef).
    pub expansion_add: usize,
    pub expansion_search: usize,
}

impl Hnsw {
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.graph_rows > 0 && self.connectivity > 1 && self.expansion_add > 0 && self.expansion_search > 0,
            "index.hnsw: graph-rows, expansion-add and expansion-search must be positive, connectivity above 1"
        );
        Ok(())
    }
}

/// What a bundle's manifest says of its graphs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphFacts {
    pub engine: String,
    pub connectivity: usize,
    pub expansion_add: usize,
    pub expansion_search: usize,
    /// What numbers are multiplied by to be codes of i8: 127 by the largest of all.
    pub scale: f32,
    /// Of the ten nearest that a scan finds, of rows themselves, asked for as queries.
    pub recall_at_10: f64,
    pub files: Vec<GraphFile>,
}

/// One graph: rows from `start`, each under its row number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphFile {
    pub name: String,
    pub start: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// Open graphs.
pub struct Graphs {
    graphs: Vec<Index>,
    scale: f32,
    expansion: usize,
    rows: u64,
}

/// Asked of each graph beyond what is wanted, for what quantisation puts in the wrong order.
const MARGIN: usize = 10;

fn codes(vector: &[f32], scale: f32) -> Vec<i8> {
    // Compiled for the widest vectors that this processor has.
    pulp::Arch::new().dispatch(|| vector.iter().map(|value| (value * scale).round().clamp(-127.0, 127.0) as i8).collect())
}

impl std::fmt::Debug for Graphs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} graphs", self.graphs.len())
    }
}

fn options(dimension: usize, connectivity: usize, expansion_add: usize, expansion_search: usize) -> IndexOptions {
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

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8, which usearch needs: choose another folder", path.display()))
}

/// Rows whose nearest are looked for to measure recall.
const MEASURED: u64 = 200;

/// Builds the graphs of all rows into `dir`; their recall is still to be measured.
pub fn build(vectors: &Vectors, hnsw: &Hnsw, dir: &Path, done: impl Fn() + Sync) -> Result<GraphFacts> {
    let rows = vectors.rows as u64;
    let largest = (0..u32::try_from(rows)?)
        .into_par_iter()
        .map(|row| vectors.row(row).fold(0f32, |largest, value| largest.max(value.abs())))
        .reduce(|| 0f32, f32::max);
    let scale = if largest > 0.0 { 127.0 / largest } else { 1.0 };
    let files = (0..rows.div_ceil(hnsw.graph_rows))
        .into_par_iter()
        .map(|number| {
            let start = number * hnsw.graph_rows;
            let end = (start + hnsw.graph_rows).min(rows);
            let index = Index::new(&options(vectors.dimension, hnsw.connectivity, hnsw.expansion_add, hnsw.expansion_search))
                .map_err(|error| anyhow!("usearch: {error}"))?;
            index.reserve_capacity_and_threads((end - start) as usize, 1).map_err(|error| anyhow!("usearch: {error}"))?;
            let mut vector = Vec::with_capacity(vectors.dimension);
            for row in start..end {
                vector.clear();
                vector.extend(vectors.row(u32::try_from(row)?));
                index.add(row, &codes(&vector, scale)).map_err(|error| anyhow!("usearch, row {row}: {error}"))?;
                done();
            }
            let name = format!("hnsw-{number}.usearch");
            let path = dir.join(&name);
            index.save(text(&path)?).map_err(|error| anyhow!("usearch, writing {}: {error}", path.display()))?;
            Ok(GraphFile { name, start, rows: end - start, bytes: std::fs::metadata(&path)?.len() })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(GraphFacts {
        engine: format!("usearch {}", usearch::version()),
        connectivity: hnsw.connectivity,
        expansion_add: hnsw.expansion_add,
        expansion_search: hnsw.expansion_search,
        scale,
        recall_at_10: 0.0,
        files,
    })
}

/// Share of the ten nearest of some rows, by a scan, that the graphs find.
pub fn recall(vectors: &Vectors) -> Result<f64> {
    let graphs = vectors.graphs().context("there are no graphs to measure")?;
    let rows = vectors.rows as u64;
    let count = MEASURED.min(rows);
    let (met, all) = (0..count)
        .into_par_iter()
        .map(|number| {
            let query: Vec<f32> = vectors.row(u32::try_from(number * rows / count)?).collect();
            let (exact, found) = (vectors.search_all(&query, 10, None), vectors.search_graphs(graphs, &query, 10, None)?);
            Ok((exact.iter().filter(|scored| found.contains(scored)).count(), exact.len()))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .fold((0, 0), |(met, all), own| (met + own.0, all + own.1));
    Ok(met as f64 / all.max(1) as f64)
}

impl Graphs {
    /// Maps the graphs of a folder for as many searches at a time as `threads`.
    pub fn open(dir: &Path, facts: &GraphFacts, rows: usize, dimension: usize, threads: usize) -> Result<Self> {
        let mut next = 0;
        for file in &facts.files {
            ensure!(file.start == next, "the graphs of {} leave rows out: the bundle is damaged", dir.display());
            next = file.rows.checked_add(next).with_context(|| format!("the graphs of {} hold too many rows", dir.display()))?;
        }
        ensure!(next == rows as u64, "the graphs of {} hold {next} rows of {rows}: the bundle is damaged", dir.display());
        // usearch reads every row's place when it maps a file: the files side by side.
        let graphs = facts.files.par_iter().map(|file| open_one(dir, file, facts, dimension, threads)).collect::<Result<_>>()?;
        ensure!(facts.scale.is_finite() && facts.scale > 0.0, "the manifest gives the graphs a scale of {}", facts.scale);
        Ok(Self { graphs, scale: facts.scale, expansion: facts.expansion_search, rows: rows as u64 })
    }

    /// Rows that a search for the nearest `k` looks at, in all graphs.
    pub fn looked_at(&self, k: usize) -> usize {
        self.graphs.len() * self.expansion.max(k + MARGIN)
    }

    /// How many rows a search looks at, from now on (ef): to measure what that gives.
    pub fn expand(&self, expansion: usize) {
        self.graphs.iter().for_each(|graph| graph.change_expansion_search(expansion));
    }

    /// The nearest `k` rows of each graph and some more, of those that `allowed` has (none: all), in no order.
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<&[bool]>) -> Result<Vec<u32>> {
        let (codes, k) = (codes(query, self.scale), k + MARGIN);
        let mut found = Vec::with_capacity(k * self.graphs.len());
        for graph in &self.graphs {
            let matches = match allowed {
                None => graph.search(&codes, k),
                Some(rows) => graph.filtered_search(&codes, k, |row| rows.get(row as usize).is_some_and(|kept| *kept)),
            };
            for key in matches.map_err(|error| anyhow!("usearch: {error}"))?.keys {
                ensure!(key < self.rows, "a graph names row {key} of {}: the bundle is damaged", self.rows);
                found.push(u32::try_from(key)?);
            }
        }
        Ok(found)
    }
}

/// Maps one graph.
fn open_one(dir: &Path, file: &GraphFile, facts: &GraphFacts, dimension: usize, threads: usize) -> Result<Index> {
    let path = checked_path(dir, &file.name)?;
    let bytes = std::fs::metadata(&path).with_context(|| format!("opening {}", path.display()))?.len();
    let damaged = || format!("{} is damaged: it is not the graph that the manifest names", path.display());
    ensure!(bytes == file.bytes, damaged());
    let index = Index::new(&options(dimension, facts.connectivity, facts.expansion_add, facts.expansion_search))
        .map_err(|error| anyhow!("usearch: {error}"))?;
    let head = Index::metadata(text(&path)?).map_err(|error| anyhow!("{}: {error}", damaged()))?;
    let head: IndexOptions = head.into();
    ensure!(head.dimensions == dimension && head.metric == MetricKind::IP && head.quantization == ScalarKind::I8, damaged());
    index.view(text(&path)?).map_err(|error| anyhow!("{}: {error}", damaged()))?;
    ensure!(index.size() as u64 == file.rows && index.dimensions() == dimension, damaged());
    index.reserve_capacity_and_threads(index.size(), threads.max(1)).map_err(|error| anyhow!("usearch: {error}"))?;
    index.change_expansion_search(facts.expansion_search);
    Ok(index)
}

/// The path of a file that the manifest names: it may not leave its folder.
fn checked_path(dir: &Path, name: &str) -> Result<PathBuf> {
    ensure!(Path::new(name).file_name().is_some_and(|own| own == name), "the manifest names a graph {name:?}, which is no file name");
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::matrix, super::*, *};

    const HNSW: Hnsw = Hnsw { from_rows: 0, graph_rows: 700, connectivity: 16, expansion_add: 128, expansion_search: 64 };

    fn built(threads: usize) -> (tempfile::TempDir, GraphFacts) {
        let dir = tempfile::tempdir().unwrap();
        let rows = matrix(2000, 32);
        let mut writer = MatrixWriter::create(dir.path(), rows.len(), 32).unwrap();
        rows.iter().for_each(|row| writer.write(row).unwrap());
        writer.finish().unwrap();
        let vectors = Vectors::open(dir.path(), 2000, 32).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut facts = pool.install(|| build(&vectors, &HNSW, dir.path(), || ())).unwrap();
        facts.recall_at_10 = recall(&vectors.with_graphs(dir.path(), &facts, 2).unwrap()).unwrap();
        (dir, facts)
    }

    #[test]
    fn graphs_find_the_nearest_and_are_the_same_bytes_on_any_number_of_threads() {
        let ((dir, facts), (other, same)) = (built(1), built(2));
        assert_eq!((facts.files.len(), &facts), (3, &same));
        for file in &facts.files {
            assert!(std::fs::read(dir.path().join(&file.name)).unwrap() == std::fs::read(other.path().join(&file.name)).unwrap());
        }
        assert!(facts.recall_at_10 > 0.95, "{facts:?}");
        let vectors = Vectors::open(dir.path(), 2000, 32).unwrap().with_graphs(dir.path(), &facts, 2).unwrap();
        let half: Vec<bool> = (0..2000).map(|row| row % 2 == 0).collect();
        for allowed in [None, Some(&half[..])] {
            let (mut met, mut all) = (0, 0);
            for query in matrix(40, 32) {
                let found = vectors.search_graphs(vectors.graphs().unwrap(), &query, 10, allowed).unwrap();
                let exact = vectors.search_exact(&query, 10, allowed);
                assert!(found.iter().all(|(row, _)| allowed.is_none_or(|rows| rows[*row as usize])));
                met += exact.iter().filter(|scored| found.contains(scored)).count();
                all += exact.len();
            }
            assert!(met * 100 > all * 95, "{met} of {all}");
        }
    }

    #[test]
    fn as_many_threads_as_are_asked_for_search_at_a_time() {
        let (dir, facts) = built(1);
        let vectors = Vectors::open(dir.path(), 2000, 32).unwrap().with_graphs(dir.path(), &facts, 24).unwrap();
        let queries = matrix(24, 32);
        std::thread::scope(|scope| {
            for query in &queries {
                let graphs = vectors.graphs().unwrap();
                scope.spawn(|| (0..200).for_each(|_| assert_eq!(vectors.search_graphs(graphs, query, 5, None).unwrap().len(), 5)));
            }
        });
    }

    #[test]
    fn a_damaged_or_foreign_graph_is_refused() {
        let (dir, facts) = built(1);
        let open = |facts: &GraphFacts| Graphs::open(dir.path(), facts, 2000, 32, 1).map(|_| ()).map_err(|error| format!("{error:#}"));
        open(&facts).unwrap();
        assert!(Graphs::open(dir.path(), &facts, 2000, 64, 1).is_err());
        assert!(Graphs::open(dir.path(), &facts, 2001, 32, 1).is_err());
        let mut outside = facts.clone();
        outside.files[0].name = "../hnsw-0.usearch".to_owned();
        assert!(open(&outside).unwrap_err().contains("no file name"));
        let path = dir.path().join(&facts.files[1].name);
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() / 2], &[0u8; 10], b""] {
            std::fs::write(&path, damaged).unwrap();
            assert!(open(&facts).unwrap_err().contains("damaged"));
        }
        // A file of the right length that is none.
        std::fs::write(&path, vec![7u8; bytes.len()]).unwrap();
        assert!(open(&facts).unwrap_err().contains("damaged"));
    }
}
