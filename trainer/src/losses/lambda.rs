//! The LambdaLoss framework (Wang et al. 2018; `lambdaLoss.py` of allegro/allRank, which the predecessor used).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::row::Row;

/// Weight of a pair of codes with ranks a and b by their scores, counted from 1. Gains `G = (2^g − 1) / maxDCG` of grades g, discounts
/// `D_a = log₂(1 + a)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// `G_a / D_a`, for all pairs
    #[serde(rename = "ndcg-1")]
    Ndcg1,
    /// `δ_ab |G_a − G_b|`, `δ_ab = |1/D_{|a−b|} − 1/D_{|a−b|+1}|`
    #[serde(rename = "ndcg-2")]
    Ndcg2,
    /// `μ · ndcg-2 + lambda-rank`
    #[serde(rename = "ndcg-2pp")]
    Ndcg2Pp,
    /// `|1/D_a − 1/D_b| |G_a − G_b|` (Burges et al. 2006)
    LambdaRank,
    /// 1 (Burges et al. 2005)
    RankNet,
    /// `|g_a − g_b|`
    RankNetGtDiff,
    /// `|g_a² − g_b²|`
    RankNetGtDiffPow,
}

const EPSILON: f64 = 1e-10;

/// `−Σ_{(a,b)} log₂ max(max(σ(sigma·(s_a − s_b)), ε)^w_ab, ε)` over the pairs of the first k ranks with `g_a > g_b`
/// (all pairs for [`Scheme::Ndcg1`]). Ranks are by descending score; equal scores are in the order of the batch. Weights depend on ranks and
/// grades only and have no gradient.
pub fn row(row: &Row<'_>, scheme: Scheme, k: Option<usize>, sigma: f64, mu: f64, gradient: &mut [f64]) -> f64 {
    let n = row.scores.len();
    let k = k.unwrap_or(n).min(n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| row.scores[b].total_cmp(&row.scores[a]));
    let grades: Vec<f64> = order.iter().map(|&place| row.grade(place)).collect();
    let mut ideal = grades.clone();
    ideal.sort_by(|a, b| b.total_cmp(a));
    // D of rank a + 1, counted from 0.
    let discount = |rank: usize| (2.0 + rank as f64).log2();
    let gain = |grade: f64| grade.exp2() - 1.0;
    let max_dcg = ideal[..k].iter().enumerate().map(|(rank, &grade)| gain(grade) / discount(rank)).sum::<f64>().max(EPSILON);
    let gains: Vec<f64> = grades.iter().map(|&grade| gain(grade) / max_dcg).collect();
    let ndcg2 = |a: usize, b: usize| {
        let apart = a.abs_diff(b);
        let delta = if apart == 0 { 0.0 } else { (1.0 / discount(apart - 1) - 1.0 / discount(apart)).abs() };
        delta * (gains[a] - gains[b]).abs()
    };
    let lambda_rank = |a: usize, b: usize| (1.0 / discount(a) - 1.0 / discount(b)).abs() * (gains[a] - gains[b]).abs();
    let mut loss = 0.0;
    for a in 0..k {
        if gains[a] == 0.0 {
            // No grade is below 0, and a gain of 0 gives a weight of 0.
            continue;
        }
        for b in 0..k {
            if scheme != Scheme::Ndcg1 && grades[a] <= grades[b] {
                continue;
            }
            let weight = match scheme {
                Scheme::Ndcg1 => gains[a] / discount(a),
                Scheme::Ndcg2 => ndcg2(a, b),
                Scheme::Ndcg2Pp => mu * ndcg2(a, b) + lambda_rank(a, b),
                Scheme::LambdaRank => lambda_rank(a, b),
                Scheme::RankNet => 1.0,
                Scheme::RankNetGtDiff => (grades[a] - grades[b]).abs(),
                Scheme::RankNetGtDiffPow => (grades[a].powi(2) - grades[b].powi(2)).abs(),
            };
            let likely = 1.0 / (1.0 + (-sigma * (row.scores[order[a]] - row.scores[order[b]])).exp());
            let log = weight * likely.max(EPSILON).log2();
            loss -= log.max(EPSILON.log2());
            if likely > EPSILON && log > EPSILON.log2() {
                let slope = weight * sigma * (1.0 - likely) / std::f64::consts::LN_2;
                gradient[order[a]] -= slope;
                gradient[order[b]] += slope;
            }
        }
    }
    loss
}
