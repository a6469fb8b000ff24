//! Files of a bundle with the groups of its rows: `groups.npy` and `aliases.npy`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Write,
    path::Path,
};

use arrow::array::{Array, RecordBatch, StringArray};
use bundle::{
    groups::{ALIASES, GROUP_COLUMNS, GROUPS},
    manifest::DOCS,
};
use ledger::{Digest, table};

use crate::{Result, npy};

/// Writes the groups of the rows of `docs.parquet`; returns the number of rows that have aliases.
///
/// Memory: the files and repositories, and the rows that another row duplicates.
pub fn write(dir: &Path, rows: u64) -> Result<u64> {
    let docs = dir.join(DOCS);
    let mut groups = Numbers { repeated: Repeated::read(&docs)?, ..Numbers::default() };
    let mut file = npy::create(&dir.join(GROUPS), "<u4", &[usize::try_from(rows)?, GROUP_COLUMNS])?;
    let mut row = 0;
    for batch in table::read(&docs, &["id", "repo", "path", "duplicate_of", "alias_of"])? {
        for numbers in groups.of(&batch?, row)? {
            numbers.iter().try_for_each(|number| file.write_all(&number.to_le_bytes()))?;
            row += 1;
        }
    }
    file.flush()?;
    let aliases: Vec<(u32, &Vec<u32>)> = groups.aliases.iter().filter(|(_, rows)| rows.len() > 1).map(|(of, rows)| (*of, rows)).collect();
    let count = aliases.iter().map(|(_, rows)| rows.len()).sum();
    let mut file = npy::create(&dir.join(ALIASES), "<u4", &[count, 2])?;
    for (group, row) in aliases.into_iter().flat_map(|(group, rows)| rows.iter().map(move |row| (group, *row))) {
        file.write_all(&group.to_le_bytes())?;
        file.write_all(&row.to_le_bytes())?;
    }
    file.flush()?;
    Ok(count as u64)
}

/// Ids of the rows that other rows duplicate, and of those that have aliases.
#[derive(Default)]
struct Repeated {
    duplicated: HashSet<String>,
    aliased: HashSet<String>,
}

impl Repeated {
    fn read(docs: &Path) -> Result<Self> {
        let mut repeated = Self::default();
        for batch in table::read(docs, &["duplicate_of", "alias_of"])? {
            let batch = batch?;
            let owned = |texts: StringArray| texts.iter().flatten().map(str::to_owned).collect::<Vec<_>>();
            repeated.duplicated.extend(owned(table::texts(&batch, "duplicate_of")?));
            repeated.aliased.extend(owned(table::texts(&batch, "alias_of")?));
        }
        Ok(repeated)
    }
}

/// The first row of each group so far.
#[derive(Default)]
struct Numbers {
    repeated: Repeated,
    files: HashMap<u128, u32>,
    repositories: HashMap<String, u32>,
    similar: HashMap<String, u32>,
    aliased: HashMap<String, u32>,
    /// Rows of each group of aliases, by its first row.
    aliases: BTreeMap<u32, Vec<u32>>,
}

impl Numbers {
    /// The groups of the rows of a batch, which starts at `row`: file, repository, near-duplicates, aliases.
    fn of(&mut self, batch: &RecordBatch, row: u32) -> Result<Vec<[u32; GROUP_COLUMNS]>> {
        let text = |name: &str| table::texts(batch, name);
        let (ids, repositories, paths) = (text("id")?, text("repo")?, text("path")?);
        let (duplicate_of, alias_of) = (text("duplicate_of")?, text("alias_of")?);
        (row..)
            .zip(0..batch.num_rows())
            .map(|(row, index)| {
                let (id, repository) = (ids.value(index), repositories.value(index));
                let digest = Digest::of(&(repository, paths.value(index)))?.to_string();
                let file = *self.files.entry(u128::from_str_radix(&digest[..32], 16)?).or_insert(row);
                let repository = *self.repositories.entry(repository.to_owned()).or_insert(row);
                let of = |others: &StringArray, repeated: &HashSet<String>, first: &mut HashMap<String, u32>| {
                    let target = if others.is_valid(index) { others.value(index) } else { id };
                    if repeated.contains(target) { *first.entry(target.to_owned()).or_insert(row) } else { row }
                };
                let similar = of(&duplicate_of, &self.repeated.duplicated, &mut self.similar);
                let alias = of(&alias_of, &self.repeated.aliased, &mut self.aliased);
                if self.repeated.aliased.contains(if alias_of.is_valid(index) { alias_of.value(index) } else { id }) {
                    self.aliases.entry(alias).or_default().push(row);
                }
                Ok([file, repository, similar, alias])
            })
            .collect()
    }
}
