//! Two evaluations of the same queries beside each other: is one build better than the other, or was it chance?

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Ranked,
    ranks::reciprocal,
    significance::{Difference, difference},
};
use crate::bundle::Mode;

/// File beside the scores: a line a query.
pub const RANKS: &str = "ranks.jsonl";

/// What each system made of a query, among the whole split or bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryRanks {
    /// The split, or the name of a file of judgments.
    pub set: String,
    /// Id of the function whose documentation asks, or the judged query.
    pub query: String,
    /// By [`Mode::ALL`]; null where the wanted row was not scored.
    pub ranks: Ranked,
}

/// One system of two builds on the queries that both were asked.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub set: String,
    pub system: String,
    pub queries: usize,
    /// The first build's mean reciprocal rank less the second's.
    #[serde(flatten)]
    pub difference: Difference,
}

pub fn write(dir: &Path, ranks: &[QueryRanks]) -> Result<()> {
    let lines = ranks.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
    Ok(fs::write(dir.join(RANKS), lines.join("\n") + "\n")?)
}

fn read(dir: &Path) -> Result<BTreeMap<(String, String), Ranked>> {
    let path = dir.join(RANKS);
    let text = fs::read_to_string(&path).with_context(|| format!("{} holds no ranks: is it a folder of data/scores?", dir.display()))?;
    let mut ranks = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line: QueryRanks = serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1))?;
        ranks.insert((line.set, line.query), line.ranks);
    }
    Ok(ranks)
}

/// Compares the scores in two folders of `data/scores`.
pub fn compare(first: &Path, second: &Path) -> Result<Vec<Line>> {
    let (mine, other) = (read(first)?, read(second)?);
    let mut sets: BTreeMap<&str, Vec<(Ranked, Ranked)>> = BTreeMap::new();
    for ((set, query), ranks) in &mine {
        if let Some(others) = other.get(&(set.clone(), query.clone())) {
            sets.entry(set).or_default().push((*ranks, *others));
        }
    }
    ensure!(!sets.is_empty(), "{} and {} share no query", first.display(), second.display());
    let mut lines = Vec::new();
    for (set, pairs) in sets {
        for (place, mode) in Mode::ALL.into_iter().enumerate() {
            let of = |side: fn(&(Ranked, Ranked)) -> &Ranked| pairs.iter().map(|pair| reciprocal(side(pair)[place])).collect::<Vec<f64>>();
            let difference = difference(&of(|pair| &pair.0), &of(|pair| &pair.1));
            lines.push(Line { set: set.to_owned(), system: mode.name().to_owned(), queries: pairs.len(), difference });
        }
    }
    Ok(lines)
}

/// The table for a terminal.
pub fn render(lines: &[Line]) -> String {
    let mut text =
        format!("{:<12} {:<8} {:>8} {:>11} {:>8} {:>8} {:>8}\n", "set", "system", "queries", "difference", "p", "better", "worse");
    for Line { set, system, queries, difference: Difference { mean, p, wins, losses } } in lines {
        text += &format!("{set:<12} {system:<8} {queries:>8} {mean:>+11.4} {p:>8.4} {wins:>8} {losses:>8}\n");
    }
    text
}
