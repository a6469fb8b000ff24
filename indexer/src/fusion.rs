//! Lexical and vector scores to one score. Both lists are best first; the formulas need nothing but
//! the lists, so any reader can repeat them (`schema.md` of a bundle states them).

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize};

/// How two ranked lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Fusion {
    /// Both scaled to 0..1 over their own candidates; `(1 − weight)·lexical + weight·vector`.
    MinMax { weight: f64 },
    /// `1/(k + rank)` summed (Cormack, Clarke & Büttcher, SIGIR 2009); the usual k is 60.
    Rrf { k: f64 },
}

impl fmt::Display for Fusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax { weight } => write!(f, "min-max, weight of the vector side {weight}"),
            Self::Rrf { k } => write!(f, "reciprocal ranks, k {k}"),
        }
    }
}

/// A row and its score.
pub type Scored = (u32, f32);

impl Fusion {
    /// Rows of either list with their fused score, best first; equal scores by row.
    pub fn fuse(self, lexical: &[Scored], vector: &[Scored]) -> Vec<(u32, f64)> {
        let mut fused: HashMap<u32, f64> = HashMap::with_capacity(lexical.len() + vector.len());
        match self {
            Self::MinMax { weight } => {
                for (list, share) in [(lexical, 1.0 - weight), (vector, weight)] {
                    let (low, high) = range(list);
                    for &(row, score) in list {
                        let scaled = if high > low { (f64::from(score) - low) / (high - low) } else { 1.0 };
                        *fused.entry(row).or_default() += share * scaled;
                    }
                }
            }
            Self::Rrf { k } => {
                for list in [lexical, vector] {
                    for (index, &(row, _)) in list.iter().enumerate() {
                        *fused.entry(row).or_default() += 1.0 / (k + index as f64 + 1.0);
                    }
                }
            }
        }
        let mut fused: Vec<(u32, f64)> = fused.into_iter().collect();
        fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        fused
    }
}

fn range(list: &[Scored]) -> (f64, f64) {
    list.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(_, score)| (low.min(f64::from(score)), high.max(f64::from(score))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_max_by_hand() {
        let fused = Fusion::MinMax { weight: 0.25 }.fuse(&[(7, 12.0), (3, 6.0), (5, 4.0)], &[(3, 0.9), (8, 0.1)]);
        let scores: Vec<(u32, f64)> = fused.into_iter().map(|(row, score)| (row, (score * 1e6).round() / 1e6)).collect();
        assert_eq!(scores, [(7, 0.75), (3, 0.25 * 0.75 + 0.25), (5, 0.0), (8, 0.0)]);
    }

    #[test]
    fn reciprocal_ranks_by_hand_and_ties_by_row() {
        let fused = Fusion::Rrf { k: 60.0 }.fuse(&[(9, 5.0), (2, 4.0)], &[(2, 0.5), (9, 0.4)]);
        assert_eq!(fused.iter().map(|&(row, _)| row).collect::<Vec<_>>(), [2, 9]);
        assert!((fused[0].1 - (1.0 / 61.0 + 1.0 / 62.0)).abs() < 1e-12);
    }

    #[test]
    fn one_empty_side_leaves_the_order_of_the_other() {
        let list = [(4, 3.0), (1, 2.0), (6, 1.0)];
        for fusion in [Fusion::MinMax { weight: 0.5 }, Fusion::Rrf { k: 60.0 }] {
            assert_eq!(fusion.fuse(&list, &[]).iter().map(|&(row, _)| row).collect::<Vec<_>>(), [4, 1, 6]);
        }
    }
}
