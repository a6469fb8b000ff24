//! `bench`: latency of a search, the encoder included, on one thread.

use std::time::Instant;

use anyhow::{Result, ensure};
use ledger::table;
use serde_json::{Map, Value};

use crate::bundle::{Mode, OpenBundle, Query};

/// Asks `count` summaries of indexed functions in every mode; milliseconds.
pub fn latency(bundle: &OpenBundle, count: usize) -> Result<Map<String, Value>> {
    let mut texts = Vec::new();
    for batch in table::read(&bundle.dir().join("docs.parquet"), &["summary"])? {
        texts.extend(table::texts(&batch?, "summary")?.iter().flatten().filter(|text| !text.is_empty()).map(str::to_owned));
    }
    ensure!(!texts.is_empty(), "no documented functions to ask for");
    let step = (texts.len() / count.max(1)).max(1);
    let texts: Vec<&String> = texts.iter().step_by(step).take(count).collect();
    let mut flat = Map::new();
    for mode in Mode::ALL {
        let mut times = Vec::with_capacity(texts.len());
        for text in &texts {
            let clock = Instant::now();
            let hits = bundle.search(&Query { text: (*text).clone(), mode, limit: 10, snippet_lines: 3, ..Query::default() })?;
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            ensure!(hits.len() <= 10, "more hits than asked for");
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        for (name, value) in [("p50_ms", at(0.5)), ("p99_ms", at(0.99)), ("max_ms", at(1.0))] {
            flat.insert(format!("search_{}_{name}", mode.name()), value.into());
        }
    }
    flat.insert("search_queries".to_owned(), texts.len().into());
    flat.insert("search_rows".to_owned(), bundle.manifest().rows.into());
    Ok(flat)
}
