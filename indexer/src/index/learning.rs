//! Learns the fusion and the reranking model of a bundle from one of its splits, before the bundle is sealed.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use bundle::{
    Bundle, CandidateLists,
    fusion::{FEATURES, Fusion, LEARNED_VERSION, features},
    groups::Group,
    reranking::{QueryClass, Reranker, VERSION, names::NamePart},
};
use ledger::{Digest, Run, Split, Syntax};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    error::Context,
    fusion::{Example, Learned, learn as learn_weights},
    reranking::{self, ExampleRow, Relevant, TrainingQuery, training_queries},
    split_queries::{SplitQueries, SplitQuery},
};

/// Best rows of each list that an example of fusion keeps, besides the relevant row.
const KEPT: usize = 100;
/// Best fused rows that an example of reranking keeps, besides the relevant rows.
const KEPT_FUSED: usize = 60;

/// Report of the learning.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearningReport {
    /// Queries whose function is in one of the lists.
    pub examples: u64,
    pub queries: u64,
    /// Mean cross-entropy with all weights 0, for reranking with those of the prior.
    pub loss_before: f64,
    /// Mean cross-entropy with the learned weights.
    pub loss_after: f64,
}

/// Learns the fusion of the bundle in `dir`.
pub fn learn_fusion(
    config: &Learned,
    dir: &Path,
    syntax: &Syntax,
    encoder: &Digest,
    run: &Run<'_>,
) -> Result<(Fusion, Option<LearningReport>)> {
    let bundle = Bundle::options().workers(run.threads).open(dir)?;
    let split = config.split;
    let functions = SplitQueries::read(&bundle, syntax, split, Some(config.candidates))?;
    let queries = functions.documented(Some(config.queries));
    let bar = run.progress.bar("fusion", queries.len() as u64, "queries");
    let found = functions.search(&queries, |query, lists, cosine| {
        bar.add(1);
        Ok(bundle.with_candidates(lists, cosine, |candidates| {
            let near = |list: &[(u32, f32)], row: u32| list.iter().take(KEPT).any(|(other, _)| *other == row);
            let mut rows = features(candidates);
            rows.retain(|(row, _)| *row == query.row || near(candidates.lexical, *row) || near(candidates.vector, *row));
            let relevant = rows.iter().position(|(row, _)| *row == query.row)?;
            Some(Example { rows: rows.into_iter().map(|(_, values)| values).collect(), relevant })
        }))
    })?;
    bar.finish();
    let examples: Vec<Example> = found.into_iter().flatten().collect();
    if examples.len() < config.least {
        run.progress.message(&format!(
            "index     the {split} split has {} queries to learn a fusion from, fewer than index.fusion.least: min-max, weight {}",
            examples.len(),
            config.otherwise
        ));
        return Ok((Fusion::MinMax { weight: config.otherwise }, None));
    }
    let learned = learn_weights(&examples, config.penalty);
    let report = LearningReport {
        examples: examples.len() as u64,
        queries: queries.len() as u64,
        loss_before: learned.loss_before,
        loss_after: learned.loss_after,
    };
    let weights = FEATURES.iter().zip(learned.weights).map(|(name, weight)| ((*name).to_owned(), weight)).collect();
    Ok((Fusion::Learned { version: LEARNED_VERSION, weights, encoder: Some(*encoder), split: Some(split) }, Some(report)))
}

/// Learns the reranking model of the bundle in `dir`.
pub fn learn_reranker(
    config: &reranking::Learned,
    dir: &Path,
    syntax: &Syntax,
    encoder: &Digest,
    run: &Run<'_>,
) -> Result<(Reranker, Option<LearningReport>)> {
    let bundle = Bundle::options().workers(run.threads).open(dir)?;
    let split = config.split;
    let functions = SplitQueries::read(&bundle, syntax, split, Some(config.candidates))?;
    let queries = training_queries(&functions.functions.iter().collect::<Vec<_>>(), config.queries);
    let bar = run.progress.bar("reranking", queries.len() as u64, "queries");
    let examples = examples(&bundle, &functions, &queries, || bar.add(1))?;
    bar.finish();
    if examples.len() < config.least {
        run.progress.message(&format!(
            "index     the {split} split has {} queries to learn reranking from, fewer than index.reranking.least: the weights of the prior",
            examples.len()
        ));
        return Ok((Reranker { version: VERSION, encoder: None, split: None, weights: config.prior.clone() }, None));
    }
    let learned = reranking::learn(&examples, &config.prior, config.penalty);
    let report = LearningReport {
        examples: examples.len() as u64,
        queries: queries.len() as u64,
        loss_before: learned.loss_before,
        loss_after: learned.loss_after,
    };
    let reranker = Reranker { version: VERSION, encoder: Some(*encoder), split: Some(split), weights: learned.weights };
    Ok((reranker, Some(report)))
}

/// Writes the examples of a split as JSON lines: by the rules of reranking, or with the summaries of the functions as queries. Returns their
/// number.
pub fn write_examples(dir: &Path, syntax: &Syntax, split: Split, by_rules: bool, limit: usize, out: &Path) -> Result<usize> {
    let bundle = Bundle::options().open(dir)?;
    let functions = SplitQueries::read(&bundle, syntax, split, None)?;
    let queries = if by_rules {
        training_queries(&functions.functions.iter().collect::<Vec<_>>(), limit)
    } else {
        // Half of them search one repository only, as training queries do.
        let of_summary = |(index, function): (usize, _)| {
            let query = SplitQuery { within_repository: index.is_multiple_of(2), ..SplitQuery::of_summary(function) };
            TrainingQuery { query, relevant: Relevant::Function }
        };
        functions.documented(Some(limit)).into_iter().enumerate().map(of_summary).collect()
    };
    let examples = examples(&bundle, &functions, &queries, || ())?;
    let mut file = BufWriter::new(File::create(out).with_context(|| format!("creating {}", out.display()))?);
    for example in &examples {
        serde_json::to_writer(
            &mut file,
            &(example.class.name(), example.by_file, &example.candidates.iter().map(row_of).collect::<Vec<_>>()),
        )?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(examples.len())
}

fn row_of(row: &ExampleRow) -> (u32, bool, Vec<f64>) {
    (row.file, row.is_relevant, row.features.to_vec())
}

/// The examples of training queries; queries whose candidates have no relevant function are left out.
fn examples(
    bundle: &Bundle,
    functions: &SplitQueries<'_>,
    queries: &[TrainingQuery<'_>],
    done: impl Fn() + Sync,
) -> Result<Vec<reranking::Example>> {
    let example = |query: &TrainingQuery<'_>, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32| -> Option<reranking::Example> {
        let (groups, names, row) = (bundle.groups()?, bundle.names()?, query.query.function.row);
        let file = |row: u32| groups.of(row, Group::File);
        let class = |row: u32| (file(row), names.part(row, NamePart::Class).joined());
        let is_relevant = |other: u32| match query.relevant {
            Relevant::Function => other == row,
            Relevant::File => file(other) == file(row),
            Relevant::Class => class(other) == class(row),
        };
        let fused = bundle.fused(lists, cosine);
        let features = bundle.with_fused(&query.query.text, lists, &fused, bundle::reranking::features)?;
        let rows = fused.iter().zip(features).enumerate().filter(|(index, ((row, _), _))| *index < KEPT_FUSED || is_relevant(*row));
        let candidates: Vec<ExampleRow> =
            rows.map(|(_, ((row, _), features))| ExampleRow { features, file: file(*row), is_relevant: is_relevant(*row) }).collect();
        let by_file = query.relevant == Relevant::File;
        let is_found = candidates.iter().any(|row| row.is_relevant);
        is_found.then(|| reranking::Example { class: QueryClass::of(&query.query.text), candidates, by_file })
    };
    let texts: Vec<&SplitQuery<'_>> = queries.iter().map(|query| &query.query).collect();
    let found = functions.search_with(&texts, |index, lists, cosine| {
        done();
        Ok(example(&queries[index], lists, cosine))
    })?;
    Ok(found.into_iter().flatten().collect())
}
