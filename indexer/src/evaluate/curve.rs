//! Recall and latency of the vector search of a bundle on this machine.

use std::time::Instant;

use bundle::{Bundle, ParsedQuery, manifest::DOCS, ranking::Scored, vectors::Vectors};
use ledger::{ensure, table};
use serde::Serialize;

use crate::Result;

/// `count` summaries of indexed functions, evenly spread.
pub fn summaries(bundle: &Bundle, count: usize) -> Result<Vec<String>> {
    ensure!(count > 0, "the number of queries is 0: at least one is needed");
    let texts = spread(all_summaries(bundle)?, count);
    ensure!(!texts.is_empty(), "the bundle has no documented functions, whose summaries would be the queries");
    Ok(texts)
}

/// At most `count` texts, evenly spread.
fn spread(texts: Vec<String>, count: usize) -> Vec<String> {
    let step = (texts.len() / count.max(1)).max(1);
    texts.into_iter().step_by(step).take(count).collect()
}

fn all_summaries(bundle: &Bundle) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for batch in table::read(&bundle.dir().join(DOCS), &["summary"])? {
        texts.extend(table::texts(&batch?, "summary")?.iter().flatten().filter(|text| !text.is_empty()).map(str::to_owned));
    }
    Ok(texts)
}

/// Recall and latency of one kind of search.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// `scan` (exact search over the i8 matrix) or `graphs` (HNSW).
    pub search: String,
    /// Functions that a graph visits (ef).
    pub expansion: Option<usize>,
    /// Share of the functions that a filter allows.
    pub allowed: f64,
    /// Share of the ten nearest functions that are found.
    pub recall: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile of the latency in milliseconds.
    pub p99: f64,
}

/// Queries of a curve.
const QUERIES: usize = 200;
/// Measured expansions.
const EXPANSIONS: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
/// Measured shares of the functions that a filter allows.
const ALLOWED: [f64; 4] = [1.0, 0.5, 0.2, 0.05];

/// Measures recall@10 and latency of the vector search on one thread: exact search, HNSW search where there are graphs, and both with
/// filters that allow a random share of the functions. Without documented functions there are no queries and no points.
pub fn curve(bundle: &Bundle) -> Result<Vec<Point>> {
    let texts = spread(all_summaries(bundle)?, QUERIES);
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let parsed: Vec<ParsedQuery> = texts.iter().map(|text| bundle.parse_words(text)).collect();
    let numbers = bundle.encode_queries(&parsed)?;
    let queries: Vec<&[f32]> = numbers.chunks_exact(bundle.manifest().vectors.dimension).collect();
    let rows = bundle.manifest().rows;
    let mut points = Vec::new();
    for allowed in ALLOWED {
        // Multiples of the golden ratio are spread evenly: the rows are without a pattern.
        let is_allowed: Vec<bool> = (0..rows).map(|row| (row as f64 * 0.618_033_988_749_895).fract() < allowed).collect();
        let filter = (allowed < 1.0).then_some(&is_allowed[..]);
        let measured = Measurement::new(bundle.vectors(), &queries, filter, allowed)?;
        points.push(measured.point("scan", None, &|query| Ok(bundle.vectors().search_quantised(query, 10, filter)?))?);
        if let (Some(graphs), Some(info)) = (bundle.vectors().hnsw(), &bundle.manifest().vectors.hnsw) {
            for expansion in EXPANSIONS {
                graphs.set_expansion(expansion);
                let search = |query: &[f32]| Ok(bundle.vectors().search_hnsw(graphs, query, 10, filter)?);
                points.push(measured.point("graphs", Some(expansion), &search)?);
            }
            graphs.set_expansion(info.expansion_search);
        }
    }
    Ok(points)
}

/// Queries with their nearest functions among those that a filter allows.
struct Measurement<'a> {
    queries: &'a [&'a [f32]],
    allowed: f64,
    nearest: Vec<Vec<Scored>>,
}

impl<'a> Measurement<'a> {
    fn new(vectors: &Vectors, queries: &'a [&'a [f32]], filter: Option<&[bool]>, allowed: f64) -> Result<Self> {
        let nearest = queries.iter().map(|query| vectors.search_exact(query, 10, filter)).collect::<Result<_, _>>()?;
        Ok(Self { queries, allowed, nearest })
    }

    fn point(&self, name: &str, expansion: Option<usize>, search: &dyn Fn(&[f32]) -> Result<Vec<Scored>>) -> Result<Point> {
        let (mut times, mut found) = (Vec::with_capacity(self.queries.len()), 0);
        for (query, nearest) in self.queries.iter().zip(&self.nearest) {
            let clock = Instant::now();
            let hits = search(query)?;
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            found += nearest.iter().filter(|(row, _)| hits.iter().any(|(other, _)| other == row)).count();
        }
        let recall = found as f64 / self.nearest.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        Ok(Point { search: name.to_owned(), expansion, allowed: self.allowed, recall, p50, p99 })
    }
}

/// The table for a terminal.
pub fn render(points: &[Point]) -> String {
    let mut text = format!("{:<8} {:>9} {:>8} {:>10} {:>8} {:>8}\n", "search", "expansion", "allowed", "recall@10", "p50 ms", "p99 ms");
    for Point { search, expansion, allowed, recall, p50, p99 } in points {
        let expansion = expansion.map_or(String::new(), |expansion| expansion.to_string());
        text += &format!("{search:<8} {expansion:>9} {:>7.0}% {recall:>10.4} {p50:>8.2} {p99:>8.2}\n", allowed * 100.0);
    }
    text
}

/// The time that a share of the times does not exceed.
fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times = |count: u32| (0..count).rev().map(f64::from).collect::<Vec<_>>();
        for (count, share, expected) in
            [(1, 0.99, 0.0), (2, 0.5, 1.0), (11, 0.5, 5.0), (101, 0.5, 50.0), (101, 0.99, 99.0), (201, 0.99, 198.0)]
        {
            assert_eq!(percentile(&mut times(count), share), expected, "{share} of {count}");
        }
    }
}
