//! Hinge losses: the own code must be better than the others by a margin.

use super::row::Row;

/// CodeSearchNet's `cosine` (`model.py` of github/CodeSearchNet):
/// `relu(margin − s_own + max_{j≠own} relu(s_j))`. Without another code whose score is positive, the last term is 0.
pub fn cosine(row: &Row<'_>, margin: f64, gradient: &mut [f64]) -> f64 {
    let mut hardest = None;
    for (j, &score) in row.scores.iter().enumerate() {
        if j != row.own && score > hardest.map_or(0.0, |hardest: usize| row.scores[hardest]) {
            hardest = Some(j);
        }
    }
    let loss = margin - row.scores[row.own] + hardest.map_or(0.0, |hardest| row.scores[hardest]);
    if loss <= 0.0 {
        return 0.0;
    }
    gradient[row.own] = -1.0;
    if let Some(hardest) = hardest {
        gradient[hardest] = 1.0;
    }
    loss
}

/// Minimum of a squared distance, where its gradient is still defined.
const NEAREST: f64 = 1e-8;

/// CodeSearchNet's `triplet` (`model.py` of github/CodeSearchNet), summed over all negatives of the batch:
/// `Σ_{j≠own} relu(margin + d_own − d_j)`, `d = ‖q − c‖₂ = √(2 − 2s)` for unit vectors.
pub fn triplet(row: &Row<'_>, margin: f64, gradient: &mut [f64]) -> f64 {
    let distance = |score: f64| (2.0 - 2.0 * score).max(NEAREST).sqrt();
    // dd/ds = −1/d
    let slope = |score: f64| if 2.0 - 2.0 * score > NEAREST { -1.0 / distance(score) } else { 0.0 };
    let own = row.scores[row.own];
    let mut loss = 0.0;
    for (j, &score) in row.scores.iter().enumerate() {
        let excess = margin + distance(own) - distance(score);
        if j != row.own && excess > 0.0 {
            loss += excess;
            gradient[row.own] += slope(own);
            gradient[j] -= slope(score);
        }
    }
    loss
}
