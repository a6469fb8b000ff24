//! Minimises a function of many variables: L-BFGS (Nocedal 1980) with a backtracking line search.

/// Largest number of steps; the search ends earlier where the value no longer falls.
const STEPS: usize = 2000;
/// Previous steps that a direction is computed from.
const MEMORY: usize = 10;

/// A minimum that was found.
pub struct Minimum {
    pub at: Vec<f64>,
    /// Value at the start.
    pub before: f64,
    /// Value at the minimum.
    pub after: f64,
}

/// Minimises `function`, which returns its value and its gradient, from `start`.
pub fn minimise(start: Vec<f64>, function: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> Minimum {
    let mut at = start;
    let (before, mut gradient) = function(&at);
    let mut value = before;
    let mut memory: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    for _ in 0..STEPS {
        let direction = direction_of(&gradient, &memory);
        let slope: f64 = dot(&direction, &gradient);
        let tried = std::iter::successors(Some(1.0), |length| Some(length / 2.0)).take(40).find_map(|length| {
            let mut next = at.clone();
            next.iter_mut().zip(&direction).for_each(|(x, d)| *x += length * d);
            let (found, own) = function(&next);
            (found <= value + 1e-4 * length * slope).then_some((next, found, own))
        });
        let Some((next, found, own)) = tried else { break };
        let differences = |new: &[f64], old: &[f64]| new.iter().zip(old).map(|(new, old)| new - old).collect();
        memory.push((differences(&next, &at), differences(&own, &gradient)));
        if memory.len() > MEMORY {
            memory.remove(0);
        }
        let gained = value - found;
        (at, value, gradient) = (next, found, own);
        if gained < 1e-9 {
            break;
        }
    }
    Minimum { at, before, after: value }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The search direction.
fn direction_of(gradient: &[f64], memory: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let curved: Vec<_> = memory.iter().filter(|(s, y)| dot(s, y) > 1e-12).collect();
    let mut alphas = Vec::with_capacity(curved.len());
    for (s, y) in curved.iter().rev() {
        let alpha = dot(s, &direction) / dot(s, y);
        direction.iter_mut().zip(y).for_each(|(d, y)| *d -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((s, y)) = curved.last() {
        let scale = dot(s, y) / dot(y, y);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((s, y), alpha) in curved.iter().zip(alphas.iter().rev()) {
        let beta = dot(y, &direction) / dot(s, y);
        direction.iter_mut().zip(s).for_each(|(d, s)| *d += s * (alpha - beta));
    }
    direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_a_curved_valley_is_found() {
        // Rosenbrock's function: minimum 0 at (1, 1).
        let rosenbrock = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        };
        let found = minimise(vec![-1.2, 1.0], rosenbrock);
        assert!(found.before > 20.0 && found.after < 1e-6, "{} {}", found.before, found.after);
        assert!(found.at.iter().all(|x| (x - 1.0).abs() < 1e-2), "{:?}", found.at);
    }
}
