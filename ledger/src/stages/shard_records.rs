//! The shards of the previous artifact and of this run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, atomic::AtomicU64},
};

use serde_json::Value;

use crate::artifacts::manifest::{InputRecord, Manifest, ShardRecord};

/// The shards of the previous artifact, and the records of the shards of this run.
#[derive(Debug, Default)]
pub(crate) struct ShardRecords {
    /// The previous artifact of this revision.
    pub(crate) previous: Option<(PathBuf, Manifest)>,
    /// Configuration of this run.
    pub(crate) config: Value,
    pub(crate) inputs: BTreeMap<String, InputRecord>,
    pub(crate) records: Mutex<BTreeMap<String, ShardRecord>>,
    pub(crate) reused: AtomicU64,
    pub(crate) run: AtomicU64,
}

impl ShardRecords {
    /// The previous artifact, if it has this configuration and only the sharded input changed since.
    pub(crate) fn reusable(&self, sharded: &str) -> Option<&(PathBuf, Manifest)> {
        let others = |inputs: &BTreeMap<String, InputRecord>| {
            inputs.iter().filter(|(kind, _)| kind.as_str() != sharded).map(|(kind, input)| (kind.clone(), input.digest)).collect::<Vec<_>>()
        };
        let previous = self.previous.as_ref().filter(|(_, manifest)| manifest.config == self.config);
        previous.filter(|(_, manifest)| others(&manifest.inputs) == others(&self.inputs))
    }
}
