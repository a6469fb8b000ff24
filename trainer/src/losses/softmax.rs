//! Losses of the distribution p = softmax(s) over the codes of a row.

use super::row::Row;

/// log p of a row.
fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let log_sum = most + scores.iter().map(|score| (score - most).exp()).sum::<f64>().ln();
    scores.iter().map(|score| score - log_sum).collect()
}

/// `−Σ_j t_j log p_j` with `dL/ds_j = p_j − t_j` for targets whose sum is 1.
fn cross_entropy_to(scores: &[f64], target: impl Fn(usize) -> f64, gradient: &mut [f64]) -> f64 {
    let mut loss = 0.0;
    for (j, log_p) in log_softmax(scores).into_iter().enumerate() {
        let target = target(j);
        if target != 0.0 {
            loss -= target * log_p;
        }
        gradient[j] = log_p.exp() - target;
    }
    loss
}

/// Softmax cross-entropy with the batch's other codes as negatives (InfoNCE; van den Oord et al. 2018, eq. 4):
/// `−Σ_j t_j log p_j`; t is 1 at the own code, or the grades divided by their sum.
pub fn cross_entropy(row: &Row<'_>, gradient: &mut [f64]) -> f64 {
    let total: f64 = (0..row.scores.len()).map(|j| row.grade(j)).sum();
    cross_entropy_to(row.scores, |j| row.grade(j) / total, gradient)
}

/// The predecessor's `softmax_cross_entropy` (`losses.py` of mandubian/codenets, after `model.py` of
/// github/CodeSearchNet): `relu(margin − log p_own + relu(max_{j≠own} log p_j))`. No logarithm of a probability is
/// above 0, so that the inner relu is 0 and the loss is cross-entropy plus the margin.
pub fn margin(row: &Row<'_>, margin: f64, gradient: &mut [f64]) -> f64 {
    margin + cross_entropy_to(row.scores, |j| f64::from(u8::from(j == row.own)), gradient)
}

/// Cross-entropy mixed with cross-entropy to the distribution of a teacher over the batch (Hinton et al. 2015, on similarities):
/// `(1−w)·CE + w·(−Σ_j t_j log p_j)`, `t = softmax(teacher cosine / temperature)`. The grades are the teacher's cosines.
/// Without grades, as on the validation split, the loss is cross-entropy.
pub fn distillation(row: &Row<'_>, weight: f64, temperature: f64, gradient: &mut [f64]) -> f64 {
    if row.grades.is_none() {
        return cross_entropy(row, gradient);
    }
    let teacher: Vec<f64> = (0..row.scores.len()).map(|j| row.grade(j) / temperature).collect();
    let teacher = log_softmax(&teacher);
    cross_entropy_to(row.scores, |j| (1.0 - weight) * f64::from(u8::from(j == row.own)) + weight * teacher[j].exp(), gradient)
}
