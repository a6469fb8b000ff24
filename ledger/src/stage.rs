//! The verb ([`Stage`]), the noun ([`Recordable`]) and what a verb is given to work with ([`Run`]).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Artifact, BoxError, Digest, Files, Manifest, Progress, Rows, Store, error::Result, manifest::InputRecord, shards::ShardLedger,
};

/// Files in one folder that reopen by type: what a stage leaves behind, and any part of the context of a build.
pub trait Recordable: Sized {
    /// What a folder says that it is; of a stage's output, also its directory under `data/`.
    const KIND: &'static str;
    /// Raised when the code before could not read what is written now.
    const VERSION: u32 = 1;

    /// Checks what is there and gives typed access to it.
    fn open(dir: &Path) -> Result<Self>;

    /// What it consists of: [`Recordable::open`] finds the same in a folder with these files.
    fn files(&self) -> Result<Files>;
}

/// One step of the build. Reads recorded artifacts, leaves one recorded artifact.
///
/// `run` is a pure function of `config`, `inputs` and [`Stage::outside`]: whatever else it is given
/// (threads, scratch space, the previous artifact) must not change a byte of its output.
pub trait Stage {
    /// Name of the stage; also of its section in the configuration.
    const NAME: &'static str;
    /// One line for help texts: what the stage does, with a verb in the imperative.
    const ABOUT: &'static str;
    /// Raised when the same inputs and config would now give other bytes.
    const REVISION: u32;

    type Config: Serialize + DeserializeOwned + JsonSchema;
    type Inputs: Inputs;
    type Output: Recordable;
    type Report: Report;
    type Error: Into<BoxError>;

    /// Digests of what the stage reads outside the store: source folders, not the network.
    fn external_inputs(_config: &Self::Config) -> Result<Vec<(String, Digest)>, Self::Error> {
        Ok(Vec::new())
    }

    fn run(config: &Self::Config, inputs: &Self::Inputs, run: &Run<'_>) -> Result<Self::Report, Self::Error>;
}

/// What a stage tells about itself: typed numbers, of which the row counts are common to all.
pub trait Report: Serialize + DeserializeOwned {
    fn rows(&self) -> Rows;
}

/// What the store gives to a running stage.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where the output goes; sealed and renamed when `run` returns.
    pub out: &'a Path,
    /// Downloads that are verified on every use, so that they may not change a byte.
    pub cache: &'a Path,
    /// What a run keeps for itself and for those who watch it (checkpoints to go on from, event files), by the key of
    /// what it makes: never part of it, and there again when a killed run starts anew. Made by who needs it.
    pub work_dir: PathBuf,
    /// Is this a run whose output is compared and thrown away? Then nobody outside is told of it.
    pub is_rerun: bool,
    pub progress: &'a Progress,
    pub threads: usize,
    pub(crate) shards: ShardLedger,
}

/// The artifacts a stage reads: nothing, one, or several.
pub trait Inputs: Sized {
    fn current(store: &Store) -> Result<Self>;
    fn records(&self) -> Vec<(&'static str, InputRecord)>;
    /// Kinds in the order of `records`, known without a store.
    fn kinds() -> Vec<&'static str>;
}

impl Inputs for () {
    fn current(_: &Store) -> Result<Self> {
        Ok(())
    }
    fn records(&self) -> Vec<(&'static str, InputRecord)> {
        Vec::new()
    }
    fn kinds() -> Vec<&'static str> {
        Vec::new()
    }
}

impl<A: Recordable> Inputs for Artifact<A> {
    fn current(store: &Store) -> Result<Self> {
        store.current()
    }
    fn records(&self) -> Vec<(&'static str, InputRecord)> {
        vec![(A::KIND, self.record())]
    }
    fn kinds() -> Vec<&'static str> {
        vec![A::KIND]
    }
}

macro_rules! inputs_of_tuple {
    ($($part:ident $index:tt),+) => {
        impl<$($part: Inputs),+> Inputs for ($($part,)+) {
            fn current(store: &Store) -> Result<Self> {
                Ok(($($part::current(store)?,)+))
            }
            fn records(&self) -> Vec<(&'static str, InputRecord)> {
                [$(self.$index.records()),+].concat()
            }
            fn kinds() -> Vec<&'static str> {
                [$($part::kinds()),+].concat()
            }
        }
    };
}
inputs_of_tuple!(A 0, B 1);
inputs_of_tuple!(A 0, B 1, C 2);

impl<A: Recordable> Artifact<A> {
    pub(crate) fn record(&self) -> InputRecord {
        let manifest: &Manifest = self.manifest();
        InputRecord { key: Some(manifest.key.clone()), digest: self.digest(), bytes: manifest.bytes_out() }
    }
}
