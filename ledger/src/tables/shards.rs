//! Tables in shards.
//!
//! A table is a folder with files `<split>/<bucket>.parquet`. The bucket of a row is a hash of its repository and path, so that one
//! changed source file changes one shard. Each split is a folder: a reader of the training shards cannot read test rows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::table;
use crate::{
    ensure,
    error::{Error, Result},
    text::language::Split,
};

/// One Parquet file of a sharded table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub split: Split,
    /// `train/0003.parquet`. A table that is computed shard by shard has the same names.
    pub name: String,
    pub path: PathBuf,
}

/// A sharded table in a directory.
#[derive(Debug, Clone)]
pub struct Shards {
    list: Vec<Shard>,
}

impl Shards {
    /// Lists the shards of a directory, by split, then name.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut list = Vec::new();
        for split in Split::ALL {
            let folder = dir.join(split.name());
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(Error::io("listing", &folder))? {
                let path = entry?.path();
                let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if path.extension().is_some_and(|extension| extension == "parquet") {
                    list.push(Shard { split, name: format!("{split}/{file}"), path });
                }
            }
        }
        list.sort_by(|a, b| (a.split, &a.name).cmp(&(b.split, &b.name)));
        ensure!(!list.is_empty(), "no shards below {}", dir.display());
        Ok(Self { list })
    }

    /// Name of a shard.
    pub fn name(split: Split, bucket: usize) -> String {
        format!("{split}/{bucket:04}.parquet")
    }

    /// All shards, by split, then name.
    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.list.iter()
    }

    /// The shards of a split.
    pub fn of(&self, split: Split) -> Vec<&Shard> {
        self.list.iter().filter(|shard| shard.split == split).collect()
    }

    /// Number of rows of all shards, from the footers of the files.
    pub fn rows(&self) -> Result<u64> {
        self.list.iter().map(|shard| table::row_count(&shard.path)).sum()
    }
}
