//! Digests of the rows of `syntax`: a later build keeps the documents of rows with equal digests.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
};

use ledger::{
    Artifact, Digest, Shard, Syntax,
    table::{self, RowDigest},
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::documents::COLUMNS;
use crate::{Result, error::Context, npy};

/// Digests of the rows, in the artifact next to the bundle: a matrix u8 `[rows, 16]`.
const ROW_DIGESTS: &str = "row-digests.npy";
/// The shards of the rows, in order.
const SHARDS: &str = "row-shards.json";

/// The digest of each row.
#[derive(Debug)]
pub struct RowDigests {
    shards: Vec<DigestedShard>,
    pub rows: Vec<RowDigest>,
}

/// A shard of `syntax`.
#[derive(Debug, Serialize, Deserialize)]
struct DigestedShard {
    name: PathBuf,
    digest: Digest,
    rows: usize,
}

impl RowDigests {
    /// Digests of the rows of the shards. Those of a shard that an earlier build read too are copied.
    pub fn of(syntax: &Artifact<Syntax>, shards: &[&Shard], earlier: Option<&Self>) -> Result<Self> {
        let known = earlier.map(Self::by_shard).unwrap_or_default();
        let of_shard = |shard: &&Shard| -> Result<(DigestedShard, Vec<RowDigest>)> {
            let name = PathBuf::from(&shard.name);
            let digest = syntax.file_digest(&name)?;
            let rows = known.get(&(&*name, digest)).map_or_else(|| digests_of(shard), |rows| Ok(rows.to_vec()))?;
            Ok((DigestedShard { name, digest, rows: rows.len() }, rows))
        };
        let digested = shards.par_iter().map(of_shard).collect::<Result<Vec<_>>>()?;
        let (shards, rows): (Vec<_>, Vec<_>) = digested.into_iter().unzip();
        Ok(Self { shards, rows: rows.concat() })
    }

    fn by_shard(&self) -> HashMap<(&Path, Digest), &[RowDigest]> {
        self.ranges().map(|(shard, rows)| ((&*shard.name, shard.digest), &self.rows[rows])).collect()
    }

    /// The shards, and the rows that each of them has.
    fn ranges(&self) -> impl Iterator<Item = (&DigestedShard, Range<usize>)> {
        self.shards.iter().scan(0, |end, shard| {
            *end += shard.rows;
            Some((shard, *end - shard.rows..*end))
        })
    }

    /// For each shard the rows that it has in an earlier build, where that read the same shard.
    pub fn earlier_rows(&self, earlier: &Self) -> Vec<Option<Range<usize>>> {
        let known: HashMap<(&Path, Digest), Range<usize>> =
            earlier.ranges().map(|(shard, rows)| ((&*shard.name, shard.digest), rows)).collect();
        self.shards.iter().map(|shard| known.get(&(&*shard.name, shard.digest)).cloned()).collect()
    }

    /// Writes the digests into the folder of an artifact.
    pub fn write(&self, out: &Path) -> Result<()> {
        let mut file = npy::create(&out.join(ROW_DIGESTS), "|u1", &[self.rows.len(), size_of::<RowDigest>()])?;
        self.rows.iter().try_for_each(|digest| file.write_all(digest))?;
        file.flush()?;
        Ok(fs::write(out.join(SHARDS), serde_json::to_vec(&self.shards)?)?)
    }

    /// The files of the digests in the folder of an artifact.
    pub fn files(dir: &Path) -> [PathBuf; 2] {
        [ROW_DIGESTS, SHARDS].map(|name| dir.join(name))
    }

    /// Reads the digests in the folder of an artifact.
    ///
    /// # Errors
    /// The files are missing or damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let shards: Vec<DigestedShard> = serde_json::from_slice(&fs::read(dir.join(SHARDS))?)?;
        let count = shards.iter().try_fold(0usize, |rows, shard| rows.checked_add(shard.rows)).context("the shards have too many rows")?;
        let bytes = npy::read(&dir.join(ROW_DIGESTS), "|u1", &[count, size_of::<RowDigest>()])?;
        Ok(Self { shards, rows: bytes.as_chunks().0.to_vec() })
    }
}

fn digests_of(shard: &Shard) -> Result<Vec<RowDigest>> {
    let mut digests = Vec::new();
    for batch in table::read(&shard.path, &COLUMNS)? {
        digests.extend(table::row_digests(&batch?, &COLUMNS, shard.split.name())?);
    }
    Ok(digests)
}
