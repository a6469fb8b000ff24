//! Scores of judged queries by the search that users run, on any bundle.

pub mod candidates;
mod sets;

use std::{collections::BTreeMap, path::Path};

use bundle::{Bundle, Hit, Mode};
use ledger::Progress;
use rayon::prelude::*;
use serde::Serialize;

use self::sets::{JudgedQuery, Relevant, judged_set};
pub use self::sets::{JudgmentFormat, UnknownFormat};
use super::{
    challenge,
    significance::{self, Difference, Interval},
};
use crate::Result;

/// Name of the group of all queries.
const ALL: &str = "all";

/// Results of a file of judged queries.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedScores {
    /// Queries about languages or repositories that the bundle does not have.
    pub left_out: usize,
    pub scores: Vec<JudgedScore>,
}

/// Score of one measure in one group of queries. `all` is the mean over the languages for `csn`, otherwise over the queries.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedScore {
    pub measure: &'static str,
    pub group: String,
    pub queries: usize,
    /// By [`Mode::ALL`].
    pub systems: BTreeMap<&'static str, f64>,
    /// Over the queries, of hybrid search.
    pub interval: Interval,
    /// Hybrid search minus the better of the two others.
    pub difference: Difference,
}

/// Values of one query: by measure, then by [`Mode::ALL`].
type Values = Vec<[f64; 3]>;

/// Searches with every judged query of the file in all modes, and scores the results.
pub fn score(bundle: &Bundle, format: JudgmentFormat, path: &Path, progress: &Progress) -> Result<JudgedScores> {
    let set = judged_set(bundle, format, path)?;
    let (measures, depth): (&[&'static str], usize) = match format {
        JudgmentFormat::Csn => (&["NDCG Within", "NDCG All"], challenge::DEPTH),
        JudgmentFormat::Cosqa | JudgmentFormat::Jsonl => (&["MRR"], MRR_DEPTH),
        JudgmentFormat::Files => (&["NDCG@10"], FILES),
    };
    // Judgments of functions name each alias.
    let is_by_file = format == JudgmentFormat::Files;
    let bar = progress.bar("judge", set.queries.len() as u64, "queries");
    let values: Vec<Values> = set
        .queries
        .par_iter()
        .map(|judged| {
            let mut values = vec![[0.0; 3]; measures.len()];
            for (system, mode) in Mode::ALL.into_iter().enumerate() {
                let hits = bundle.search(&judged.query.clone().mode(mode).limit(depth).group_aliases(is_by_file))?;
                for (value, score) in values.iter_mut().zip(scores_of(judged, &hits)) {
                    value[system] = score;
                }
            }
            bar.add(1);
            Ok(values)
        })
        .collect::<Result<_>>()?;
    bar.finish();
    let mut scores = Vec::new();
    for (number, measure) in measures.iter().enumerate() {
        scores.extend(groups(measure, &set.queries, |index| values[index][number], format == JudgmentFormat::Csn));
    }
    Ok(JudgedScores { left_out: set.left_out, scores })
}

/// Hits in which a relevant function is searched for its reciprocal rank.
const MRR_DEPTH: usize = 1000;
/// Hits whose files count.
const FILES: usize = 10;

/// The value of each measure for the hits of one query.
fn scores_of(judged: &JudgedQuery, hits: &[Hit]) -> Vec<f64> {
    let reciprocal = |is_relevant: &dyn Fn(&Hit) -> bool| hits.iter().position(is_relevant).map_or(0.0, |rank| 1.0 / (rank + 1) as f64);
    match &judged.relevant {
        Relevant::Grades(grades) => {
            let urls: Vec<String> = hits.iter().map(|hit| hit.url.clone()).collect();
            [true, false].map(|within| challenge::ndcg(&urls, grades, within)).to_vec()
        }
        Relevant::Rows(rows) => vec![reciprocal(&|hit| rows.contains(&hit.id) || rows.contains(&hit.url))],
        Relevant::UrlEnd(end) => vec![reciprocal(&|hit| hit.url.ends_with(end))],
        Relevant::Files(files, count) => vec![ndcg_of_files(&hits.iter().map(|hit| hit.path.as_str()).collect::<Vec<_>>(), files, *count)],
    }
}

/// Indexes of the files that a path is.
pub(crate) fn files_of<'a>(path: &'a str, files: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    let is_end = |path: &str, end: &str| path == end || path.strip_suffix(end).is_some_and(|start| start.ends_with('/'));
    (0..files.len()).filter(move |&index| is_end(path, &files[index]) || is_end(&files[index], path))
}

/// NDCG@10 by file: a relevant file counts once, at its first hit. `relevant`: number of relevant files.
fn ndcg_of_files(paths: &[&str], files: &[String], relevant: usize) -> f64 {
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let of_file = |index: usize| paths.iter().take(FILES).position(|path| files_of(path, files).any(|other| other == index));
    let mut ranks: Vec<usize> = (0..files.len()).filter_map(of_file).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let ideal: f64 = (0..relevant.min(FILES)).map(discount).sum();
    if ideal > 0.0 { ranks.into_iter().map(discount).sum::<f64>() / ideal } else { 0.0 }
}

/// The scores of each group and of all queries. `by_group`: the score of all is the mean of the groups.
fn groups(measure: &'static str, queries: &[JudgedQuery], value: impl Fn(usize) -> [f64; 3], by_group: bool) -> Vec<JudgedScore> {
    let mut of: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
    let mut all = Vec::with_capacity(queries.len());
    for (index, judged) in queries.iter().enumerate() {
        all.push(value(index));
        of.entry(&judged.group).or_default().push(value(index));
    }
    let means: Vec<[f64; 3]> = of.values().map(|values| mean(values)).collect();
    let total = if by_group { mean(&means) } else { mean(&all) };
    let is_one = of.len() == 1;
    let mut scores: Vec<JudgedScore> =
        of.into_iter().filter(|_| !is_one).map(|(group, values)| score_of(measure, group, &values, mean(&values))).collect();
    scores.push(score_of(measure, ALL, &all, total));
    scores
}

fn mean(values: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|system| values.iter().map(|value| value[system]).sum::<f64>() / values.len().max(1) as f64)
}

fn score_of(measure: &'static str, group: &str, values: &[[f64; 3]], means: [f64; 3]) -> JudgedScore {
    let system = |system: usize| values.iter().map(|value| value[system]).collect::<Vec<_>>();
    let better = usize::from(means[1] > means[0]);
    JudgedScore {
        measure,
        group: group.to_owned(),
        queries: values.len(),
        systems: Mode::ALL.into_iter().map(Mode::name).zip(means).collect(),
        interval: significance::interval(&system(2)),
        difference: significance::difference(&system(2), &system(better)),
    }
}

/// The table for a terminal.
pub fn render(judged: &JudgedScores) -> String {
    let mut text = format!(
        "{:<12} {:<14} {:>7} {:>7} {:>7} {:>7}  {:<13}  {}\n",
        "measure", "group", "queries", "bm25", "vector", "hybrid", "95 % interval", "hybrid - better side"
    );
    for score in &judged.scores {
        let system = |mode: Mode| score.systems.get(mode.name()).copied().unwrap_or_default();
        let [bm25, vector, hybrid] = Mode::ALL.map(system);
        text += &format!(
            "{:<12} {:<14} {:>7} {bm25:>7.3} {vector:>7.3} {hybrid:>7.3}  {:.3} to {:.3}  {:+.3} (p {:.4})\n",
            score.measure, score.group, score.queries, score.interval.low, score.interval.high, score.difference.mean, score.difference.p
        );
    }
    if judged.left_out > 0 {
        text += &format!("{} queries are left out: the bundle does not have their language or repository\n", judged.left_out);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values were printed by the benchmark's own script.
    #[test]
    fn ndcg_of_files_equals_the_reference() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(ndcg_of_files(&["a/b.py", "c.py"], &files(&["c.py"]), 1), 1.0 / 3f64.log2());
        close(ndcg_of_files(&["a/b.py", "xb.py"], &files(&["b.py"]), 1), 1.0);
        close(ndcg_of_files(&["b.py"; 3], &files(&["b.py", "d.py"]), 2), 1.0 / (1.0 + 1.0 / 3f64.log2()));
        close(ndcg_of_files(&["src/b.py"], &files(&["root/src/b.py"]), 1), 1.0);
        close(ndcg_of_files(&[], &files(&["b.py"]), 1), 0.0);
    }

    #[test]
    fn means_are_taken_of_each_system_and_of_groups_where_the_set_asks_for_it() {
        assert_eq!(mean(&[[1.0, 0.0, 0.5], [0.0, 0.5, 0.5]]), [0.5, 0.25, 0.5]);
        assert_eq!(mean(&[]), [0.0; 3]);
    }

    #[test]
    fn several_groups_have_scores_of_their_own_and_one_group_has_not() {
        let of_groups = |names: &[&str], by_group: bool| -> Vec<(String, usize, f64)> {
            let queries: Vec<JudgedQuery> = names
                .iter()
                .map(|group| JudgedQuery {
                    group: (*group).to_owned(),
                    query: bundle::Query::new("q"),
                    relevant: Relevant::UrlEnd("x".into()),
                })
                .collect();
            let scores = groups("MRR", &queries, |index| [[1.0, 0.0, 0.25][index]; 3], by_group);
            scores.into_iter().map(|score| (score.group, score.queries, score.systems["hybrid"])).collect()
        };
        assert_eq!(of_groups(&["go", "go"], false), [("all".to_owned(), 2, 0.5)]);
        let rows = |all: f64| [("go".to_owned(), 2, 0.5), ("php".to_owned(), 1, 0.25), ("all".to_owned(), 3, all)];
        assert_eq!(of_groups(&["go", "go", "php"], false), rows(1.25 / 3.0));
        assert_eq!(of_groups(&["go", "go", "php"], true), rows(0.375), "the mean of the groups");
    }
}
