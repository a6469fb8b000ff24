//! The shards of the previous artifact and of this run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, atomic::AtomicU64},
};

use crate::artifacts::manifest::{InputRecord, Manifest, ShardRecord};

/// The shards of the previous artifact, and the records of the shards of this run.
#[derive(Debug, Default)]
pub(crate) struct ShardRecords {
    pub(crate) previous: Option<(PathBuf, Manifest)>,
    pub(crate) inputs: BTreeMap<String, InputRecord>,
    pub(crate) records: Mutex<BTreeMap<String, ShardRecord>>,
    pub(crate) reused: AtomicU64,
    pub(crate) run: AtomicU64,
}

impl ShardRecords {
    /// The previous artifact, if only the sharded input changed since.
    pub(crate) fn reusable(&self, sharded: &str) -> Option<&(PathBuf, Manifest)> {
        let others = |inputs: &BTreeMap<String, InputRecord>| {
            inputs.iter().filter(|(kind, _)| kind.as_str() != sharded).map(|(kind, input)| (kind.clone(), input.digest)).collect::<Vec<_>>()
        };
        self.previous.as_ref().filter(|(_, manifest)| others(&manifest.inputs) == others(&self.inputs))
    }
}
