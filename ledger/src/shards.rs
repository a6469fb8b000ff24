//! Tables cut into shards, and the map over them that takes unchanged shards over from last time.
//!
//! A table is `<split>/<bucket>.parquet`. A row's bucket is a hash of where it comes from, so one
//! changed source file changes one shard. Splits are folders: who is handed the training shards
//! cannot see the test rows.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rayon::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Artifact, Bar, BoxError, Digest, Error, Manifest, Recordable, Run, Split, ensure,
    error::{Context, Result},
    manifest::{InputRecord, ShardRecord},
    table,
};

/// One Parquet file of a sharded table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub split: Split,
    /// `train/0003.parquet`, the same in every table that is made of this one.
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
            for entry in fs::read_dir(&folder)? {
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

    pub fn name(split: Split, bucket: usize) -> String {
        format!("{split}/{bucket:04}.parquet")
    }

    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.list.iter()
    }

    pub fn of(&self, split: Split) -> Vec<&Shard> {
        self.list.iter().filter(|shard| shard.split == split).collect()
    }

    /// Rows of all shards, from the files' footers.
    pub fn rows(&self) -> Result<u64> {
        self.list.iter().map(|shard| table::row_count(&shard.path)).sum()
    }
}

/// What a run knows about the shards of last time, and notes about those of this time.
#[derive(Debug, Default)]
pub(crate) struct ShardLedger {
    pub(crate) previous: Option<(PathBuf, Manifest)>,
    pub(crate) inputs: BTreeMap<String, InputRecord>,
    pub(crate) records: Mutex<BTreeMap<String, ShardRecord>>,
    pub(crate) reused: AtomicU64,
    pub(crate) run: AtomicU64,
}

impl ShardLedger {
    /// The previous artifact, if nothing but the sharded input differs from then.
    fn reusable(&self, sharded: &str) -> Option<&(PathBuf, Manifest)> {
        let others = |inputs: &BTreeMap<String, InputRecord>| {
            inputs.iter().filter(|(kind, _)| kind.as_str() != sharded).map(|(kind, input)| (kind.clone(), input.digest)).collect::<Vec<_>>()
        };
        self.previous.as_ref().filter(|(_, manifest)| others(&manifest.inputs) == others(&self.inputs))
    }
}

impl Run<'_> {
    /// Makes one output shard of each input shard, in parallel, and returns their reports in shard
    /// order. A shard whose input bytes are those of last time (and whose stage, configuration and
    /// other inputs are too) is hard-linked instead of made again. `work` is also given the intact shard of that name of last
    /// time, where the stage, its configuration and other inputs are the same: rows of it may be taken over, if that does
    /// not change a byte.
    pub fn map_shards<A: Recordable, R: Serialize + DeserializeOwned + Send, E: Into<BoxError>>(
        &self,
        label: &str,
        input: &Artifact<A>,
        shards: &Shards,
        work: impl Fn(&Shard, Option<&Path>, &Path, &Bar) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>> {
        let bar = self.progress.bar(label, shards.rows()?, "rows");
        for split in Split::ALL {
            fs::create_dir_all(self.out.join(split.name()))?;
        }
        let previous = self.shards.reusable(A::KIND);
        let reports = shards
            .list
            .par_iter()
            .map(|shard| {
                let target = self.out.join(&shard.name);
                let source = input.file_digest(Path::new(&shard.name))?;
                let (report, value) = match previous.and_then(|last| reuse::<R>(last, shard, source, &target)) {
                    Some(reused) => {
                        bar.add(table::row_count(&shard.path)?);
                        self.shards.reused.fetch_add(1, Ordering::Relaxed);
                        reused
                    }
                    None => {
                        let last = previous.and_then(|last| intact(last, shard));
                        let report = work(shard, last.as_deref(), &target, &bar).map_err(Error::other);
                        let report = report.with_context(|| format!("shard {}", shard.name))?;
                        self.shards.run.fetch_add(1, Ordering::Relaxed);
                        let value = serde_json::to_value(&report)?;
                        (report, value)
                    }
                };
                let record = ShardRecord { input: source, report: value };
                self.shards.records.lock().expect("no holder panics").insert(shard.name.clone(), record);
                Ok(report)
            })
            .collect::<Result<Vec<R>>>()?;
        bar.finish();
        Ok(reports)
    }
}

/// The shard of last time. Bytes that were damaged since are made again rather than carried on.
fn intact((dir, manifest): &(PathBuf, Manifest), shard: &Shard) -> Option<PathBuf> {
    let file = dir.join(&shard.name);
    (Digest::of_file(&file).ok()? == manifest.outputs.get(Path::new(&shard.name))?.blake3).then_some(file)
}

fn reuse<R: DeserializeOwned>(last: &(PathBuf, Manifest), shard: &Shard, source: Digest, target: &Path) -> Option<(R, serde_json::Value)> {
    let record = last.1.shards.get(&shard.name).filter(|record| record.input == source)?;
    let report = serde_json::from_value(record.report.clone()).ok()?;
    let file = intact(last, shard)?;
    (fs::hard_link(&file, target).is_ok() || fs::copy(&file, target).is_ok()).then(|| (report, record.report.clone()))
}
