//! Recorded artifacts.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    manifest::{InputRecord, Manifest},
    recordable::Recordable,
};
use crate::{
    digest::Digest,
    ensure,
    error::{Context, Result},
};

/// Name of an artifact: its kind and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactId {
    pub kind: String,
    pub key: String,
}

/// A recorded artifact: a sealed folder with a manifest. `A` is the type that its files open as.
#[derive(Debug)]
pub struct Artifact<A> {
    dir: PathBuf,
    manifest: Arc<Manifest>,
    digest: Digest,
    payload: PhantomData<fn() -> A>,
}

impl<A: Recordable> Artifact<A> {
    /// Opens the files.
    ///
    /// # Errors
    /// [`Error::FilesNotAvailable`](crate::Error::FilesNotAvailable), or a file is missing or damaged.
    pub fn open(&self) -> Result<A> {
        self.manifest.require_files(&self.dir)?;
        A::open(&self.dir).with_context(|| format!("opening {}", self.dir.display()))
    }

    /// Are the files available locally? A restored artifact may have its manifest only.
    pub fn is_here(&self) -> bool {
        self.manifest.require_files(&self.dir).is_ok()
    }

    /// Digest of the output files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Folder of the artifact.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The record of the run that wrote the artifact.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Recorded digest of a file, by path relative to the artifact.
    pub fn file_digest(&self, path: &Path) -> Result<Digest> {
        let file = self.manifest.outputs.get(path);
        Ok(file.with_context(|| format!("{} has no record of {}", A::KIND, path.display()))?.blake3)
    }

    /// Opens the folder of an artifact.
    pub(crate) fn at(dir: PathBuf) -> Result<Self> {
        let manifest = Manifest::read(&dir)?;
        ensure!(manifest.kind == A::KIND, "{} holds {}, not {}", dir.display(), manifest.kind, A::KIND);
        Ok(Self { digest: manifest.digest()?, dir, manifest: Arc::new(manifest), payload: PhantomData })
    }

    /// The artifact as an input of a stage.
    pub(crate) fn record(&self) -> InputRecord {
        InputRecord { key: Some(self.manifest.key.clone()), digest: self.digest, bytes: self.manifest.bytes_out() }
    }
}
