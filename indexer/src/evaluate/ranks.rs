//! Ranks and mean reciprocal ranks. Ties count against the relevant row.

use std::collections::BTreeMap;

use ledger::Mrr;

/// Rank of the relevant row by each of [`bundle::Mode::ALL`]; none where a system did not score the row.
pub type Ranks = [Option<usize>; 3];

/// Rank of a row among candidates: how many score at least as high. None where the system did not score the row.
///
/// * `scores`: rows with their scores, each row once. Rows that are not there rank last.
pub fn rank(scores: &[(u32, f64)], row: u32, is_candidate: impl Fn(u32) -> bool) -> Option<usize> {
    let (_, reference) = *scores.iter().find(|(other, score)| *other == row && score.is_finite())?;
    Some(scores.iter().filter(|(other, score)| *score >= reference && is_candidate(*other)).count().max(1))
}

/// `1/rank`, 0 where there is no rank.
pub fn reciprocal(rank: Option<usize>) -> f64 {
    rank.map_or(0.0, |rank| 1.0 / rank as f64)
}

/// Mean of the reciprocal ranks.
pub fn mean_reciprocal(ranks: &[Option<usize>]) -> Mrr {
    let sum: f64 = ranks.iter().copied().map(reciprocal).sum();
    Mrr::try_from(sum / ranks.len().max(1) as f64).expect("a mean of reciprocals lies in 0..=1")
}

/// CodeSearchNet's batches: rows shuffled with a fixed seed and cut into batches of `size`, without the last partial batch; one batch
/// of all rows where there are fewer than `size`.
pub fn batches(rows: &[u32], size: usize) -> Vec<Vec<u32>> {
    let mut shuffled = rows.to_vec();
    let mut state = 0u64;
    // Fisher-Yates by SplitMix64, seed 0.
    for index in (1..shuffled.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        shuffled.swap(index, usize::try_from(z % (index as u64 + 1)).unwrap_or_default());
    }
    if shuffled.len() < size {
        return if shuffled.is_empty() { Vec::new() } else { vec![shuffled] };
    }
    shuffled.chunks_exact(size).map(<[u32]>::to_vec).collect()
}

/// CodeSearchNet's batches of each language: of its rows only, and only whole ones. A language with fewer than `size` rows has none.
pub fn language_batches(rows: &[u32], languages: &[&str], size: usize) -> Vec<Vec<u32>> {
    let mut by_language: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (row, language) in rows.iter().zip(languages) {
        by_language.entry(language).or_default().push(*row);
    }
    by_language.values().filter(|rows| rows.len() >= size).flat_map(|rows| batches(rows, size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_equal_values_computed_by_hand() {
        let scores = [(1, 0.9), (2, 0.5), (3, 0.5), (4, 0.1)];
        let all = |_| true;
        assert_eq!(rank(&scores, 1, all), Some(1));
        // 2 and 3 tie: the tie counts against the relevant row.
        assert_eq!(rank(&scores, 2, all), Some(3));
        assert_eq!(rank(&scores, 4, all), Some(4));
        assert_eq!(rank(&scores, 5, all), None);
        assert_eq!(rank(&scores, 4, |row| [4, 2].contains(&row)), Some(2));
        assert_eq!(rank(&[(1, f64::NAN)], 1, all), None);
        let mrr = f64::from(mean_reciprocal(&[Some(1), Some(4), None]));
        assert!((mrr - 1.25 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_batch_of_a_language_has_only_its_rows_and_is_whole() {
        let rows: Vec<u32> = (0..45).collect();
        let languages: Vec<&str> = rows.iter().map(|row| if row % 3 == 0 { "go" } else { "ruby" }).collect();
        let cut = language_batches(&rows, &languages, 20);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [20], "15 rows of Go are no batch of 20, and 30 of Ruby are one");
        assert!(cut[0].iter().all(|row| row % 3 != 0));
    }

    #[test]
    fn partial_batches_are_dropped_and_the_shuffle_is_fixed() {
        let rows: Vec<u32> = (0..25).collect();
        let cut = batches(&rows, 10);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10]);
        // The same generator in Python: scores of earlier versions stay comparable.
        assert_eq!(cut, [[17, 2, 0, 21, 5, 23, 9, 20, 11, 7], [19, 3, 13, 22, 1, 18, 15, 8, 6, 24]]);
        assert_eq!(batches(&rows[..7], 10)[0].len(), 7);
        let mut seen: Vec<u32> = cut.concat();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20);
    }
}
