//! The shards and other files of the previous artifact, from which a stage may take rows.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    artifacts::manifest::{Manifest, ShardRecord},
    digest::Digest,
    durable::is_plain,
    error::Result,
    tables::table::{self, RowDigest},
};

/// The files of the previous artifact, if it has this configuration and the other inputs of this run; else none.
#[derive(Debug)]
pub struct EarlierShards<'a> {
    previous: Option<&'a (PathBuf, Manifest)>,
    /// By name: the path, once the bytes are compared with the manifest; none where they are damaged.
    files: BTreeMap<&'a str, OnceLock<Option<PathBuf>>>,
    /// Names of the shards.
    names: Vec<&'a str>,
    /// Number of the shard, and of the row in it, for each digest; about 40 bytes a row.
    places: OnceLock<HashMap<RowDigest, (u32, u32)>>,
}

impl<'a> EarlierShards<'a> {
    pub(crate) fn of(previous: Option<&'a (PathBuf, Manifest)>) -> Self {
        let files = previous.into_iter().flat_map(|(_, manifest)| manifest.outputs.keys());
        let files = files.filter(|file| is_plain(file)).filter_map(|file| file.to_str());
        let files: BTreeMap<_, _> = files.map(|file| (file, OnceLock::new())).collect();
        let names = previous.into_iter().flat_map(|(_, manifest)| manifest.shards.keys().map(String::as_str));
        let names = names.filter(|name| files.contains_key(name)).collect();
        Self { previous, files, names, places: OnceLock::new() }
    }

    /// Path of a shard or another file; none where there is no such file, or its bytes are damaged.
    pub fn get(&self, name: &str) -> Option<&Path> {
        let (dir, manifest) = self.previous?;
        let intact = || {
            let file = dir.join(name);
            (Digest::of_file(&file).ok()? == manifest.outputs.get(Path::new(name))?.blake3).then_some(file)
        };
        self.files.get(name)?.get_or_init(intact).as_deref()
    }

    /// Numbers of the rows of a shard by their digests, for shards with the column [`table::DIGEST`]. Empty where [`Self::get`] gives none.
    pub fn rows_of(&self, name: &str) -> Result<HashMap<RowDigest, u32>> {
        let digests = self.get(name).map(table::digests).transpose()?.unwrap_or_default();
        Ok(digests.into_iter().zip(0..).collect())
    }

    /// Shard and number of a row with this digest in any intact shard. The first call reads the digests of all shards.
    pub fn place_of(&self, digest: &RowDigest) -> Option<(&str, u32)> {
        let (shard, row) = self.places.get_or_init(|| self.read_places()).get(digest)?;
        Some((self.names.get(*shard as usize)?, *row))
    }

    fn read_places(&self) -> HashMap<RowDigest, (u32, u32)> {
        let of_shard = |(shard, name): (u32, &&str)| {
            // A shard that cannot be read has no row to take.
            let digests = self.get(name).and_then(|path| table::digests(path).ok()).unwrap_or_default();
            digests.into_iter().zip(0..).map(move |(digest, row)| (digest, (shard, row)))
        };
        (0..).zip(&self.names).flat_map(of_shard).collect()
    }

    /// The record of a shard whose input had this digest.
    pub(crate) fn record(&self, name: &str, input: Digest) -> Option<&'a ShardRecord> {
        self.previous?.1.shards.get(name).filter(|record| record.input == input)
    }
}
