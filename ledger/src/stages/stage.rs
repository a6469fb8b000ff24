//! What a stage is, and what it gets to work with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{OnceLock, atomic::Ordering},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{earlier_shards::EarlierShards, inputs::Inputs, shard_records::ShardRecords};
use crate::{
    artifacts::{artifact::Artifact, manifest::Rows, recordable::Recordable},
    digest::{Digest, is_key},
    ensure,
    error::{BoxError, Error},
    progress::Progress,
};

/// One step of the pipeline: it reads artifacts and writes one artifact.
///
/// `run` is a pure function of `config`, `inputs` and the external inputs. Nothing else that it can read (threads, work directory, the
/// previous artifact) may change a byte of its output.
pub trait Stage {
    /// Name of the stage, and of its section in the configuration.
    const NAME: &'static str;
    /// What the stage does, in one line that starts with an imperative ("Parse functions").
    const ABOUT: &'static str;
    /// Increase it when the same inputs and configuration would now give other bytes.
    const REVISION: u32;

    /// Section of the configuration.
    type Config: Serialize + DeserializeOwned + JsonSchema;
    /// Artifacts that the stage reads.
    type Inputs: Inputs;
    /// Artifact that the stage writes.
    type Output: Recordable;
    /// Numbers about a run, recorded in the manifest.
    type Report: Report;
    type Error: Into<BoxError>;

    /// Names and digests of what the stage reads outside of the store: source folders, not the network.
    fn external_inputs(_config: &Self::Config) -> Result<Vec<(String, Digest)>, Self::Error> {
        Ok(Vec::new())
    }

    /// Writes the output into `run.out`.
    fn run(config: &Self::Config, inputs: &Self::Inputs, run: &Run<'_>) -> Result<Self::Report, Self::Error>;
}

/// Numbers about a run of a stage.
pub trait Report: Serialize + DeserializeOwned {
    /// Rows that the run read, wrote and rejected.
    fn rows(&self) -> Rows;

    /// What the run left out, by reason; `codenets status` shows it.
    fn left_out(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}

/// What a stage gets from the executor.
#[derive(Debug)]
pub struct Run<'a> {
    /// Folder for the output. It is sealed and renamed after `run` returns.
    pub out: &'a Path,
    /// Folder for downloads. A stage verifies them at each use, so that they change no byte.
    pub cache: &'a Path,
    /// Folder for checkpoints to resume from and for event files. It depends on the key of the artifact, is never part of the artifact,
    /// and still exists when a killed run starts again. A stage that needs it creates it.
    pub work_dir: PathBuf,
    /// Is the output compared and deleted? Then the run must not be reported to other systems.
    pub is_rerun: bool,
    pub progress: &'a Progress,
    /// Number of worker threads.
    pub threads: usize,
    /// Folder of the artifacts of the kind that the stage writes.
    pub(crate) artifacts: PathBuf,
    pub(crate) shards: ShardRecords,
    /// Name of an external input that changed during the run.
    pub(crate) changed: OnceLock<String>,
}

impl Run<'_> {
    /// Folder of the previous artifact, where this revision of the stage wrote it, with any configuration and inputs. What is taken from it
    /// must be what the stage would write itself.
    pub fn previous(&self) -> Option<&Path> {
        self.shards.previous.as_ref().map(|(dir, _)| dir.as_path())
    }

    /// The files of the previous artifact, where only the input of this kind changed since: a stage may take from them what it would write
    /// itself.
    pub fn earlier(&self, sharded: &str) -> EarlierShards<'_> {
        EarlierShards::of(self.shards.reusable(sharded))
    }

    /// An artifact of the kind that the stage writes, by its key.
    ///
    /// # Errors
    /// There is none with this key.
    pub fn recorded<A: Recordable>(&self, key: &str) -> Result<Artifact<A>, Error> {
        ensure!(is_key(key), "{key:?} is no key of an artifact");
        Artifact::at(self.artifacts.join(key))
    }

    /// Counts parts of the output that were taken from the previous artifact, and parts that were written anew.
    pub fn count_shards(&self, reused: u64, written: u64) {
        self.shards.reused.fetch_add(reused, Ordering::Relaxed);
        self.shards.run.fetch_add(written, Ordering::Relaxed);
    }

    /// Compares an external input, as this run has read it, with the one that the key of the artifact was made with.
    ///
    /// # Errors
    /// [`Error::InputChanged`]: another process writes there. The executor then starts again.
    pub fn check_external_input(&self, name: &str, digest: Digest) -> Result<(), Error> {
        if self.shards.inputs.get(name).is_some_and(|input| input.digest == digest) {
            return Ok(());
        }
        let input = self.changed.get_or_init(|| name.to_owned()).clone();
        Err(Error::InputChanged { input })
    }
}
