//! `evaluate`: BM25, vector and hybrid side by side on a held-out split. Never a number without its
//! protocol.
//!
//! The query is a function's documentation (its summary), and the function must be found among all
//! functions of the split. The documentation itself is left out: BM25 searches name and code only,
//! and the encoder does not read it.

mod page;
mod ranks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use anyhow::{Result, ensure};
use ledger::{Artifact, Bundle, Mrr, Report, Rows, Run, Scores as ScoresRecord, Split, Stage, Tokens, table};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    bundle::{Mode, OpenBundle},
    encoder::Provider,
    fusion::Scored,
    lexical::{Boosts, Filter},
};
use ranks::{Scores, batches, mean_reciprocal, rank};

/// The stage.
#[derive(Debug)]
pub struct Evaluate;

/// Section `evaluate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub split: Split,
    /// Batch of mrr@1000.
    pub batch: usize,
    /// Queries, at most, evenly taken.
    pub max_queries: Option<usize>,
}

/// A line of the score table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub protocol: String,
    pub language: String,
    pub system: String,
    pub queries: u64,
    pub score: f64,
}

/// The score table.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluateReport {
    pub candidates: u64,
    pub queries: u64,
    pub rows: Vec<Row>,
    /// Share of the exact ten best that the quantised scan finds.
    pub recall_at_10: f64,
}

impl Report for EvaluateReport {
    fn rows(&self) -> Rows {
        Rows { read: self.queries, written: self.queries, rejected: 0 }
    }
}

/// A query and what hybrid search gave.
#[derive(Debug)]
pub struct Example {
    pub query: String,
    pub wanted: String,
    pub rank: Option<usize>,
    pub found: Vec<String>,
}

/// A function of the split.
struct Candidate {
    row: u32,
    language: String,
    name: String,
    summary: String,
}

/// Ranks of one query: for each of [`Mode::ALL`], in the whole split and in its batch.
struct Ranked {
    corpus: [Option<usize>; 3],
    batch: Option<[Option<usize>; 3]>,
    found: Vec<u32>,
    recalled: (usize, usize),
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = (Artifact<Bundle>, Artifact<Tokens>);
    type Output = ScoresRecord;
    type Report = EvaluateReport;

    fn run(config: &Config, (bundle, tokens): &Self::Inputs, run: &Run<'_>) -> Result<EvaluateReport> {
        ensure!(config.batch > 0, "evaluate.batch must be positive");
        let bundle = OpenBundle::open(&bundle.open()?.dir, Provider::Cpu, run.threads)?;
        let candidates = candidates(&bundle, &tokens.open()?, config.split)?;
        let queries: Vec<&Candidate> =
            evenly(candidates.iter().filter(|candidate| !candidate.summary.is_empty()).collect(), config.max_queries);
        ensure!(!queries.is_empty(), "no documented functions in the {} split to ask for", config.split);
        let rows: Vec<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let groups = batches(&queries.iter().map(|query| query.row).collect::<Vec<_>>(), config.batch);
        let batch_of: HashMap<u32, &Vec<u32>> = groups.iter().flat_map(|group| group.iter().map(move |&row| (row, group))).collect();
        let vectors = encode(&bundle, &queries)?;
        let dimension = bundle.manifest().vectors.dimension;
        let bar = run.progress.bar("evaluate", queries.len() as u64, "queries");
        let wanted: BTreeSet<u32> = rows.iter().copied().collect();
        let ranked = queries
            .par_iter()
            .zip(vectors.par_chunks(dimension))
            .map(|(query, vector)| {
                let ranked = rank_query(&bundle, config.split, query, vector, &rows, &wanted, batch_of.get(&query.row).copied())?;
                bar.add(1);
                Ok(ranked)
            })
            .collect::<Result<Vec<Ranked>>>()?;
        bar.finish();
        let batch_size = groups.first().map_or(0, Vec::len);
        let table = score_table(&queries, &ranked, batch_size, config.batch);
        let (hits, all) = ranked.iter().fold((0, 0), |(hits, all), one| (hits + one.recalled.0, all + one.recalled.1));
        let report = EvaluateReport {
            candidates: rows.len() as u64,
            queries: queries.len() as u64,
            rows: table,
            recall_at_10: hits as f64 / all.max(1) as f64,
        };
        let flat: BTreeMap<String, f64> = report
            .rows
            .iter()
            .map(|row| (format!("{}_{}_{}_{}", config.split, row.protocol, row.language, row.system), row.score))
            .chain([(format!("{}_recall@10_all_vector", config.split), report.recall_at_10)])
            .collect();
        fs::write(run.out.join("scores.json"), serde_json::to_vec_pretty(&flat)?)?;
        let examples = worst(&candidates, &queries, &ranked);
        fs::write(run.out.join("report.html"), page::render(&facts(config, &bundle, &report), &report.rows, &examples))?;
        Ok(report)
    }
}

/// Functions of the split, as the tokens record and the bundle both know them.
fn candidates(bundle: &OpenBundle, tokens: &Tokens, split: Split) -> Result<Vec<Candidate>> {
    let mut ids = BTreeSet::new();
    for shard in tokens.held_out(split)? {
        for batch in table::read(&shard.path, &["id"])? {
            ids.extend(table::texts(&batch?, "id")?.iter().flatten().map(str::to_owned));
        }
    }
    let mut found = Vec::new();
    let mut row = 0u32;
    for batch in table::read(&bundle.dir().join("docs.parquet"), &["id", "split", "language", "func_name", "summary"])? {
        let batch = batch?;
        let text = |name: &str| table::texts(&batch, name);
        let (id, splits, languages, names, summaries) =
            (text("id")?, text("split")?, text("language")?, text("func_name")?, text("summary")?);
        for place in 0..batch.num_rows() {
            if splits.value(place) == split.name() && ids.contains(id.value(place)) {
                found.push(Candidate {
                    row,
                    language: languages.value(place).to_owned(),
                    name: names.value(place).to_owned(),
                    summary: summaries.value(place).to_owned(),
                });
            }
            row += 1;
        }
    }
    ensure!(!found.is_empty(), "the {split} split is empty: set evaluate.split = valid, or harvest more repositories");
    Ok(found)
}

/// At most `max` items, evenly spread.
fn evenly<T: Copy>(items: Vec<T>, max: Option<usize>) -> Vec<T> {
    match max {
        Some(max) if items.len() > max && max > 0 => (0..max).map(|index| items[index * items.len() / max]).collect(),
        _ => items,
    }
}

fn encode(bundle: &OpenBundle, queries: &[&Candidate]) -> Result<Vec<f32>> {
    let texts: Vec<&str> = queries.iter().map(|query| query.summary.as_str()).collect();
    bundle.encode_queries(&texts)
}

fn rank_query(
    bundle: &OpenBundle,
    split: Split,
    query: &Candidate,
    vector: &[f32],
    rows: &[u32],
    wanted: &BTreeSet<u32>,
    batch: Option<&Vec<u32>>,
) -> Result<Ranked> {
    let mut boosts: Boosts = bundle.manifest().lexical.boosts;
    boosts.documentation = 0.0;
    let filter = Filter { language: None, split: Some(split.to_string()) };
    let found = bundle.lexical().search(&query.summary, &filter, Some(boosts), rows.len())?;
    let lexical: Vec<Scored> = found.into_iter().map(|(scored, _)| scored).filter(|(row, _)| wanted.contains(row)).collect();
    let vectors = bundle.vectors().search_exact(vector, rows.len(), |row| wanted.contains(&row));
    let top: Vec<u32> = vectors.iter().take(10).map(|&(row, _)| row).collect();
    let quantised = bundle.vectors().search(vector, 10, |row| wanted.contains(&row));
    let recalled = (quantised.iter().filter(|(row, _)| top.contains(row)).count(), top.len());
    let ranks_among = |rows: &[u32], lexical: &[Scored], vectors: &[Scored]| -> ([Option<usize>; 3], Vec<u32>) {
        let cut = |list: &[Scored]| list.iter().take(bundle.manifest().candidates).copied().collect::<Vec<Scored>>();
        let hybrid = bundle.manifest().fusion.fuse(&cut(lexical), &cut(vectors));
        let plain = |list: &[Scored]| list.iter().map(|&(row, score)| (row, f64::from(score))).collect::<Scores>();
        let best = hybrid.iter().take(5).map(|&(row, _)| row).collect();
        let systems = [plain(lexical), plain(vectors), hybrid.into_iter().collect::<Scores>()];
        (systems.map(|scores| rank(&scores, query.row, rows)), best)
    };
    let (corpus, found) = ranks_among(rows, &lexical, &vectors);
    let batch = batch.map(|batch| {
        let within: BTreeSet<u32> = batch.iter().copied().collect();
        let only = |list: &[Scored]| list.iter().filter(|(row, _)| within.contains(row)).copied().collect::<Vec<Scored>>();
        ranks_among(batch, &only(&lexical), &only(&vectors)).0
    });
    Ok(Ranked { corpus, batch, found, recalled })
}

fn score_table(queries: &[&Candidate], ranked: &[Ranked], batch_size: usize, asked: usize) -> Vec<Row> {
    let mut languages: Vec<String> = queries.iter().map(|query| query.language.clone()).collect();
    languages.sort();
    languages.dedup();
    if languages.len() > 1 {
        languages.insert(0, "all".to_owned());
    } else {
        languages = vec!["all".to_owned()];
    }
    // CodeSearchNet's protocol needs whole batches; fewer queries are one batch under their own name.
    let in_batch = if batch_size == asked { format!("mrr@{asked}") } else { format!("mrr@in-batch({batch_size})") };
    let mut rows = Vec::new();
    for protocol in ["mrr@corpus", &in_batch] {
        for language in &languages {
            for (place, mode) in Mode::ALL.into_iter().enumerate() {
                let ranks: Vec<Option<usize>> =
                    queries
                        .iter()
                        .zip(ranked)
                        .filter(|(query, _)| language == "all" || query.language == *language)
                        .filter_map(|(_, ranked)| {
                            if protocol == "mrr@corpus" { Some(ranked.corpus[place]) } else { ranked.batch.map(|batch| batch[place]) }
                        })
                        .collect();
                if !ranks.is_empty() {
                    let score: Mrr = mean_reciprocal(&ranks);
                    rows.push(Row {
                        protocol: protocol.to_owned(),
                        language: language.clone(),
                        system: mode.name().to_owned(),
                        queries: ranks.len() as u64,
                        score: score.into(),
                    });
                }
            }
        }
    }
    rows
}

fn worst(candidates: &[Candidate], queries: &[&Candidate], ranked: &[Ranked]) -> Vec<Example> {
    let names: HashMap<u32, &str> = candidates.iter().map(|candidate| (candidate.row, candidate.name.as_str())).collect();
    let mut order: Vec<usize> = (0..queries.len()).collect();
    order.sort_by_key(|&place| (std::cmp::Reverse(ranked[place].corpus[2].unwrap_or(usize::MAX)), queries[place].row));
    order
        .into_iter()
        .take(12)
        .map(|place| Example {
            query: queries[place].summary.clone(),
            wanted: queries[place].name.clone(),
            rank: ranked[place].corpus[2],
            found: ranked[place].found.iter().filter_map(|row| names.get(row)).map(|&name| name.to_owned()).collect(),
        })
        .collect()
}

fn facts(config: &Config, bundle: &OpenBundle, report: &EvaluateReport) -> Vec<(String, String)> {
    let manifest = bundle.manifest();
    [
        ("split", config.split.to_string()),
        ("candidates", format!("{} functions of the split, of {} in the bundle", report.candidates, manifest.rows)),
        ("queries", report.queries.to_string()),
        (
            "encoder",
            format!(
                "{} dimensions, {} pooling, {}",
                manifest.vectors.dimension, manifest.encoder.pooling, manifest.vectors.execution_provider
            ),
        ),
        (
            "lexical",
            format!(
                "BM25 k1 {} b {}, boosts name {} code {}, documentation left out",
                manifest.lexical.k1, manifest.lexical.b, manifest.lexical.boosts.name, manifest.lexical.boosts.code
            ),
        ),
        ("fusion", format!("{} over the best {} of each side", manifest.fusion, manifest.candidates)),
        ("recall@10 of the i8 scan against exact search", format!("{:.4}", report.recall_at_10)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The score table for a terminal.
pub fn render(report: &EvaluateReport) -> String {
    let mut text = format!("{:<22} {:<12} {:>8} {:>8} {:>8} {:>8}\n", "protocol", "language", "queries", "bm25", "vector", "hybrid");
    for row in report.rows.chunks(Mode::ALL.len()) {
        text += &format!("{:<22} {:<12} {:>8}", row[0].protocol, row[0].language, row[0].queries);
        row.iter().for_each(|system| text += &format!(" {:>8.4}", system.score));
        text.push('\n');
    }
    text + &format!("recall@10 of the quantised scan against exact search: {:.4}\n", report.recall_at_10)
}
