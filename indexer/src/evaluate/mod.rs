//! `evaluate`: BM25, vector and hybrid side by side, on a held-out split and on judged queries. Never a number without
//! its protocol, nor without its interval.

pub mod challenge;
pub mod compare;
mod held_out;
mod judged;
mod page;
mod ranks;
mod significance;
mod table;

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};
use ledger::{Artifact, Bundle, Digest, Report, Rows, Run, Scores as ScoresRecord, Split, Stage, Syntax};
use serde::{Deserialize, Serialize};

use crate::{bundle::OpenBundle, encoder::Provider};
use compare::QueryRanks;
use held_out::{Candidate, HeldOut};
use judged::Judgments;
use table::{Comparison, Row, Table};

pub use table::render;

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
    /// Judged queries, ranked among all rows.
    pub judgments: Vec<Judgments>,
}

/// The score table.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluateReport {
    pub candidates: u64,
    pub queries: u64,
    pub rows: Vec<Row>,
    /// Hybrid against either side alone.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// Answers of judged queries that are not in the bundle, by file.
    #[serde(default)]
    pub unknown_answers: BTreeMap<String, u64>,
    /// Share of the exact ten best that the quantised scan finds.
    pub recall_at_10: f64,
}

impl Report for EvaluateReport {
    fn rows(&self) -> Rows {
        Rows { read: self.queries, written: self.queries, rejected: 0 }
    }
}

/// The rank of the wanted row by each of [`crate::bundle::Mode::ALL`]; none where it was not scored.
type Ranked = [Option<usize>; 3];

/// What the systems made of one query of the held-out split.
struct Answer {
    /// Among the whole split, and in its batch.
    corpus: Ranked,
    batch: Option<Ranked>,
    /// The best rows of hybrid search.
    found: Vec<u32>,
    /// Of the exact ten best, those that the quantised scan found, and how many there are.
    recalled: (usize, usize),
}

/// A query and what hybrid search gave.
#[derive(Debug)]
pub struct Example {
    pub query: String,
    pub wanted: String,
    pub rank: Option<usize>,
    pub found: Vec<String>,
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const REVISION: u32 = 3;
    type Config = Config;
    type Inputs = (Artifact<Bundle>, Artifact<Syntax>);
    type Output = ScoresRecord;
    type Report = EvaluateReport;

    fn outside(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.judgments.iter().map(Judgments::digest).collect()
    }

    fn run(config: &Config, (bundle, syntax): &Self::Inputs, run: &Run<'_>) -> Result<EvaluateReport> {
        ensure!(config.batch > 0, "evaluate.batch must be positive");
        let bundle = OpenBundle::open(&bundle.open()?.dir, Provider::Cpu, run.threads)?;
        let held_out = HeldOut::read(&bundle, &syntax.open()?, config.split)?;
        let queries = held_out.queries(config.max_queries)?;
        let bar = run.progress.bar("evaluate", queries.len() as u64, "queries");
        let (answers, batch_size) = held_out.answer(&queries, config.batch, || bar.add(1))?;
        bar.finish();
        let mut table = Table::default();
        let languages: Vec<&str> = queries.iter().map(|query| query.language.as_str()).collect();
        table.add("mrr@corpus", &languages, &answers.iter().map(|answer| Some(answer.corpus)).collect::<Vec<_>>());
        // CodeSearchNet's protocol needs whole batches; fewer queries are one batch under their own name.
        let in_batch = if batch_size == config.batch { format!("mrr@{}", config.batch) } else { format!("mrr@in-batch({batch_size})") };
        table.add(&in_batch, &languages, &answers.iter().map(|answer| answer.batch).collect::<Vec<_>>());
        let mut ranks: Vec<QueryRanks> = queries
            .iter()
            .zip(&answers)
            .map(|(query, answer)| QueryRanks { set: config.split.to_string(), query: query.id.clone(), ranks: answer.corpus })
            .collect();
        let mut unknown_answers = BTreeMap::new();
        let mut asked = queries.len() as u64;
        for judgments in &config.judgments {
            let bar = run.progress.bar(judgments.name(), 0, "queries");
            let judged = judgments.rank(&bundle, || bar.add(1))?;
            bar.finish();
            asked += judged.ranks.len() as u64;
            table.add_judged(judgments.name(), &judged.ranks);
            ranks.extend(judged.queries.into_iter().zip(&judged.ranks).map(|(query, &ranks)| QueryRanks {
                set: judgments.name().to_owned(),
                query,
                ranks,
            }));
            unknown_answers.insert(judgments.name().to_owned(), judged.unknown);
        }
        compare::write(run.out, &ranks)?;
        let (hits, all) = answers.iter().fold((0, 0), |(hits, all), one| (hits + one.recalled.0, all + one.recalled.1));
        let report = EvaluateReport {
            candidates: held_out.candidates.len() as u64,
            queries: asked,
            rows: table.rows,
            comparisons: table.comparisons,
            unknown_answers,
            recall_at_10: hits as f64 / all.max(1) as f64,
        };
        let flat: BTreeMap<String, f64> = report
            .rows
            .iter()
            .map(|row| (format!("{}_{}_{}_{}", config.split, row.protocol, row.language, row.system), row.score))
            .chain([(format!("{}_recall@10_all_vector", config.split), report.recall_at_10)])
            .collect();
        fs::write(run.out.join("scores.json"), serde_json::to_vec_pretty(&flat)?)?;
        let examples = worst(&held_out.candidates, &queries, &answers);
        fs::write(run.out.join("report.html"), page::render(&page::facts(config, &bundle, &report), &report, &examples))?;
        Ok(report)
    }
}

fn worst(candidates: &[Candidate], queries: &[&Candidate], answers: &[Answer]) -> Vec<Example> {
    let names: BTreeMap<u32, &str> = candidates.iter().map(|candidate| (candidate.row, candidate.name.as_str())).collect();
    let mut order: Vec<usize> = (0..queries.len()).collect();
    order.sort_by_key(|&place| (std::cmp::Reverse(answers[place].corpus[2].unwrap_or(usize::MAX)), queries[place].row));
    order
        .into_iter()
        .take(12)
        .map(|place| Example {
            query: queries[place].summary.clone(),
            wanted: queries[place].name.clone(),
            rank: answers[place].corpus[2],
            found: answers[place].found.iter().filter_map(|row| names.get(row)).map(|&name| name.to_owned()).collect(),
        })
        .collect()
}
