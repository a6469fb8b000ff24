//! What a learnt fusion looks at: numbers of a row that both sides found or either.
//!
//! Those that compare rows of one query (`-of-…`, ranks) tell the order; those of the query alone (how many terms, how good the
//! best is) cancel within a query and stand only in products, which let the weights of the two sides depend on the query.

use std::collections::HashMap;

use super::{Sides, union};

/// Names, in the order of the numbers.
pub const FEATURES: [&str; 17] = [
    // BM25 by the largest of the query; by the most that the query's terms could add in one field each
    "bm25-of-largest",
    "bm25-of-most",
    // the cosine; above the mean of the vector list in standard deviations, / 4; below the largest
    "cosine",
    "cosine-standard",
    "cosine-of-largest",
    // 1 / (1 + rank / 10) by either side, ranks from 0; 0 for a row that is not in the list
    "bm25-rank",
    "cosine-rank",
    // share of the query's idf that the row has anywhere, and in its name
    "covered",
    "named",
    // BM25 of the name alone, and of the documentation, by the most
    "name-of-most",
    "documentation-of-most",
    // the above by ln(1 + terms) / 4
    "bm25-of-largest x length",
    "cosine x length",
    "cosine-standard x length",
    // and by how good the best of the lists is
    "bm25-of-largest x best-bm25",
    "bm25-of-largest x best-cosine",
    "cosine-standard x best-cosine",
];

/// The numbers of every row of either list, by row.
pub fn features(sides: &Sides<'_>) -> Vec<(u32, [f64; FEATURES.len()])> {
    let ranks = |list: &[(u32, f32)]| -> HashMap<u32, usize> { list.iter().enumerate().map(|(rank, (row, _))| (*row, rank)).collect() };
    let (by_lexical, by_vector) = (ranks(sides.lexical), ranks(sides.vector));
    let best = |list: &[(u32, f32)]| list.first().map_or(0.0, |(_, score)| f64::from(*score));
    let (best_bm25, best_cosine) = (best(sides.lexical), best(sides.vector));
    let count = sides.vector.len().max(1) as f64;
    let mean = sides.vector.iter().map(|(_, score)| f64::from(*score)).sum::<f64>() / count;
    let deviation = (sides.vector.iter().map(|(_, score)| (f64::from(*score) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let by = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let most = f64::from(sides.weights.most);
    let idf = f64::from(sides.weights.idf);
    let length = (1.0 + sides.weights.terms as f64).ln() / 4.0;
    let best_share = by(best_bm25, most);
    let rank = |ranks: &HashMap<u32, usize>, row: u32| ranks.get(&row).map_or(0.0, |rank| 1.0 / (1.0 + *rank as f64 / 10.0));
    union(sides)
        .into_iter()
        .map(|row| {
            let evidence = (sides.evidence)(row);
            let bm25 = f64::from(evidence.score());
            let cosine = if sides.vector.is_empty() { 0.0 } else { f64::from((sides.cosine)(row)) };
            let largest = by(bm25, best_bm25);
            let standard = by(cosine - mean, deviation) / 4.0;
            let [name, _, _, _, documentation] = evidence.fields.map(f64::from);
            let values = [
                largest,
                by(bm25, most),
                cosine,
                standard,
                cosine - best_cosine,
                rank(&by_lexical, row),
                rank(&by_vector, row),
                by(f64::from(evidence.covered), idf),
                by(f64::from(evidence.named), idf),
                by(name, most),
                by(documentation, most),
                largest * length,
                cosine * length,
                standard * length,
                largest * best_share,
                largest * best_cosine,
                standard * best_cosine,
            ];
            (row, values)
        })
        .collect()
}
