//! Compares two evaluations of the same queries, with paired significance tests.

use std::{collections::BTreeMap, fs, path::Path};

use bundle::Mode;
use ledger::ensure;
use serde::{Deserialize, Serialize};

use super::{
    Ranks,
    ranks::reciprocal,
    significance::{Difference, difference},
};
use crate::{Result, error::Context};

/// File of an artifact of kind `scores`: ranks, one query a line.
pub const RANKS: &str = "ranks.jsonl";

/// Ranks of the relevant function of a query among the whole split or bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryRanks {
    /// The split, or the name of a set of judged queries.
    pub set: String,
    /// Id of the function whose documentation is the query, or the text of a judged query.
    pub query: String,
    /// By [`Mode::ALL`]; null where a system did not score the relevant function.
    pub ranks: Ranks,
}

/// One system of both evaluations on the queries that both have.
#[derive(Debug, Clone, Serialize)]
pub struct SystemDifference {
    pub set: String,
    pub system: String,
    pub queries: usize,
    /// Mean reciprocal rank of the first evaluation minus that of the second.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Writes the ranks into the folder of an artifact.
pub(super) fn write(dir: &Path, ranks: &[QueryRanks]) -> Result<()> {
    let lines = ranks.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
    Ok(fs::write(dir.join(RANKS), lines.join("\n") + "\n")?)
}

fn read(dir: &Path) -> Result<BTreeMap<(String, String), Ranks>> {
    let path = dir.join(RANKS);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{} holds no ranks: name a folder of an artifact of kind scores, such as data/scores/KEY", dir.display())
    })?;
    let mut ranks = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line: QueryRanks = serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1))?;
        ranks.insert((line.set, line.query), line.ranks);
    }
    Ok(ranks)
}

/// Compares the artifacts of kind `scores` in two folders, system by system, on the queries that both have.
pub fn compare(first: &Path, second: &Path) -> Result<Vec<SystemDifference>> {
    let (mine, others) = (read(first)?, read(second)?);
    let mut sets: BTreeMap<&str, Vec<(Ranks, Ranks)>> = BTreeMap::new();
    for ((set, query), ranks) in &mine {
        if let Some(other) = others.get(&(set.clone(), query.clone())) {
            sets.entry(set).or_default().push((*ranks, *other));
        }
    }
    ensure!(!sets.is_empty(), "{} and {} have no query in common: compare evaluations of one split", first.display(), second.display());
    let mut lines = Vec::new();
    for (set, pairs) in sets {
        for (system, mode) in Mode::ALL.into_iter().enumerate() {
            let of = |part: fn(&(Ranks, Ranks)) -> &Ranks| pairs.iter().map(|pair| reciprocal(part(pair)[system])).collect::<Vec<f64>>();
            let difference = difference(&of(|pair| &pair.0), &of(|pair| &pair.1));
            lines.push(SystemDifference { set: set.to_owned(), system: mode.name().to_owned(), queries: pairs.len(), difference });
        }
    }
    Ok(lines)
}

/// The table for a terminal.
pub fn render(lines: &[SystemDifference]) -> String {
    let mut text =
        format!("{:<12} {:<8} {:>8} {:>11} {:>8} {:>8} {:>8}\n", "set", "system", "queries", "difference", "p", "better", "worse");
    for SystemDifference { set, system, queries, difference: Difference { mean, p, wins, losses } } in lines {
        text += &format!("{set:<12} {system:<8} {queries:>8} {mean:>+11.4} {p:>8.4} {wins:>8} {losses:>8}\n");
    }
    text
}
