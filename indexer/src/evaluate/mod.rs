//! Stage `evaluate`: scores of lexical, vector and hybrid search on a held-out split and on judged queries. Every score has a protocol
//! and a confidence interval.

pub mod challenge;
pub mod compare;
mod config;
pub mod curve;
mod examples;
pub mod judge;
mod judged;
pub(crate) mod judgment_files;
mod page;
mod ranks;
mod report;
mod reports;
pub(crate) mod significance;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use bundle::{Bundle, CandidateLists, ParsedQuery, fusion::Fusion};
use ledger::{
    Artifact, Bundle as BundleRecord, Digest, MRR_AT_CORPUS, Run, ScoreKey, Scores as ScoresRecord, Split, Stage, Syntax, ensure,
};
use rayon::prelude::*;

use self::{
    compare::QueryRanks,
    examples::{Example, Examples, SHOWN},
    ranks::{Ranks, batches, language_batches, rank, reciprocal},
    table::Table,
};
pub use self::{
    config::Config,
    judged::Judgments,
    report::{EvaluateReport, render},
    reports::{PAGE, write_reports},
    significance::{Difference, Interval},
    table::{Comparison, Row},
};
use crate::{
    Result,
    split_queries::{SplitFunction, SplitQueries},
};

/// The stage.
#[derive(Debug)]
pub struct Evaluate;

/// Results of one query of the held-out split.
struct QueryResult {
    /// Ranks in the whole split.
    corpus: Ranks,
    /// Ranks in the query's batch of all languages.
    batch: Option<Ranks>,
    /// Ranks in the query's batch of its language.
    language_batch: Option<Ranks>,
    /// The best rows of each system.
    found: [Vec<u32>; 3],
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const ABOUT: &'static str = "Score lexical, vector and hybrid search on the held-out split";
    const REVISION: u32 = 7;
    type Config = Config;
    type Inputs = (Artifact<BundleRecord>, Artifact<Syntax>);
    type Output = ScoresRecord;
    type Report = EvaluateReport;
    type Error = crate::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.judgments.iter().map(Judgments::digest).collect()
    }

    fn run(config: &Config, (bundle, syntax): &Self::Inputs, run: &Run<'_>) -> Result<EvaluateReport> {
        ensure!(config.batch > 0 && config.max_queries != Some(0), "evaluate.batch and evaluate.max-queries must be positive");
        ensure!(config.split != Split::Train, "the training split is not held out: set evaluate.split to valid or test");
        let bundle = Bundle::options().workers(run.threads).open(bundle.open()?.dir)?;
        require_other_split(&bundle, config.split)?;
        let (split, held_out) = scored_split(&bundle, &syntax.open()?, config.split, run)?;
        let queries = held_out.documented(config.max_queries);
        let mut evaluation = Evaluation { split: split.to_string(), ..Evaluation::default() };
        let results =
            if queries.is_empty() { Vec::new() } else { evaluation.score_split(&bundle, &held_out, &queries, config.batch, run)? };
        for judgments in &config.judgments {
            evaluation.score_judged(&bundle, judgments, run)?;
        }
        compare::write(run.out, &evaluation.ranks)?;
        let report = EvaluateReport {
            candidates: held_out.functions.len() as u64,
            queries: evaluation.ranks.len() as u64,
            rows: evaluation.table.rows,
            comparisons: evaluation.table.comparisons,
            unknown_answers: evaluation.unknown_answers,
            recall_at_10: recall(&bundle, &queries)?,
        };
        fs::write(run.out.join(ScoresRecord::FILE), serde_json::to_vec_pretty(&flat(split, &report))?)?;
        let examples = examples(&held_out.functions, &queries, &results);
        fs::write(run.out.join(ScoresRecord::REPORT), page::render(&page::facts(config, &bundle, &report), &report, &examples)?)?;
        Ok(report)
    }
}

/// The functions whose documentation gives the queries: those of the configured split. Where it has none and the encoder was adopted,
/// those of another split, which nothing was learned from either. Where there are none, nothing is scored, with a message.
fn scored_split<'b>(bundle: &'b Bundle, syntax: &Syntax, configured: Split, run: &Run<'_>) -> Result<(Split, SplitQueries<'b>)> {
    let held_out = SplitQueries::read(bundle, syntax, configured, None)?;
    if !held_out.documented(None).is_empty() {
        return Ok((configured, held_out));
    }
    let others = Split::ALL.into_iter().filter(|split| bundle.manifest().adopted_encoder && *split != configured);
    for split in others.filter(|split| require_other_split(bundle, *split).is_ok()) {
        let other = SplitQueries::read(bundle, syntax, split, None)?;
        if !other.documented(None).is_empty() {
            run.progress.message(&format!(
                "evaluate  the {configured} split has no documented functions: the queries are of the {split} split, which the adopted \
                 encoder was not trained on here"
            ));
            return Ok((split, other));
        }
    }
    run.progress.message(&format!(
        "evaluate  scores nothing: the {configured} split has no documented functions; harvest more repositories, or set evaluate.split"
    ));
    Ok((configured, held_out))
}

/// Refuses to evaluate a learned fusion or reranking model on the split that it was learned from.
fn require_other_split(bundle: &Bundle, split: Split) -> Result<()> {
    let fusion = if let Fusion::Learned { split, .. } = &bundle.manifest().fusion { *split } else { None };
    let reranking = bundle.manifest().reranker.as_ref().and_then(|reranker| reranker.split);
    for (name, learned_from) in [("fusion", fusion), ("reranking", reranking)] {
        ensure!(
            learned_from != Some(split),
            "the bundle's {name} was learned from the {split} split and cannot be evaluated on it: set evaluate.split or index.{name}.split"
        );
    }
    Ok(())
}

/// The scores by key, as `scores.json` holds them.
fn flat(split: Split, report: &EvaluateReport) -> BTreeMap<String, f64> {
    let key = |protocol: &str, language: &str, system: &str| ScoreKey::new(split.to_string(), protocol, language, system).to_string();
    let scores = report.rows.iter().map(|row| (key(&row.protocol, &row.language, &row.system), row.score));
    let recall = (report.queries > 0).then(|| (key("recall@10", ledger::ALL_LANGUAGES, "vector"), report.recall_at_10));
    scores.chain(recall).collect()
}

/// Scores as they are collected.
#[derive(Default)]
struct Evaluation {
    split: String,
    table: Table,
    ranks: Vec<QueryRanks>,
    unknown_answers: BTreeMap<String, u64>,
}

impl Evaluation {
    /// Scores the queries of the held-out split.
    fn score_split(
        &mut self,
        bundle: &Bundle,
        held_out: &SplitQueries<'_>,
        queries: &[&SplitFunction],
        batch: usize,
        run: &Run<'_>,
    ) -> Result<Vec<QueryResult>> {
        let bar = run.progress.bar("evaluate", queries.len() as u64, "queries");
        let rows: Vec<u32> = queries.iter().map(|query| query.row).collect();
        let languages: Vec<&str> = queries.iter().map(|query| query.language.as_str()).collect();
        let mixed = batches(&rows, batch);
        let of_languages = language_batches(&rows, &languages, batch);
        let (mixed_of, language_of) = (by_row(&mixed), by_row(&of_languages));
        let results = held_out.search(queries, |query, lists, cosine| {
            bar.add(1);
            let batches = [&mixed_of, &language_of].map(|batch_of| batch_of.get(&query.row).copied());
            Ok(rank_relevant(bundle, held_out, query, lists, cosine, batches))
        })?;
        bar.finish();
        self.table.add(MRR_AT_CORPUS, &languages, &results.iter().map(|result| Some(result.corpus)).collect::<Vec<_>>());
        // CodeSearchNet's protocol needs whole batches; fewer queries are one batch, with a protocol name of its own.
        let size = mixed.first().map_or(0, Vec::len);
        let protocol = if size == batch { format!("mrr@{batch}") } else { format!("mrr@in-batch({size})") };
        let of_batch = |ranks: fn(&QueryResult) -> Option<Ranks>| results.iter().map(ranks).collect::<Vec<_>>();
        self.table.add_batches(&protocol, &languages, &of_batch(|result| result.batch), &of_batch(|result| result.language_batch));
        let ranks = |(query, result): (&&SplitFunction, &QueryResult)| QueryRanks {
            set: self.split.clone(),
            query: query.id.clone(),
            ranks: result.corpus,
        };
        self.ranks.extend(queries.iter().zip(&results).map(ranks));
        Ok(results)
    }

    /// Scores the queries of a file of judgments.
    fn score_judged(&mut self, bundle: &Bundle, judgments: &Judgments, run: &Run<'_>) -> Result<()> {
        let name = judgments.name();
        let bar = run.progress.bar(name, 0, "queries");
        let judged = judgments.rank(bundle, || bar.add(1))?;
        bar.finish();
        self.table.add_judged(name, &judged.ranks);
        let ranks = judged.queries.into_iter().zip(judged.ranks);
        self.ranks.extend(ranks.map(|(query, ranks)| QueryRanks { set: name.to_owned(), query, ranks }));
        self.unknown_answers.insert(name.to_owned(), judged.unknown);
        Ok(())
    }
}

/// Ranks of the relevant function by all systems.
fn rank_relevant(
    bundle: &Bundle,
    held_out: &SplitQueries<'_>,
    query: &SplitFunction,
    lists: &CandidateLists,
    cosine: &dyn Fn(u32) -> f32,
    batches: [Option<&Vec<u32>>; 2],
) -> QueryResult {
    let among = |lists: &CandidateLists, is_candidate: &dyn Fn(u32) -> bool| -> (Ranks, [Vec<u32>; 3]) {
        let rankings = bundle.rankings(&query.summary, lists, cosine);
        let best = rankings.each_ref().map(|list| list.iter().take(SHOWN).map(|&(row, _)| row).collect());
        (rankings.map(|list| rank(&list, query.row, is_candidate)), best)
    };
    let (corpus, found) = among(lists, &|row| held_out.contains(row));
    let [batch, language_batch] = batches.map(|batch| {
        let within: BTreeSet<u32> = batch?.iter().copied().collect();
        let is_within = |row: u32| within.contains(&row);
        Some(among(&lists.filtered(is_within), &is_within).0)
    });
    QueryResult { corpus, batch, language_batch, found }
}

/// The batch of each row.
fn by_row(batches: &[Vec<u32>]) -> HashMap<u32, &Vec<u32>> {
    batches.iter().flat_map(|batch| batch.iter().map(move |&row| (row, batch))).collect()
}

/// Smallest and largest number of queries that recall is measured with; between them a quarter of the queries. Each query is searched by
/// brute force too.
const MEASURED: [usize; 2] = [50, 200];

/// Share of the ten nearest functions of the whole bundle that its vector search finds, with as many candidates as a search has.
fn recall(bundle: &Bundle, queries: &[&SplitFunction]) -> Result<f64> {
    let [least, most] = MEASURED;
    let step = queries.len().div_ceil((queries.len() / 4).clamp(least, most)).max(1);
    let parsed: Vec<ParsedQuery> = queries.iter().step_by(step).map(|query| bundle.parse_words(&query.summary)).collect();
    let (met, all) = bundle
        .encode_queries(&parsed)?
        .par_chunks(bundle.manifest().vectors.dimension)
        .map(|vector| {
            let exact = bundle.vectors().search_exact(vector, 10, bundle.live_rows())?;
            let found = bundle.vectors().search(vector, bundle.manifest().candidates.max(10), bundle.live_rows())?;
            Ok((found.iter().take(10).filter(|(row, _)| exact.iter().any(|(other, _)| other == row)).count(), exact.len()))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .fold((0, 0), |(met, all), counts| (met + counts.0, all + counts.1));
    Ok(met as f64 / all.max(1) as f64)
}

/// Examples in each group.
const EXAMPLES: usize = 12;

fn examples(functions: &[SplitFunction], queries: &[&SplitFunction], results: &[QueryResult]) -> Examples {
    let names: HashMap<u32, &str> = functions.iter().map(|function| (function.row, function.name.as_str())).collect();
    let example = |index: usize| Example {
        query: queries[index].summary.clone(),
        relevant: queries[index].name.clone(),
        ranks: results[index].corpus,
        found: results[index]
            .found
            .each_ref()
            .map(|rows| rows.iter().filter_map(|row| names.get(row)).map(|&name| name.to_owned()).collect()),
    };
    let gain = |index: usize| reciprocal(results[index].corpus[2]) - reciprocal(results[index].corpus[0]);
    let first = |mut order: Vec<usize>, by: &dyn Fn(usize) -> f64| {
        order.sort_by(|&a, &b| by(a).total_cmp(&by(b)).then(queries[a].row.cmp(&queries[b].row)));
        order.into_iter().take(EXAMPLES).map(example).collect::<Vec<_>>()
    };
    let all: Vec<usize> = (0..queries.len()).collect();
    let of = |keep: &dyn Fn(usize) -> bool| all.iter().copied().filter(|&index| keep(index)).collect();
    Examples {
        worst: first(all.clone(), &|index| -(results[index].corpus[2].unwrap_or(usize::MAX) as f64)),
        wins: first(of(&|index| gain(index) > 0.0), &|index| -gain(index)),
        losses: first(of(&|index| gain(index) < 0.0), &gain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_the_worst_queries_and_the_largest_differences() {
        let functions: Vec<SplitFunction> = (0..20)
            .map(|row| SplitFunction {
                row,
                id: row.to_string(),
                language: "go".to_owned(),
                repo: "r".to_owned(),
                path: "p".to_owned(),
                name: format!("f{row}"),
                summary: format!("query {row}"),
            })
            .collect();
        let queries: Vec<&SplitFunction> = functions.iter().collect();
        // Ranks of BM25 and hybrid search: five wins, five losses, one query without a hybrid rank, and equal ones.
        let ranks = |row: usize| match row {
            0..5 => (Some(row + 2), Some(1)),
            5..10 => (Some(1), Some(row)),
            10 => (Some(3), None),
            _ => (Some(2), Some(2)),
        };
        let results: Vec<QueryResult> = (0..20)
            .map(|row| {
                let (bm25, hybrid) = ranks(row);
                QueryResult { corpus: [bm25, None, hybrid], batch: None, language_batch: None, found: [vec![1, 99], Vec::new(), vec![2]] }
            })
            .collect();
        let Examples { worst, wins, losses } = examples(&functions, &queries, &results);
        let names = |list: &[Example]| list.iter().map(|example| example.relevant.clone()).collect::<Vec<_>>();
        assert_eq!(names(&worst), ["f10", "f9", "f8", "f7", "f6", "f5", "f11", "f12", "f13", "f14", "f15", "f16"]);
        assert_eq!(names(&wins), ["f4", "f3", "f2", "f1", "f0"]);
        assert_eq!(names(&losses), ["f9", "f8", "f7", "f6", "f5", "f10"]);
        assert_eq!((worst[0].query.as_str(), worst[0].ranks), ("query 10", [Some(3), None, None]));
        assert_eq!(worst[0].found, [vec!["f1".to_owned()], Vec::new(), vec!["f2".to_owned()]], "a row of another split has no name here");
    }

    #[test]
    fn scores_are_keyed_by_split_protocol_language_and_system() {
        let flat = flat(Split::Test, &report::example_report());
        assert_eq!(
            flat.keys().collect::<Vec<_>>(),
            ["test_mrr@corpus_a<b_bm25", "test_mrr@corpus_a<b_hybrid", "test_recall@10_all_vector"]
        );
    }
}
