//! Features of a learned fusion: numbers of a row that the lexical or the vector list contains.
//!
//! Features that differ between the rows of a query determine the order. Numbers of the query itself (its terms, its best cosine) are
//! equal for all its rows: they occur only in products, which let the weights of the lists depend on the query.

use std::collections::HashMap;

use super::{Candidates, union};
use crate::lexical::{Part, TermScores};

/// Names, in the order of the numbers.
pub const FEATURES: [&str; 16] = [
    // BM25 / largest BM25 of the list; BM25 / largest score that the query's terms could add in one field each
    "bm25-of-largest",
    "bm25-of-most",
    // cosine; (cosine - mean of the vector list) / standard deviation / 4
    "cosine",
    "cosine-standard",
    // 1 / (1 + rank / 10) in each list, ranks from 0; 0 for a row that the list lacks
    "bm25-rank",
    "cosine-rank",
    // share of the query's idf that the row has in any field, in its name, in its path, in its code
    "covered",
    "name-covered",
    "path-covered",
    "code-covered",
    // formats 3 and 4: BM25 of the name alone / largest possible score
    "name-of-most",
    // times ln(1 + terms) / 4
    "bm25-of-largest x length",
    "cosine x length",
    "cosine-standard x length",
    // times the best cosine
    "bm25-of-largest x best-cosine",
    "cosine-standard x best-cosine",
];

/// The features in words, for `schema.md` of a bundle.
pub const FEATURES_EXPLAINED: &str = "\
- `bm25-of-largest`, `bm25-of-most`: the row's lexical score by the largest of the list; by the most, the sum over terms of `idf * (k1 + 1)`.
- `cosine`, `cosine-standard`: its cosine; less the mean of the vector list, by the list's standard deviation, by 4.
- `bm25-rank`, `cosine-rank`: `1 / (1 + rank / 10)`, ranks from 0; 0 where the list lacks the row.
- `covered`, `name-covered`, `path-covered`, `code-covered`: the sum of idf of the terms it has in any field searched; in `name`, `class` or
  `qualified`; in `file`; in `signature`, `code`, `comments` or `strings`; each by the sum of idf of the words, and at most 1.5. Compounds
  count in all of them but the first.
- `name-of-most`: the sum of idf of the terms it has in its name, as above, by the most.
- `... x length`: by `ln(1 + terms) / 4`; `... x best-cosine`: by the largest cosine of the list. Terms are the distinct ones that are scored.
";

/// Largest value of a `…-covered` feature: compounds can add more than the words have.
const MOST_COVERED: f64 = 1.5;

/// The features of every row of either list, sorted by row.
pub fn features(candidates: &Candidates<'_>) -> Vec<(u32, [f64; FEATURES.len()])> {
    let ranks = |list: &[(u32, f32)]| -> HashMap<u32, usize> { list.iter().enumerate().map(|(rank, (row, _))| (*row, rank)).collect() };
    let (lexical_ranks, vector_ranks) = (ranks(candidates.lexical), ranks(candidates.vector));
    let best = |list: &[(u32, f32)]| list.first().map_or(0.0, |(_, score)| f64::from(*score));
    let (best_bm25, best_cosine) = (best(candidates.lexical), best(candidates.vector));
    let count = candidates.vector.len().max(1) as f64;
    let mean = candidates.vector.iter().map(|(_, score)| f64::from(*score)).sum::<f64>() / count;
    let deviation = (candidates.vector.iter().map(|(_, score)| (f64::from(*score) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let (max_score, idf) = (f64::from(candidates.stats.max_score), f64::from(candidates.stats.idf));
    let length = (1.0 + candidates.stats.terms as f64).ln() / 4.0;
    let part = |scores: &TermScores, part: Part| ratio(f64::from(scores.parts[part as usize]), idf).min(MOST_COVERED);
    let rank = |ranks: &HashMap<u32, usize>, row: u32| ranks.get(&row).map_or(0.0, |rank| 1.0 / (1.0 + *rank as f64 / 10.0));
    union(candidates)
        .into_iter()
        .map(|row| {
            let scores = (candidates.term_scores)(row);
            let bm25 = f64::from(scores.score);
            let cosine = if candidates.vector.is_empty() { 0.0 } else { f64::from((candidates.cosine)(row)) };
            let (largest, standard) = (ratio(bm25, best_bm25), ratio(cosine - mean, deviation) / 4.0);
            let values = [
                largest,
                ratio(bm25, max_score),
                cosine,
                standard,
                rank(&lexical_ranks, row),
                rank(&vector_ranks, row),
                ratio(f64::from(scores.covered), idf),
                part(&scores, Part::Name),
                part(&scores, Part::Path),
                part(&scores, Part::Code),
                ratio(f64::from(scores.parts[Part::Name as usize]), max_score),
                largest * length,
                cosine * length,
                standard * length,
                largest * best_cosine,
                standard * best_cosine,
            ];
            (row, values)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexical::{QueryStats, TermScores};

    #[test]
    fn every_feature_is_explained() {
        for name in FEATURES {
            let (first, by) = name.split_once(" x ").map_or((name, None), |(first, by)| (first, Some(by)));
            assert!(FEATURES_EXPLAINED.contains(&format!("`{first}`")), "{first}");
            assert!(by.is_none_or(|by| FEATURES_EXPLAINED.contains(&format!("`... x {by}`"))), "{name}");
        }
    }

    #[test]
    fn features_equal_values_computed_by_hand() {
        let term_scores = |row: u32| TermScores { score: [4.0, 2.0, 0.0][row as usize], ..TermScores::default() };
        let cosine = |row: u32| [0.1, 0.5, 0.3][row as usize];
        let stats = QueryStats { terms: 3, idf: 6.0, max_score: 8.0 };
        let (lexical, vector) = ([(0, 4.0), (1, 2.0)], [(1, 0.5), (2, 0.3)]);
        let found = features(&Candidates { lexical: &lexical, vector: &vector, stats, term_scores: &term_scores, cosine: &cosine });
        let of = |row: u32, name: &str| found[row as usize].1[FEATURES.iter().position(|other| *other == name).unwrap()];
        assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(of(1, "bm25-of-largest"), 0.5);
        close(of(0, "bm25-of-most"), 0.5);
        // Mean 0.4 and deviation 0.1 of the vector list; row 0 is not in the list and still has its own cosine.
        close(of(1, "cosine-standard"), 0.25);
        close(of(0, "cosine-standard"), -0.75);
        close(of(2, "bm25-rank"), 0.0);
        close(of(2, "cosine-rank"), 1.0 / 1.1);
        close(of(0, "bm25-of-largest x best-cosine"), 0.5);
        close(of(1, "cosine x length"), 0.5 * 4f64.ln() / 4.0);
    }
}
