//! Rows and their scores, best first.

/// A row and its score.
pub type Scored = (u32, f32);

/// Orders by falling score, then by row.
pub fn best_first(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Collects the best `limit` rows. Rows are offered in ascending order, each with a value of the caller.
pub struct Best<T = ()> {
    limit: usize,
    /// Up to twice `limit`; the worse half is dropped when it is full.
    rows: Vec<(Scored, T)>,
    threshold: f32,
}

impl<T> Best<T> {
    /// Collects `limit` rows.
    pub fn new(limit: usize) -> Self {
        Self { limit, rows: Vec::with_capacity(2 * limit), threshold: f32::NEG_INFINITY }
    }

    /// A row that does not score more than this is not among the best.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Offers a row, greater than every row before.
    pub fn offer(&mut self, scored: Scored, value: T) {
        // Of equal scores the smaller row is better, and it was offered before.
        if self.limit > 0 && scored.1 > self.threshold {
            self.rows.push((scored, value));
            if self.rows.len() == 2 * self.limit {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if self.rows.len() > self.limit {
            self.rows.select_nth_unstable_by(self.limit - 1, |a, b| best_first(&a.0, &b.0));
            self.rows.truncate(self.limit);
            self.threshold = self.rows[self.limit - 1].0.1;
        }
    }

    /// The best rows with their values, in no order.
    pub fn into_rows(mut self) -> Vec<(Scored, T)> {
        self.shrink();
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rows_equal_the_head_of_a_sort_also_with_ties() {
        for (count, limit) in [(0, 3), (2, 3), (3, 3), (1000, 7), (1000, 400), (5, 0)] {
            let rows: Vec<Scored> = (0..count).map(|row| (row, ((row * 7919) % 13) as f32)).collect();
            let mut best = Best::new(limit);
            rows.iter().for_each(|&row| best.offer(row, row.0));
            let (mut found, mut sorted) = (best.into_rows(), rows);
            assert!(found.iter().all(|(scored, value)| scored.0 == *value));
            found.sort_by(|a, b| best_first(&a.0, &b.0));
            sorted.sort_by(best_first);
            sorted.truncate(limit);
            assert_eq!(found.into_iter().map(|(scored, _)| scored).collect::<Vec<_>>(), sorted, "{limit} of {count}");
        }
    }
}
