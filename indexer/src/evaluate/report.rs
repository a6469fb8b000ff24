//! The report of the stage `evaluate`, and its table for a terminal.

use std::collections::BTreeMap;

use bundle::Mode;
#[cfg(test)]
use ledger::MRR_AT_CORPUS;
use ledger::{Report, Rows};
use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::significance::Interval;
use super::{
    significance::Difference,
    table::{Comparison, Row},
};

/// Report of the stage: the scores.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluateReport {
    /// Functions of the split.
    pub candidates: u64,
    /// Queries, judged ones included.
    pub queries: u64,
    pub rows: Vec<Row>,
    /// Hybrid search compared with lexical and with vector search.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// Number of answers of judged queries that are not in the bundle, by file of judgments.
    #[serde(default)]
    pub unknown_answers: BTreeMap<String, u64>,
    /// Share of the ten nearest functions of the whole bundle that its vector search finds.
    pub recall_at_10: f64,
}

impl Report for EvaluateReport {
    fn rows(&self) -> Rows {
        // An evaluation without queries is a result too.
        Rows { read: self.queries, written: self.queries.max(1), rejected: 0 }
    }
}

/// The table for a terminal.
pub fn render(report: &EvaluateReport) -> String {
    if report.queries == 0 {
        return "no queries: nothing was scored\n".to_owned();
    }
    let mut text = format!("{:<22} {:<12} {:>8} {:>8} {:>8} {:>8}\n", "protocol", "language", "queries", "bm25", "vector", "hybrid");
    for row in report.rows.chunks(Mode::ALL.len()) {
        text += &format!("{:<22} {:<12} {:>8}", row[0].protocol, row[0].language, row[0].queries);
        row.iter().for_each(|of_system| text += &format!(" {:>8.4}", of_system.score));
        text.push('\n');
    }
    for of in &report.comparisons {
        let Difference { mean, p, wins, losses } = of.difference;
        text += &format!(
            "{} {}: {} minus {} {mean:+.4}, p {p:.4} ({wins} queries better, {losses} worse)\n",
            of.protocol, of.language, of.first, of.second
        );
    }
    for (name, unknown) in report.unknown_answers.iter().filter(|(_, unknown)| **unknown > 0) {
        text += &format!("{name}: {unknown} relevant functions are not in the bundle and count as not found\n");
    }
    text + &format!("recall@10 of the vector search, compared with exact search: {:.4}\n", report.recall_at_10)
}

/// A small report.
#[cfg(test)]
pub fn example_report() -> EvaluateReport {
    let interval = Interval { low: 0.25, high: 0.5 };
    let row = |system: &str, score: f64| Row {
        protocol: MRR_AT_CORPUS.to_owned(),
        language: "a<b".to_owned(),
        system: system.to_owned(),
        queries: 7,
        score,
        interval,
    };
    let difference = Difference { mean: -0.01234, p: 0.5, wins: 2, losses: 3 };
    let comparison = Comparison {
        protocol: MRR_AT_CORPUS.to_owned(),
        language: "all".to_owned(),
        first: "hybrid".to_owned(),
        second: "bm25".to_owned(),
        difference,
    };
    EvaluateReport {
        candidates: 9,
        queries: 7,
        rows: vec![row("bm25", 0.123_45), row("hybrid", 1.0)],
        comparisons: vec![comparison],
        unknown_answers: BTreeMap::new(),
        recall_at_10: 0.975,
    }
}
