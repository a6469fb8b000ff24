//! Learns the fusion of a bundle from one of its splits, before the bundle is sealed.

use std::path::Path;

use bundle::{
    Bundle,
    fusion::{FEATURES, Fusion, LEARNED_VERSION, features},
};
use ledger::{Run, Syntax};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    fusion::{Example, Learned, learn as learn_weights},
    split_queries::SplitQueries,
};

/// Best rows of each list that an example keeps, besides the relevant row.
const KEPT: usize = 100;

/// Report of the learning.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearningReport {
    /// Queries whose function is in one of the lists.
    pub examples: u64,
    pub queries: u64,
    /// Mean cross-entropy with all weights 0.
    pub loss_before: f64,
    /// Mean cross-entropy with the learned weights.
    pub loss_after: f64,
}

/// Learns the fusion of the bundle in `dir`.
pub fn learn(config: &Learned, dir: &Path, syntax: &Syntax, run: &Run<'_>) -> Result<(Fusion, Option<LearningReport>)> {
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
    Ok((Fusion::Learned { version: LEARNED_VERSION, weights, split: Some(split) }, Some(report)))
}
