//! `bench`: latency of a search, the encoder included, on one thread; and what the vector search finds for how much time.

use std::time::Instant;

use anyhow::{Result, ensure};
use ledger::table;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    asked::Asked,
    bundle::{Mode, OpenBundle, Query},
    ranking::Scored,
};

/// So many summaries of indexed functions, evenly taken.
fn summaries(bundle: &OpenBundle, count: usize) -> Result<Vec<String>> {
    ensure!(count > 0, "there is nothing to time with 0 queries");
    let mut texts = Vec::new();
    for batch in table::read(&bundle.dir().join("docs.parquet"), &["summary"])? {
        texts.extend(table::texts(&batch?, "summary")?.iter().flatten().filter(|text| !text.is_empty()).map(str::to_owned));
    }
    ensure!(!texts.is_empty(), "no documented functions to ask for");
    let step = (texts.len() / count.max(1)).max(1);
    Ok(texts.into_iter().step_by(step).take(count).collect())
}

/// What a vector search finds, and how long it takes.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// `scan` or `graphs`.
    pub search: String,
    /// Rows that a graph looks at (ef).
    pub expansion: Option<usize>,
    /// Share of the rows that a filter allows.
    pub allowed: f64,
    /// Of the exact ten nearest.
    pub recall: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
}

/// Queries of a curve, and how far graphs are opened.
const ASKED: usize = 200;
const EXPANSIONS: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
/// Shares of the rows that a filter allows.
const ALLOWED: [f64; 4] = [1.0, 0.5, 0.2, 0.05];

/// Recall@10 and latency of the vector search on one thread: the scan, the graphs where there are any, and both behind filters
/// that allow rows at random.
pub fn curve(bundle: &OpenBundle) -> Result<Vec<Point>> {
    let asked: Vec<Asked> = summaries(bundle, ASKED)?.iter().map(|text| bundle.words_of(text)).collect();
    let numbers = bundle.encode_queries(&asked)?;
    let queries: Vec<&[f32]> = numbers.chunks_exact(bundle.manifest().vectors.dimension).collect();
    let vectors = bundle.vectors();
    let rows = bundle.manifest().rows;
    let mut points = Vec::new();
    for allowed in ALLOWED {
        // Multiples of the golden ratio spread evenly: rows are taken as at random.
        let taken: Vec<bool> = (0..rows).map(|row| (row as f64 * 0.618_033_988_749_895).fract() < allowed).collect();
        let mask = (allowed < 1.0).then_some(&taken[..]);
        let truth: Vec<Vec<Scored>> = queries.iter().map(|query| vectors.search_exact(query, 10, mask)).collect();
        let mut measure = |search: &str, expansion: Option<usize>, find: &dyn Fn(&[f32]) -> Result<Vec<Scored>>| -> Result<()> {
            let (mut times, mut met) = (Vec::with_capacity(queries.len()), 0);
            for (query, truth) in queries.iter().zip(&truth) {
                let clock = Instant::now();
                let found = find(query)?;
                times.push(clock.elapsed().as_secs_f64() * 1e3);
                met += truth.iter().filter(|(row, _)| found.iter().any(|(other, _)| other == row)).count();
            }
            let recall = met as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64;
            let (p50, p99) = (share_of(&mut times, 0.5), share_of(&mut times, 0.99));
            points.push(Point { search: search.to_owned(), expansion, allowed, recall, p50, p99 });
            Ok(())
        };
        measure("scan", None, &|query| Ok(vectors.search_all(query, 10, mask)))?;
        if let (Some(graphs), Some(facts)) = (vectors.graphs(), &bundle.manifest().vectors.graphs) {
            for expansion in EXPANSIONS {
                graphs.expand(expansion);
                measure("graphs", Some(expansion), &|query| vectors.search_graphs(graphs, query, 10, mask))?;
            }
            graphs.expand(facts.expansion_search);
        }
    }
    Ok(points)
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

fn share_of(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share).round() as usize]
}

/// Asks `count` summaries of indexed functions in every mode; milliseconds.
pub fn latency(bundle: &OpenBundle, count: usize) -> Result<Map<String, Value>> {
    let texts = summaries(bundle, count)?;
    let mut flat = Map::new();
    for mode in Mode::ALL {
        let mut times = Vec::with_capacity(texts.len());
        for text in &texts {
            let clock = Instant::now();
            let hits = bundle.search(&Query { text: text.clone(), mode, limit: 10, snippet_lines: 3, ..Query::default() })?;
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            ensure!(hits.len() <= 10, "more hits than asked for");
        }
        for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
            flat.insert(format!("search_{}_{name}", mode.name()), share_of(&mut times, share).into());
        }
    }
    flat.insert("search_queries".to_owned(), texts.len().into());
    flat.insert("search_rows".to_owned(), bundle.manifest().rows.into());
    Ok(flat)
}
