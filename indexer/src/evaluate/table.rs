//! The table of scores: mean reciprocal ranks with their intervals, and hybrid against either side alone.

use ledger::Mrr;
use serde::{Deserialize, Serialize};

use super::{
    Ranked,
    ranks::{mean_reciprocal, reciprocal},
    significance::{Difference, Interval, difference, interval},
};
use crate::bundle::Mode;

/// A line of the score table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub protocol: String,
    /// Or the name of a file of judgments.
    pub language: String,
    pub system: String,
    pub queries: u64,
    pub score: f64,
    /// Holds the score with a confidence of 95 %.
    pub interval: Interval,
}

/// Two systems on the same queries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    pub protocol: String,
    pub language: String,
    pub first: String,
    pub second: String,
    pub difference: Difference,
}

#[derive(Debug, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub comparisons: Vec<Comparison>,
}

/// Stands for all languages together.
const ALL: &str = "all";

impl Table {
    /// Scores of all queries, and of each language where there are several; a query without ranks is not in the protocol.
    pub fn add(&mut self, protocol: &str, languages: &[&str], ranks: &[Option<Ranked>]) {
        let mut names = languages.to_vec();
        names.sort_unstable();
        names.dedup();
        let names = if names.len() > 1 { [vec![ALL], names].concat() } else { vec![ALL] };
        for name in names {
            let own: Vec<Ranked> = languages
                .iter()
                .zip(ranks)
                .filter(|(language, _)| name == ALL || **language == name)
                .filter_map(|(_, ranks)| *ranks)
                .collect();
            self.score(protocol, name, &own);
            if name == ALL {
                self.compare(protocol, name, &own);
            }
        }
    }

    /// Scores of judged queries, among the whole bundle.
    pub fn add_judged(&mut self, name: &str, ranks: &[Ranked]) {
        self.score("mrr@corpus", name, ranks);
        self.compare("mrr@corpus", name, ranks);
    }

    fn score(&mut self, protocol: &str, name: &str, ranks: &[Ranked]) {
        if ranks.is_empty() {
            return;
        }
        for (place, mode) in Mode::ALL.into_iter().enumerate() {
            let own: Vec<Option<usize>> = ranks.iter().map(|ranked| ranked[place]).collect();
            let score: Mrr = mean_reciprocal(&own);
            self.rows.push(Row {
                protocol: protocol.to_owned(),
                language: name.to_owned(),
                system: mode.name().to_owned(),
                queries: own.len() as u64,
                score: score.into(),
                interval: interval(&values(ranks, place)),
            });
        }
    }

    fn compare(&mut self, protocol: &str, name: &str, ranks: &[Ranked]) {
        let hybrid = Mode::ALL.len() - 1;
        for (place, mode) in Mode::ALL.into_iter().enumerate().filter(|(place, _)| *place != hybrid && !ranks.is_empty()) {
            self.comparisons.push(Comparison {
                protocol: protocol.to_owned(),
                language: name.to_owned(),
                first: Mode::ALL[hybrid].name().to_owned(),
                second: mode.name().to_owned(),
                difference: difference(&values(ranks, hybrid), &values(ranks, place)),
            });
        }
    }
}

/// Reciprocal ranks of one system.
fn values(ranks: &[Ranked], place: usize) -> Vec<f64> {
    ranks.iter().map(|ranked| reciprocal(ranked[place])).collect()
}

/// The table for a terminal.
pub fn render(report: &super::EvaluateReport) -> String {
    let mut text = format!("{:<22} {:<12} {:>8} {:>8} {:>8} {:>8}\n", "protocol", "language", "queries", "bm25", "vector", "hybrid");
    for row in report.rows.chunks(Mode::ALL.len()) {
        text += &format!("{:<22} {:<12} {:>8}", row[0].protocol, row[0].language, row[0].queries);
        row.iter().for_each(|system| text += &format!(" {:>8.4}", system.score));
        text.push('\n');
    }
    for of in &report.comparisons {
        let Difference { mean, p, wins, losses } = of.difference;
        text += &format!(
            "{} {}: {} less {} {mean:+.4}, p {p:.4} ({wins} queries better, {losses} worse)\n",
            of.protocol, of.language, of.first, of.second
        );
    }
    for (name, unknown) in report.unknown_answers.iter().filter(|(_, unknown)| **unknown > 0) {
        text += &format!("{name}: {unknown} answers are not in the bundle and count as not found\n");
    }
    text + &format!("recall@10 of the vector search against an exact one: {:.4}\n", report.recall_at_10)
}
