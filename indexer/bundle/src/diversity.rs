//! Diversity of results: functions of a file that has better results already are placed lower.

use std::{collections::HashMap, path::Path};

use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, vectors::Npy};

/// File with the file number of each row in a bundle: a vector u32 `[rows]`. Rows of one path of one repository have one number.
pub const FILES: &str = "files.npy";

/// How results are diversified: key `index.diversity`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Diversity {
    /// For each better result of the same file a function loses so much of its score, scaled to 0..1 over all candidates.
    pub file: f64,
}

impl Diversity {
    /// Checks that the numbers are in range.
    pub fn check(&self) -> Result<()> {
        ensure!(self.file.is_finite() && self.file >= 0.0, "the penalty of diversity.file is {}, expected 0 or more", self.file);
        Ok(())
    }

    /// Orders ranked rows (best first) by their score, scaled to 0..1, less the penalty; the scores stay. Equal rows keep their order.
    pub(crate) fn apply(&self, ranked: &mut Vec<(u32, f64)>, file_of: impl Fn(u32) -> u32) {
        let (Some(best), Some(worst)) = (ranked.first().map(|(_, score)| *score), ranked.last().map(|(_, score)| *score)) else { return };
        if self.file == 0.0 || best <= worst {
            return;
        }
        let mut better: HashMap<u32, f64> = HashMap::new();
        let mut ordered: Vec<(f64, (u32, f64))> = ranked
            .iter()
            .map(|&(row, score)| {
                let count = better.entry(file_of(row)).or_default();
                let value = (score - worst) / (best - worst) - self.file * *count;
                *count += 1.0;
                (value, (row, score))
            })
            .collect();
        ordered.sort_by(|a, b| b.0.total_cmp(&a.0));
        *ranked = ordered.into_iter().map(|(_, row)| row).collect();
    }
}

/// The file number of each row.
#[derive(Debug)]
pub(crate) struct FileNumbers(Npy);

impl FileNumbers {
    /// Maps the file of a bundle.
    pub fn open(dir: &Path, rows: usize) -> Result<Self> {
        Ok(Self(Npy::open(&dir.join(FILES), "<u4", &[rows], 4)?))
    }

    /// The file number of a row; a row beyond the bundle has a number of its own.
    pub fn of(&self, row: u32) -> u32 {
        let start = 4 * row as usize;
        let bytes = self.0.bytes().get(start..start + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(u32::MAX - row, u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(file: f64, scores: &[f64], files: &[u32]) -> Vec<u32> {
        let mut ranked: Vec<(u32, f64)> = (0..).zip(scores.iter().copied()).collect();
        Diversity { file }.apply(&mut ranked, |row| files[row as usize]);
        ranked.into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn rows_of_a_file_with_better_rows_lose_by_their_number() {
        // Scaled: 1, .9, .75, .55, 0. Rows 1 and 2 have one and two better rows of their file.
        let scores = [12.0, 11.0, 9.5, 7.5, 2.0];
        assert_eq!(ordered(0.0, &scores, &[7, 7, 7, 8, 8]), [0, 1, 2, 3, 4]);
        assert_eq!(ordered(0.2, &scores, &[7, 7, 7, 8, 8]), [0, 1, 3, 2, 4]);
        assert_eq!(ordered(0.4, &scores, &[7, 7, 7, 8, 8]), [0, 3, 1, 2, 4]);
        assert_eq!(ordered(9.0, &[1.0, 1.0], &[7, 7]), [0, 1], "equal scores have no scale");
    }
}
