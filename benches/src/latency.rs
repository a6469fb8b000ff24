//! Latency of a search on one thread, with the encoder; recall and latency of the vector search.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use bundle::{Bundle, Mode, Query};
use indexer::evaluate::curve::{curve, render, summaries};
use ledger::{Progress, Serve, Store, write_report};
use serde_json::{Map, Value};

/// Shares of the sorted times that are reported.
const PERCENTILES: [(&str, f64); 3] = [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)];

/// Searches `queries` summaries of indexed functions in every mode; prints tables, or JSON, and writes reports/bench.json.
pub fn run(data: &Path, queries: usize, json: bool) -> Result<()> {
    let store = Store::at(data, Progress::new(json), 1).with_kinds(codenets::stages::registry().kinds());
    let (stages, mut flat) = ledger::journal(&store);
    let current = Serve::of(data).current();
    ensure!(current.exists(), "nothing is published at {}: run `codenets run`", current.display());
    let bundle = Bundle::options().open(current.canonicalize()?)?;
    let latency = latency(&bundle, queries)?;
    let points = curve(&bundle)?;
    if !json {
        println!("{stages}");
        print!("{}", table(&latency));
        println!("\nvector search, one thread, ten nearest neighbours\n{}", render(&points));
    }
    flat.extend(latency);
    flat.insert("vector_search".to_owned(), serde_json::to_value(&points)?);
    write_report(store.root(), "bench", &flat)?;
    if json {
        println!("{}", Value::Object(flat));
    }
    Ok(())
}

fn table(latency: &Map<String, Value>) -> String {
    let mut text = format!(
        "search, one thread, with the encoder, {} functions, {} queries, milliseconds\n",
        latency["search_rows"], latency["search_queries"]
    );
    for mode in Mode::ALL {
        let at = |name: &str| latency[&format!("search_{}_{name}", mode.name())].as_f64().unwrap_or_default();
        text += &format!("  {:<7} p50 {:>7.2}  p99 {:>7.2}  max {:>7.2}\n", mode.name(), at("p50_ms"), at("p99_ms"), at("max_ms"));
    }
    text
}

/// Percentiles of each mode in milliseconds.
fn latency(bundle: &Bundle, count: usize) -> Result<Map<String, Value>> {
    let texts = summaries(bundle, count)?;
    let mut flat = Map::new();
    for mode in Mode::ALL {
        let mut times = Vec::with_capacity(texts.len());
        for text in &texts {
            let clock = Instant::now();
            let hits = bundle.search(&Query::new(text.as_str()).mode(mode).limit(10).snippet_lines(3))?;
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            ensure!(hits.len() <= 10, "the search for {text:?} gave {} hits of 10", hits.len());
        }
        times.sort_by(f64::total_cmp);
        for (name, share) in PERCENTILES {
            let time = times[((times.len() - 1) as f64 * share).round() as usize];
            flat.insert(format!("search_{}_{name}", mode.name()), time.into());
        }
    }
    flat.insert("search_queries".to_owned(), texts.len().into());
    flat.insert("search_rows".to_owned(), bundle.manifest().rows.into());
    Ok(flat)
}
