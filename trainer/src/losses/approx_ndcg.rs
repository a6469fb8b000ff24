//! NDCG with differentiable ranks (Qin et al. 2010, eqs. 9 and 12; `approxNDCG.py` of allegro/allRank).

use super::row::Row;

/// `−Σ_i G_i / log₂(1 + r_i)`, `r_i = 1 + Σ_{j≠i} σ(−α(s_i − s_j))`, `G = (2^g − 1) / maxDCG`, g being the grade. The loss is −1 if the score
/// of the own code is much larger than the others.
pub fn row(row: &Row<'_>, alpha: f64, gradient: &mut [f64]) -> f64 {
    let n = row.scores.len();
    let mut ideal: Vec<f64> = (0..n).map(|place| row.grade(place)).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let gain = |grade: f64| grade.exp2() - 1.0;
    let max_dcg: f64 = ideal.iter().enumerate().map(|(rank, &grade)| gain(grade) / (2.0 + rank as f64).log2()).sum();
    let mut loss = 0.0;
    for i in 0..n {
        let gain = gain(row.grade(i)) / max_dcg.max(1e-10);
        if gain == 0.0 {
            continue;
        }
        let ahead = |j: usize| 1.0 / (1.0 + (alpha * (row.scores[i] - row.scores[j])).exp());
        let rank = 1.0 + (0..n).filter(|&j| j != i).map(ahead).sum::<f64>();
        let discount = (1.0 + rank).log2();
        loss -= gain / discount;
        // d(−G/log₂(1+r))/dr
        let by_rank = gain / (discount * discount * (1.0 + rank) * std::f64::consts::LN_2);
        for j in (0..n).filter(|&j| j != i) {
            let q = ahead(j);
            let slope = by_rank * alpha * q * (1.0 - q);
            gradient[i] -= slope;
            gradient[j] += slope;
        }
    }
    loss
}
