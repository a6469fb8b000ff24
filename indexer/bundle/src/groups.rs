//! Groups of rows: the functions of one file, of one repository, near-duplicates of one function, and aliases.
//!
//! The number of a group is its first row. Aliases are rows with equal code tokens and equal documentation: a search shows the best of
//! them, and names the places of the others.

use std::{collections::BTreeMap, path::Path};

use crate::{Result, vectors::Npy};

/// File with the numbers of each row's groups in a bundle: a matrix u32 `[rows, 4]`, columns in the order of [`Group`].
pub const GROUPS: &str = "groups.npy";
/// File with the rows of the groups of two or more aliases: a matrix u32 `[rows with aliases, 2]` of group and row, in this order.
pub const ALIASES: &str = "aliases.npy";
/// Columns of [`GROUPS`].
pub const GROUP_COLUMNS: usize = 4;

/// What the rows of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Repository and path.
    File,
    /// Repository.
    Repository,
    /// They equal or nearly equal one function.
    Similar,
    /// Code tokens and documentation.
    Alias,
}

/// The groups of the rows of a bundle.
#[derive(Debug)]
pub struct Groups {
    groups: Npy,
    aliases: Npy,
}

impl Groups {
    /// Maps the files of a bundle. `with_aliases`: number of rows that have aliases.
    pub(crate) fn open(dir: &Path, rows: usize, with_aliases: usize) -> Result<Self> {
        Ok(Self {
            groups: Npy::open(&dir.join(GROUPS), "<u4", &[rows, GROUP_COLUMNS], 4)?,
            aliases: Npy::open(&dir.join(ALIASES), "<u4", &[with_aliases, 2], 4)?,
        })
    }

    /// The number of a row's group; a row beyond the bundle is alone.
    pub fn of(&self, row: u32, group: Group) -> u32 {
        let numbers = self.groups.bytes().as_chunks::<4>().0;
        numbers.get(GROUP_COLUMNS * row as usize + group as usize).map_or(row, |bytes| u32::from_le_bytes(*bytes))
    }

    /// How much ranked rows are of one repository: the sum over repositories of the square of their share, 1 for one repository.
    pub fn concentration(&self, ranked: &[(u32, f64)]) -> f64 {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        ranked.iter().for_each(|(row, _)| *counts.entry(self.of(*row, Group::Repository)).or_default() += 1.0);
        counts.values().map(|count| (count / ranked.len() as f64).powi(2)).sum()
    }

    /// Do any rows have aliases?
    pub fn has_aliases(&self) -> bool {
        !self.aliases.bytes().is_empty()
    }

    /// The other rows of a row's group of aliases, in ascending order.
    pub fn aliases(&self, row: u32) -> impl Iterator<Item = u32> {
        let group = self.of(row, Group::Alias);
        let pairs = self.aliases.bytes().as_chunks::<8>().0.iter().map(|pair| {
            let [a, b, c, d, e, f, g, h] = *pair;
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
        });
        let start = self.aliases.bytes().as_chunks::<4>().0;
        let first = partition(start.len() / 2, |index| u32::from_le_bytes(start[2 * index]) < group);
        pairs.skip(first).take_while(move |(of, _)| *of == group).map(|(_, other)| other).filter(move |&other| other != row)
    }
}

/// The first of `0..count` that is not `before`.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::npy_header;

    fn matrix(dir: &Path, name: &str, shape: &[usize], numbers: &[u32]) {
        let data = numbers.iter().flat_map(|number| number.to_le_bytes());
        std::fs::write(dir.join(name), npy_header("<u4", shape).into_iter().chain(data).collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn groups_and_aliases_are_those_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        matrix(dir.path(), GROUPS, &[4, 4], &[0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 3, 3, 1, 1]);
        matrix(dir.path(), ALIASES, &[4, 2], &[0, 0, 0, 2, 1, 1, 1, 3]);
        let groups = Groups::open(dir.path(), 4, 4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|row| groups.of(row, Group::File)), [0, 0, 2, 3]);
        assert_eq!([0, 1, 2, 3].map(|row| groups.of(row, Group::Similar)), [0, 1, 0, 1]);
        assert_eq!([0, 1, 2, 3, 9].map(|row| groups.aliases(row).collect::<Vec<_>>()), [vec![2], vec![3], vec![0], vec![1], vec![]]);
        assert!(Groups::open(dir.path(), 4, 3).is_err());
        assert_eq!(groups.concentration(&[(0, 0.0), (1, 0.0)]), 1.0, "one repository");
        assert_eq!(groups.concentration(&[(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]), 0.5625 + 0.0625);
    }
}
