//! A fusion learnt from a split of the bundle itself, before the bundle is sealed.

use std::path::Path;

use anyhow::Result;
use ledger::{Run, Syntax};
use serde::{Deserialize, Serialize};

use crate::{
    bundle::OpenBundle,
    encoder::Provider,
    fusion::{Example, FEATURES, Fusion, Learned, features, learn as fit},
    questions::Questions,
};

/// Best rows of either side that an example keeps, beside the wanted one.
const KEPT: usize = 100;

/// What was learnt from.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearningReport {
    /// Queries whose function either side found among its best.
    pub examples: u64,
    pub queries: u64,
    /// Mean cross-entropy with all weights 0, and with those learnt.
    pub loss_before: f64,
    pub loss_after: f64,
}

/// Learns the fusion of the bundle in `dir`.
pub fn learn(config: &Learned, dir: &Path, syntax: &Syntax, run: &Run<'_>) -> Result<(Fusion, Option<LearningReport>)> {
    let bundle = OpenBundle::open(dir, Provider::Cpu, run.threads)?;
    let split = config.split;
    let questions = Questions::read(&bundle, syntax, split, Some(config.candidates))?;
    let queries = questions.queries(Some(config.queries));
    let bar = run.progress.bar("fusion", queries.len() as u64, "queries");
    let found = questions.ask(&queries, |query, answers, cosine| {
        bar.add(1);
        Ok(bundle.sides(answers, cosine, |sides| {
            let near = |list: &[(u32, f32)], row: u32| list.iter().take(KEPT).any(|(other, _)| *other == row);
            let mut rows = features(sides);
            rows.retain(|(row, _)| *row == query.row || near(sides.lexical, *row) || near(sides.vector, *row));
            let wanted = rows.iter().position(|(row, _)| *row == query.row)?;
            Some(Example { rows: rows.into_iter().map(|(_, values)| values).collect(), wanted })
        }))
    })?;
    bar.finish();
    let examples: Vec<Example> = found.into_iter().flatten().collect();
    if examples.len() < config.least {
        run.progress.message(&format!(
            "index     the {split} split has {} queries to learn a fusion from, less than index.fusion.least: min-max, weight {}",
            examples.len(),
            config.otherwise
        ));
        return Ok((Fusion::MinMax { weight: config.otherwise }, None));
    }
    let (weights, loss_before, loss_after) = fit(&examples, config.penalty);
    let report = LearningReport { examples: examples.len() as u64, queries: queries.len() as u64, loss_before, loss_after };
    let weights = FEATURES.iter().zip(weights).map(|(name, weight)| ((*name).to_owned(), weight)).collect();
    Ok((Fusion::Learned { weights, split: Some(split) }, Some(report)))
}
