//! `evaluate`: BM25, vector and hybrid side by side, on a held-out split and on judged queries. Never a number without
//! its protocol, nor without its interval.

pub mod challenge;
pub mod compare;
mod judged;
pub mod page;
mod ranks;
mod significance;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use anyhow::{Result, ensure};
use ledger::{Artifact, Bundle, Digest, Report, Rows, Run, Scores as ScoresRecord, Split, Stage, Syntax};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    asked::Asked,
    bundle::{Answers, OpenBundle},
    encoder::Provider,
    fusion::Fusion,
    questions::{Candidate, Questions},
};
use compare::QueryRanks;
use judged::Judgments;
use ranks::{batches, rank, reciprocal};
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
    /// Share of the exact ten best of the whole bundle that its vector search finds.
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
    /// The best rows of each system.
    found: [Vec<u32>; 3],
}

/// A query and what was given.
#[derive(Debug)]
pub struct Example {
    pub query: String,
    pub wanted: String,
    pub ranks: Ranked,
    /// Names, by system.
    pub found: [Vec<String>; 3],
}

/// Queries to look at: those that hybrid search fails, and those where it gains and loses most against BM25.
#[derive(Debug)]
pub struct Examples {
    pub worst: Vec<Example>,
    pub wins: Vec<Example>,
    pub losses: Vec<Example>,
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const ABOUT: &'static str = "Score lexical, vector and hybrid search on the held-out split";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = (Artifact<Bundle>, Artifact<Syntax>);
    type Output = ScoresRecord;
    type Report = EvaluateReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.judgments.iter().map(Judgments::digest).collect()
    }

    fn run(config: &Config, (bundle, syntax): &Self::Inputs, run: &Run<'_>) -> Result<EvaluateReport> {
        ensure!(config.batch > 0 && config.max_queries != Some(0), "evaluate.batch and evaluate.max-queries must be positive");
        let bundle = OpenBundle::open(&bundle.open()?.dir, Provider::Cpu, run.threads)?;
        ensure!(config.split != Split::Train, "the training split is not held out: set evaluate.split to valid or test");
        if let Fusion::Learned { split: Some(split), .. } = &bundle.manifest().fusion {
            ensure!(
                *split != config.split,
                "the bundle's fusion was learnt from the {split} split and cannot be evaluated on it: set evaluate.split or index.fusion.split"
            );
        }
        let held_out = Questions::read(&bundle, &syntax.open()?, config.split, None)?;
        let split = config.split;
        ensure!(!held_out.candidates.is_empty(), "the {split} split is empty: set evaluate.split = valid, or harvest more repositories");
        let queries = held_out.queries(config.max_queries);
        ensure!(!queries.is_empty(), "no documented functions in the {split} split to ask for");
        let bar = run.progress.bar("evaluate", queries.len() as u64, "queries");
        let groups = batches(&queries.iter().map(|query| query.row).collect::<Vec<_>>(), config.batch);
        let batch_size = groups.first().map_or(0, Vec::len);
        let batch_of: HashMap<u32, &Vec<u32>> = groups.iter().flat_map(|group| group.iter().map(move |&row| (row, group))).collect();
        let answers = held_out.ask(&queries, |query, answers, cosine| {
            bar.add(1);
            Ok(judge(&bundle, &held_out, query, answers, cosine, batch_of.get(&query.row).copied()))
        })?;
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
        let report = EvaluateReport {
            candidates: held_out.candidates.len() as u64,
            queries: asked,
            rows: table.rows,
            comparisons: table.comparisons,
            unknown_answers,
            recall_at_10: recall(&bundle, &queries)?,
        };
        let flat: BTreeMap<String, f64> = report
            .rows
            .iter()
            .map(|row| (format!("{}_{}_{}_{}", config.split, row.protocol, row.language, row.system), row.score))
            .chain([(format!("{}_recall@10_all_vector", config.split), report.recall_at_10)])
            .collect();
        fs::write(run.out.join("scores.json"), serde_json::to_vec_pretty(&flat)?)?;
        let examples = examples(&held_out.candidates, &queries, &answers);
        fs::write(run.out.join("report.html"), page::render(&page::facts(config, &bundle, &report), &report, &examples))?;
        Ok(report)
    }
}

/// Ranks of the wanted function by all systems.
fn judge(
    bundle: &OpenBundle,
    held_out: &Questions<'_>,
    query: &Candidate,
    answers: &Answers,
    cosine: &dyn Fn(u32) -> f32,
    batch: Option<&Vec<u32>>,
) -> Answer {
    let rows: Vec<u32> = held_out.candidates.iter().map(|candidate| candidate.row).collect();
    let among = |answers: &Answers, rows: &[u32]| -> (Ranked, [Vec<u32>; 3]) {
        let systems = bundle.systems(answers, cosine);
        let best = systems.each_ref().map(|list| list.iter().take(SHOWN).map(|&(row, _)| row).collect());
        (systems.map(|list| rank(&list.into_iter().collect(), query.row, rows)), best)
    };
    let (corpus, found) = among(answers, &rows);
    let batch = batch.map(|batch| {
        let within: BTreeSet<u32> = batch.iter().copied().collect();
        among(&answers.only(|row| within.contains(&row)), batch).0
    });
    Answer { corpus, batch, found }
}

/// Queries whose nearest are looked for exactly, to measure recall.
const MEASURED: usize = 200;

/// Share of the exact ten best of the whole bundle that are the ten best of its vector search, asked for candidates as `search` does.
fn recall(bundle: &OpenBundle, queries: &[&Candidate]) -> Result<f64> {
    let step = queries.len().div_ceil(MEASURED);
    let asked: Vec<Asked> = queries.iter().step_by(step).map(|query| bundle.words_of(&query.summary)).collect();
    let (met, all) = bundle
        .encode_queries(&asked)?
        .par_chunks(bundle.manifest().vectors.dimension)
        .map(|vector| {
            let exact = bundle.vectors().search_exact(vector, 10, bundle.alive());
            let found = bundle.vectors().search(vector, bundle.manifest().candidates.max(10), bundle.alive())?;
            Ok((found.iter().take(10).filter(|(row, _)| exact.iter().any(|(other, _)| other == row)).count(), exact.len()))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .fold((0, 0), |(met, all), own| (met + own.0, all + own.1));
    Ok(met as f64 / all.max(1) as f64)
}

/// Results of an example that are shown.
const SHOWN: usize = 5;
/// Examples of a kind.
const EXAMPLES: usize = 12;

fn examples(candidates: &[Candidate], queries: &[&Candidate], answers: &[Answer]) -> Examples {
    let names: HashMap<u32, &str> = candidates.iter().map(|candidate| (candidate.row, candidate.name.as_str())).collect();
    let example = |place: usize| Example {
        query: queries[place].summary.clone(),
        wanted: queries[place].name.clone(),
        ranks: answers[place].corpus,
        found: answers[place]
            .found
            .each_ref()
            .map(|rows| rows.iter().filter_map(|row| names.get(row)).map(|&name| name.to_owned()).collect()),
    };
    let gain = |place: usize| reciprocal(answers[place].corpus[2]) - reciprocal(answers[place].corpus[0]);
    let first = |mut order: Vec<usize>, by: &dyn Fn(usize) -> f64| {
        order.sort_by(|&a, &b| by(a).total_cmp(&by(b)).then(queries[a].row.cmp(&queries[b].row)));
        order.into_iter().take(EXAMPLES).map(example).collect::<Vec<_>>()
    };
    let all: Vec<usize> = (0..queries.len()).collect();
    let of = |keep: &dyn Fn(usize) -> bool| all.iter().copied().filter(|&place| keep(place)).collect();
    Examples {
        worst: first(all.clone(), &|place| -(answers[place].corpus[2].unwrap_or(usize::MAX) as f64)),
        wins: first(of(&|place| gain(place) > 0.0), &|place| -gain(place)),
        losses: first(of(&|place| gain(place) < 0.0), &gain),
    }
}
