//! Rows and their scores, best first.

/// A row and its score.
pub type Scored = (u32, f32);

/// Orders by score, falling, then by row.
pub fn best_first(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The best so many of what is offered in the order of rows, each with what its giver wants to keep of it.
pub struct Best<T = ()> {
    most: usize,
    /// Up to twice as many; those beyond are sorted out when it is full.
    rows: Vec<(Scored, T)>,
    /// What a row must score more than to be kept.
    pub least: f32,
}

impl<T> Best<T> {
    pub fn new(most: usize) -> Self {
        Self { most, rows: Vec::with_capacity(2 * most), least: f32::NEG_INFINITY }
    }

    pub fn offer(&mut self, scored: Scored, kept: T) {
        // Rows come in their order: of equal scores the earlier row is in already.
        if self.most > 0 && scored.1 > self.least {
            self.rows.push((scored, kept));
            if self.rows.len() == 2 * self.most {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if self.rows.len() > self.most {
            self.rows.select_nth_unstable_by(self.most - 1, |a, b| best_first(&a.0, &b.0));
            self.rows.truncate(self.most);
            self.least = self.rows[self.most - 1].0.1;
        }
    }

    /// In no order.
    pub fn rows(mut self) -> Vec<(Scored, T)> {
        self.shrink();
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_of_a_sort_ties_included() {
        for (count, most) in [(0, 3), (2, 3), (3, 3), (1000, 7), (1000, 400), (5, 0)] {
            let rows: Vec<Scored> = (0..count).map(|row| (row, ((row * 7919) % 13) as f32)).collect();
            let mut best = Best::new(most);
            rows.iter().for_each(|&row| best.offer(row, row.0));
            let (mut found, mut sorted) = (best.rows(), rows);
            assert!(found.iter().all(|(scored, kept)| scored.0 == *kept));
            found.sort_by(|a, b| best_first(&a.0, &b.0));
            sorted.sort_by(best_first);
            sorted.truncate(most);
            assert_eq!(found.into_iter().map(|(scored, _)| scored).collect::<Vec<_>>(), sorted, "{most} of {count}");
        }
    }
}
