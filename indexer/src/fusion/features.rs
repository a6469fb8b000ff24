//! What a learnt fusion looks at: numbers of a row that either side found.
//!
//! Those that compare the rows of a query tell the order; those of the query alone (how many terms, how good the best is) are the
//! same for all its rows and stand only in products, which let the weights of the two sides depend on the query.

use std::collections::HashMap;

use super::{Sides, union};

/// Names, in the order of the numbers.
pub const FEATURES: [&str; 13] = [
    // BM25 by the largest of the query; by the most that the query's terms could add in one field each
    "bm25-of-largest",
    "bm25-of-most",
    // the cosine, and above the mean of the vector list in standard deviations, / 4
    "cosine",
    "cosine-standard",
    // 1 / (1 + rank / 10) on either side, ranks from 0; 0 for a row that is not in the list
    "bm25-rank",
    "cosine-rank",
    // share of the query's idf that the row has in any field; BM25 of the name alone, by the most
    "covered",
    "name-of-most",
    // by ln(1 + terms) / 4
    "bm25-of-largest x length",
    "cosine x length",
    "cosine-standard x length",
    // by the best cosine
    "bm25-of-largest x best-cosine",
    "cosine-standard x best-cosine",
];

/// What they are, for the page of a bundle.
pub const EXPLAINED: &str = "\
- `bm25-of-largest`, `bm25-of-most`: the row's BM25 by the largest of the list; by the sum over terms of the largest `boost * idf * (k1 + 1)`
  of a field that has the term, `idf = ln(1 + (N - n + 0.5) / (n + 0.5))`.
- `cosine`, `cosine-standard`: its cosine; less the mean of the vector list, by the list's standard deviation, by 4.
- `bm25-rank`, `cosine-rank`: `1 / (1 + rank / 10)`, ranks from 0; 0 where the list lacks the row.
- `covered`: the sum of idf of the terms it has in any field searched, by that of all terms; a term's idf is that of the field where most
  rows have it.
- `name-of-most`: BM25 of the name alone, boost included, by the most as above.
- `... x length`: by `ln(1 + terms) / 4`; `... x best-cosine`: by the largest cosine of the list. Terms are the distinct ones that are scored.
";

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
    let (most, idf) = (f64::from(sides.weights.most), f64::from(sides.weights.idf));
    let length = (1.0 + sides.weights.terms as f64).ln() / 4.0;
    let rank = |ranks: &HashMap<u32, usize>, row: u32| ranks.get(&row).map_or(0.0, |rank| 1.0 / (1.0 + *rank as f64 / 10.0));
    union(sides)
        .into_iter()
        .map(|row| {
            let evidence = (sides.evidence)(row);
            let bm25 = f64::from(evidence.score());
            let cosine = if sides.vector.is_empty() { 0.0 } else { f64::from((sides.cosine)(row)) };
            let (largest, standard) = (by(bm25, best_bm25), by(cosine - mean, deviation) / 4.0);
            let values = [
                largest,
                by(bm25, most),
                cosine,
                standard,
                rank(&by_lexical, row),
                rank(&by_vector, row),
                by(f64::from(evidence.covered), idf),
                by(f64::from(evidence.fields[0]), most),
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
    use crate::lexical::{Evidence, Weights};

    #[test]
    fn every_feature_is_explained() {
        for name in FEATURES {
            let (first, by) = name.split_once(" x ").map_or((name, None), |(first, by)| (first, Some(by)));
            assert!(EXPLAINED.contains(&format!("`{first}`")), "{first}");
            assert!(by.is_none_or(|by| EXPLAINED.contains(&format!("`... x {by}`"))), "{name}");
        }
    }

    #[test]
    fn by_hand() {
        let evidence = |row: u32| Evidence::of([4.0, 2.0, 0.0][row as usize]);
        let cosine = |row: u32| [0.1, 0.5, 0.3][row as usize];
        let weights = Weights { terms: 3, idf: 6.0, most: 8.0 };
        let (lexical, vector) = ([(0, 4.0), (1, 2.0)], [(1, 0.5), (2, 0.3)]);
        let found = features(&Sides { lexical: &lexical, vector: &vector, weights, evidence: &evidence, cosine: &cosine });
        let of = |row: u32, name: &str| found[row as usize].1[FEATURES.iter().position(|own| *own == name).unwrap()];
        assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(of(1, "bm25-of-largest"), 0.5);
        close(of(0, "bm25-of-most"), 0.5);
        // Mean .4, deviation .1 over the vector list; row 0 is not in it, and has its own cosine all the same.
        close(of(1, "cosine-standard"), 0.25);
        close(of(0, "cosine-standard"), -0.75);
        close(of(2, "bm25-rank"), 0.0);
        close(of(2, "cosine-rank"), 1.0 / 1.1);
        close(of(0, "bm25-of-largest x best-cosine"), 0.5);
        close(of(1, "cosine x length"), 0.5 * 4f64.ln() / 4.0);
    }
}
