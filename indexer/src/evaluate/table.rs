//! The table of scores: mean reciprocal ranks with confidence intervals, and hybrid search compared with lexical and vector search.

use std::collections::BTreeSet;

use bundle::Mode;
use ledger::{ALL_LANGUAGES, MRR_AT_CORPUS, Mrr};
use serde::{Deserialize, Serialize};

use super::{
    ranks::{Ranks, mean_reciprocal, reciprocal},
    significance::{Difference, Interval, difference, interval},
};

/// A line of the score table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub protocol: String,
    /// Language, `all`, or the name of a set of judged queries.
    pub language: String,
    pub system: String,
    pub queries: u64,
    pub score: f64,
    /// 95 % confidence interval of the score.
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

/// Rows and comparisons as they are collected.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub rows: Vec<Row>,
    pub comparisons: Vec<Comparison>,
}

impl Table {
    /// Adds scores of all queries, and of each language where there are several. A query without ranks does not belong to the protocol.
    pub fn add(&mut self, protocol: &str, languages: &[&str], ranks: &[Option<Ranks>]) {
        let mut names = languages.to_vec();
        names.sort_unstable();
        names.dedup();
        let names = if names.len() > 1 { [vec![ALL_LANGUAGES], names].concat() } else { vec![ALL_LANGUAGES] };
        for name in names {
            let selected: Vec<Ranks> = languages
                .iter()
                .zip(ranks)
                .filter(|(language, _)| name == ALL_LANGUAGES || **language == name)
                .filter_map(|(_, ranks)| *ranks)
                .collect();
            self.score(protocol, name, &selected);
            if name == ALL_LANGUAGES {
                self.compare(protocol, name, &selected);
            }
        }
    }

    /// Adds scores of queries in batches: of all queries in batches of all languages, of a language in batches of that language only
    /// (CodeSearchNet filters by language first). A language without whole batches has no score.
    pub fn add_batches(&mut self, protocol: &str, languages: &[&str], mixed: &[Option<Ranks>], of_language: &[Option<Ranks>]) {
        let all: Vec<Ranks> = mixed.iter().filter_map(|ranks| *ranks).collect();
        self.score(protocol, ALL_LANGUAGES, &all);
        self.compare(protocol, ALL_LANGUAGES, &all);
        let names: BTreeSet<&str> = languages.iter().copied().collect();
        for name in names.iter().filter(|_| names.len() > 1) {
            let own = languages.iter().zip(of_language).filter(|(language, _)| *language == name);
            self.score(protocol, name, &own.filter_map(|(_, ranks)| *ranks).collect::<Vec<_>>());
        }
    }

    /// Adds scores of judged queries.
    pub fn add_judged(&mut self, name: &str, ranks: &[Ranks]) {
        self.score(MRR_AT_CORPUS, name, ranks);
        self.compare(MRR_AT_CORPUS, name, ranks);
    }

    fn score(&mut self, protocol: &str, name: &str, ranks: &[Ranks]) {
        if ranks.is_empty() {
            return;
        }
        for (system, mode) in Mode::ALL.into_iter().enumerate() {
            let of_system: Vec<Option<usize>> = ranks.iter().map(|ranks| ranks[system]).collect();
            let score: Mrr = mean_reciprocal(&of_system);
            self.rows.push(Row {
                protocol: protocol.to_owned(),
                language: name.to_owned(),
                system: mode.name().to_owned(),
                queries: of_system.len() as u64,
                score: score.into(),
                interval: interval(&reciprocals(ranks, system)),
            });
        }
    }

    fn compare(&mut self, protocol: &str, name: &str, ranks: &[Ranks]) {
        let hybrid = Mode::ALL.len() - 1;
        for (system, mode) in Mode::ALL.into_iter().enumerate().filter(|(system, _)| *system != hybrid && !ranks.is_empty()) {
            self.comparisons.push(Comparison {
                protocol: protocol.to_owned(),
                language: name.to_owned(),
                first: Mode::ALL[hybrid].name().to_owned(),
                second: mode.name().to_owned(),
                difference: difference(&reciprocals(ranks, hybrid), &reciprocals(ranks, system)),
            });
        }
    }
}

/// Reciprocal ranks of one system.
fn reciprocals(ranks: &[Ranks], system: usize) -> Vec<f64> {
    ranks.iter().map(|ranks| reciprocal(ranks[system])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systems(comparisons: &[Comparison]) -> Vec<(&str, &str)> {
        comparisons.iter().map(|one| (one.first.as_str(), one.second.as_str())).collect()
    }

    #[test]
    fn hybrid_search_is_compared_with_each_of_its_parts() {
        let mut table = Table::default();
        table.add(MRR_AT_CORPUS, &["go", "go"], &[Some([Some(1), None, Some(1)]), Some([Some(2), Some(4), Some(1)])]);
        assert_eq!(systems(&table.comparisons), [("hybrid", "bm25"), ("hybrid", "vector")]);
        let scores: Vec<(&str, f64)> = table.rows.iter().map(|row| (row.language.as_str(), row.score)).collect();
        assert_eq!(scores, [("all", 0.75), ("all", 0.125), ("all", 1.0)], "one language has no scores of its own");
    }

    #[test]
    fn every_one_of_several_languages_has_its_scores() {
        let mut table = Table::default();
        table.add(MRR_AT_CORPUS, &["go", "php"], &[Some([Some(1), None, Some(1)]), Some([Some(2), Some(4), Some(1)])]);
        let bm25 = table.rows.iter().filter(|row| row.system == "bm25");
        let scores: Vec<(&str, f64)> = bm25.map(|row| (row.language.as_str(), row.score)).collect();
        assert_eq!(scores, [("all", 0.75), ("go", 1.0), ("php", 0.5)]);
        assert_eq!(table.comparisons.len(), 2, "of all languages only");
    }

    #[test]
    fn a_language_is_scored_in_its_own_batches() {
        let mut table = Table::default();
        let mixed = [Some([Some(4); 3]), Some([Some(4); 3]), Some([Some(4); 3])];
        let of_language = [Some([Some(1); 3]), Some([Some(2); 3]), None];
        table.add_batches("mrr@1000", &["go", "php", "php"], &mixed, &of_language);
        let bm25 = table.rows.iter().filter(|row| row.system == "bm25");
        let scores: Vec<(&str, u64, f64)> = bm25.map(|row| (row.language.as_str(), row.queries, row.score)).collect();
        assert_eq!(scores, [("all", 3, 0.25), ("go", 1, 1.0), ("php", 1, 0.5)]);
    }
}
