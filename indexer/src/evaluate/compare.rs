//! Compares two evaluations of the same queries, with paired significance tests.

use std::{collections::BTreeSet, fs, path::Path};

use bundle::Mode;
use ledger::ensure;
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    ranks::{Ranks, reciprocal},
    significance::{Difference, difference},
};
use crate::{Result, error::Context};

/// File of an artifact of kind `scores`: ranks, one query a line.
pub const RANKS: &str = "ranks.jsonl";
/// Columns that name a query.
const KEYS: [&str; 2] = ["set", "query"];

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

/// Set, query, and the reciprocal rank by each system.
fn read(dir: &Path) -> Result<LazyFrame> {
    let path = dir.join(RANKS);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{} holds no ranks: name a folder of an artifact of kind scores, such as data/scores/KEY", dir.display())
    })?;
    let parse = |(number, line)| serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1));
    let ranks: Vec<QueryRanks> = text.lines().enumerate().map(parse).collect::<Result<_>>()?;
    let texts = |name: &str, text: fn(&QueryRanks) -> &str| Column::new(name.into(), ranks.iter().map(text).collect::<Vec<_>>());
    let mut columns = vec![texts(KEYS[0], |line| &line.set), texts(KEYS[1], |line| &line.query)];
    for (system, mode) in Mode::ALL.into_iter().enumerate() {
        let of_system: Vec<f64> = ranks.iter().map(|line| reciprocal(line.ranks[system])).collect();
        columns.push(Column::new(mode.name().into(), of_system));
    }
    let keys = KEYS.map(PlSmallStr::from_static).to_vec();
    Ok(DataFrame::new(ranks.len(), columns)?.lazy().unique_generic(Some(keys.into_iter().map(col).collect()), UniqueKeepStrategy::Last))
}

/// The queries that two evaluations have, in a fixed order: the second one's columns end in `_right`.
fn joined(first: &Path, second: &Path) -> Result<DataFrame> {
    let keys = KEYS.map(col);
    let joined = read(first)?.join(read(second)?, keys.clone(), keys, JoinArgs::new(JoinType::Inner));
    Ok(joined.sort(KEYS, SortMultipleOptions::default()).collect()?)
}

/// Difference of the reciprocal ranks of one system and set, for each query that both evaluations have: of the first one less the second.
pub fn differences(first: &Path, second: &Path, set: &str, system: Mode) -> Result<Vec<f64>> {
    let of_set = joined(first, second)?.lazy().filter(col(KEYS[0]).eq(lit(set)));
    let difference = (col(system.name()) - col(format!("{}_right", system.name()))).alias("difference");
    Ok(of_set.select([difference]).collect()?.column("difference")?.f64()?.iter().flatten().collect())
}

/// Compares the artifacts of kind `scores` in two folders, system by system, on the queries that both have.
pub fn compare(first: &Path, second: &Path) -> Result<Vec<SystemDifference>> {
    let joined = joined(first, second)?;
    ensure!(joined.height() > 0, "{} and {} have no query in common: compare evaluations of one split", first.display(), second.display());
    let sets: BTreeSet<&str> = joined.column(KEYS[0])?.str()?.iter().flatten().collect();
    let mut lines = Vec::new();
    for set in sets {
        let of_set = joined.clone().lazy().filter(col(KEYS[0]).eq(lit(set))).collect()?;
        let values = |name: &str| -> Result<Vec<f64>> { Ok(of_set.column(name)?.f64()?.iter().flatten().collect()) };
        for mode in Mode::ALL {
            let difference = difference(&values(mode.name())?, &values(&format!("{}_right", mode.name()))?);
            lines.push(SystemDifference { set: set.to_owned(), system: mode.name().to_owned(), queries: of_set.height(), difference });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(ranks: &[(&str, Ranks)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let of = |(query, ranks): &(&str, Ranks)| QueryRanks { set: "test".to_owned(), query: (*query).to_owned(), ranks: *ranks };
        write(dir.path(), &ranks.iter().map(of).collect::<Vec<_>>()).unwrap();
        dir
    }

    #[test]
    fn systems_are_compared_on_the_queries_that_both_evaluations_have() {
        let first = evaluation(&[("a", [Some(1), Some(2), Some(1)]), ("b", [Some(2), None, Some(1)]), ("c", [Some(1); 3])]);
        let second = evaluation(&[("b", [Some(1), None, Some(4)]), ("a", [Some(1), Some(1), Some(2)]), ("d", [Some(1); 3])]);
        let lines = compare(first.path(), second.path()).unwrap();
        let found: Vec<_> = lines.iter().map(|line| (line.system.as_str(), line.queries, line.difference.mean)).collect();
        assert_eq!(found, [("bm25", 2, -0.25), ("vector", 2, -0.25), ("hybrid", 2, 0.625)]);
        let text = render(&lines);
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("test         hybrid          2     +0.6250"), "{text}");
        let other = evaluation(&[("z", [None; 3])]);
        assert!(compare(first.path(), other.path()).unwrap_err().to_string().contains("no query in common"));
    }
}
