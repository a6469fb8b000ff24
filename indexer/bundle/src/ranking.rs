//! Rows and their scores, best first.

use std::collections::HashSet;

/// A row and its score.
pub type Scored = (u32, f32);

/// The group of a row, by a function.
pub type GroupOf<'a> = &'a (dyn Fn(u32) -> u32 + Sync);

/// Orders by falling score, then by row.
pub fn best_first(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Has the row a flag in `allowed`? None: every row.
pub fn is_allowed(allowed: Option<&[bool]>, row: u32) -> bool {
    allowed.is_none_or(|flags| flags.get(row as usize) == Some(&true))
}

/// Keeps the first row of each group: the best one, where the rows are ranked.
pub fn keep_distinct<S>(ranked: &mut Vec<(u32, S)>, group_of: GroupOf<'_>) {
    let mut seen = HashSet::with_capacity(ranked.len());
    ranked.retain(|(row, _)| seen.insert(group_of(*row)));
}

/// Collects the best `limit` rows, which are offered in any order, each with a value of the caller.
pub struct Best<'g, T = ()> {
    limit: usize,
    /// Only the best row of each group is collected; none: every row.
    distinct: Option<GroupOf<'g>>,
    /// Up to twice `limit`; the worse half is dropped when it is full.
    rows: Vec<(Scored, T)>,
    /// The worst of the best rows, as soon as there are `limit` of them.
    worst: Scored,
}

impl<'g, T> Best<'g, T> {
    /// Collects `limit` rows, only the best of each group where `distinct` is given.
    pub fn new(limit: usize, distinct: Option<GroupOf<'g>>) -> Self {
        Self { limit, distinct, rows: Vec::with_capacity(2 * limit), worst: (u32::MAX, f32::NEG_INFINITY) }
    }

    /// A row that scores less than this is not among the best. Of rows that score this, only smaller ones than the worst row are.
    pub fn threshold(&self) -> f32 {
        self.worst.1
    }

    /// Offers a row.
    pub fn offer(&mut self, scored: Scored, value: T) {
        if self.limit > 0 && best_first(&scored, &self.worst).is_lt() {
            self.rows.push((scored, value));
            if self.rows.len() == 2 * self.limit {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if let Some(group_of) = self.distinct {
            self.rows.sort_unstable_by(|a, b| best_first(&a.0, &b.0));
            let mut seen = HashSet::with_capacity(self.rows.len());
            self.rows.retain(|((row, _), _)| seen.insert(group_of(*row)));
        }
        if self.rows.len() > self.limit {
            self.rows.select_nth_unstable_by(self.limit - 1, |a, b| best_first(&a.0, &b.0));
            self.rows.truncate(self.limit);
            self.worst = self.rows[self.limit - 1].0;
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
            let mut best = Best::new(limit, None);
            // 7 and 1000 have no common divisor: every row is offered once, in no order.
            (0..count as usize).map(|index| rows[index * 7 % count as usize]).for_each(|row| best.offer(row, row.0));
            let (mut found, mut sorted) = (best.into_rows(), rows);
            assert!(found.iter().all(|(scored, value)| scored.0 == *value));
            found.sort_by(|a, b| best_first(&a.0, &b.0));
            sorted.sort_by(best_first);
            sorted.truncate(limit);
            assert_eq!(found.into_iter().map(|(scored, _)| scored).collect::<Vec<_>>(), sorted, "{limit} of {count}");
        }
    }

    #[test]
    fn of_each_group_only_the_best_row_is_collected() {
        let group_of = |row: u32| row % 5;
        for (count, limit) in [(3, 2), (100, 2), (1000, 5), (1000, 40)] {
            let rows: Vec<Scored> = (0..count).map(|row| (row, ((row * 7919) % 101) as f32)).collect();
            let mut best = Best::new(limit, Some(&group_of));
            rows.iter().for_each(|&row| best.offer(row, ()));
            let mut found: Vec<Scored> = best.into_rows().into_iter().map(|(scored, ())| scored).collect();
            found.sort_by(best_first);
            let mut expected = rows;
            expected.sort_by(best_first);
            keep_distinct(&mut expected, &group_of);
            expected.truncate(limit);
            assert_eq!(found, expected, "{limit} of {count}");
        }
    }
}
