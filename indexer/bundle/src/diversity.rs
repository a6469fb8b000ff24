//! Diversity of results: functions that have better results in their file, repository or group of near-duplicates are placed lower.

use std::collections::HashMap;

use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    groups::{Group, Groups},
};

/// How results are diversified: key `index.diversity`. For each better result of the same group a function loses so much of its score,
/// scaled to 0..1 over all candidates. The penalty for the same file is multiplied by the [concentration](Groups::concentration) of the candidates: where a
/// search finds functions of many repositories, their files differ anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Diversity {
    /// Penalty for the same file.
    pub file: f64,
    /// Penalty for the same repository.
    pub repository: f64,
    /// Penalty for near-duplicates of the same function.
    pub similar: f64,
}

impl Diversity {
    /// The penalties with their names and groups.
    pub fn penalties(&self) -> [(&'static str, Group, f64); 3] {
        [("file", Group::File, self.file), ("repository", Group::Repository, self.repository), ("similar", Group::Similar, self.similar)]
    }

    /// Checks that the numbers are in range.
    pub fn check(&self) -> Result<()> {
        for (name, _, penalty) in self.penalties() {
            ensure!(penalty.is_finite() && penalty >= 0.0, "the penalty of diversity.{name} is {penalty}, expected 0 or more");
        }
        Ok(())
    }

    /// Orders ranked rows (best first) by their score, scaled to 0..1, less the penalties; the scores stay. Equal rows keep their order.
    pub(crate) fn apply(&self, ranked: &mut Vec<(u32, f64)>, groups: &Groups) {
        let diversity = Self { file: self.file * groups.concentration(ranked), ..*self };
        diversity.apply_by(ranked, |row, group| groups.of(row, group));
    }

    fn apply_by(&self, ranked: &mut Vec<(u32, f64)>, group_of: impl Fn(u32, Group) -> u32) {
        let (Some(best), Some(worst)) = (ranked.first().map(|(_, score)| *score), ranked.last().map(|(_, score)| *score)) else { return };
        let penalties = self.penalties().map(|(_, group, penalty)| (group, penalty));
        if penalties.iter().all(|(_, penalty)| *penalty == 0.0) || best <= worst {
            return;
        }
        let mut better: [HashMap<u32, f64>; 3] = Default::default();
        let mut ordered: Vec<(f64, (u32, f64))> = ranked
            .iter()
            .map(|&(row, score)| {
                let mut value = (score - worst) / (best - worst);
                for ((group, penalty), better) in penalties.iter().zip(&mut better).filter(|((_, penalty), _)| *penalty > 0.0) {
                    let count = better.entry(group_of(row, *group)).or_default();
                    value -= penalty * *count;
                    *count += 1.0;
                }
                (value, (row, score))
            })
            .collect();
        ordered.sort_by(|a, b| b.0.total_cmp(&a.0));
        *ranked = ordered.into_iter().map(|(_, row)| row).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(diversity: Diversity, scores: &[f64], groups: &[u32]) -> Vec<u32> {
        let mut ranked: Vec<(u32, f64)> = (0..).zip(scores.iter().copied()).collect();
        diversity.apply_by(&mut ranked, |row, group| if group == Group::Repository { 0 } else { groups[row as usize] });
        ranked.into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn rows_of_a_group_with_better_rows_lose_by_their_number() {
        // Scaled: 1, .9, .75, .55, 0. Rows 1 and 2 have one and two better rows of their file.
        let scores = [12.0, 11.0, 9.5, 7.5, 2.0];
        let by_file = |file| Diversity { file, ..Diversity::default() };
        assert_eq!(ordered(by_file(0.0), &scores, &[7, 7, 7, 8, 8]), [0, 1, 2, 3, 4]);
        assert_eq!(ordered(by_file(0.2), &scores, &[7, 7, 7, 8, 8]), [0, 1, 3, 2, 4]);
        assert_eq!(ordered(by_file(0.4), &scores, &[7, 7, 7, 8, 8]), [0, 3, 1, 2, 4]);
        assert_eq!(ordered(by_file(9.0), &[1.0, 1.0], &[7, 7]), [0, 1], "equal scores have no scale");
        let both = Diversity { file: 0.1, similar: 0.1, repository: 0.0 };
        assert_eq!(ordered(both, &scores, &[7, 7, 7, 8, 8]), [0, 1, 3, 2, 4], "penalties add up");
        let by_repository = Diversity { repository: 0.3, ..Diversity::default() };
        assert_eq!(ordered(by_repository, &scores, &[7, 7, 7, 8, 8]), [0, 1, 2, 3, 4], "all rows are of one repository");
    }
}
