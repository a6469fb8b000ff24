//! How a bundle is opened.

use std::path::{Path, PathBuf};

use inference::Provider;

use crate::{Bundle, Result};

/// Options of [`Bundle::options`]: what opens a bundle.
#[derive(Debug, Clone)]
pub struct BundleOptions {
    onnxruntime: Option<PathBuf>,
    provider: Provider,
    workers: usize,
}

impl Default for BundleOptions {
    /// The installed library, the CPU, one search at a time.
    fn default() -> Self {
        Self { onnxruntime: None, provider: Provider::Cpu, workers: 1 }
    }
}

impl Bundle {
    /// Options that open a bundle.
    pub fn options() -> BundleOptions {
        BundleOptions::default()
    }
}

impl BundleOptions {
    /// Loads this ONNX Runtime library when the bundle is opened. Without it, the first query that needs a vector loads the library
    /// that the environment variable `ORT_DYLIB_PATH` names, else the one next to the program, else the one that `codenets setup`
    /// installed. A process has one library. Set `ORT_DISABLE_TELEMETRY=1` in the environment of the program: ONNX Runtime 1.30
    /// sends telemetry otherwise.
    pub fn onnxruntime(self, library: impl Into<PathBuf>) -> Self {
        Self { onnxruntime: Some(library.into()), ..self }
    }

    /// Sets where queries are encoded; the CPU unless set.
    pub fn provider(self, provider: Provider) -> Self {
        Self { provider, ..self }
    }

    /// Sets how many searches run at the same time without waiting for each other; 1 unless set. Each needs its own encoder session.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Opens the bundle in a folder. Large files are mapped into memory, not read; the encoder is opened by the first query that
    /// needs a vector. A link is resolved once: the bundle stays what it is when `serve/current` changes.
    ///
    /// # Errors
    /// [`Error::NotABundle`](crate::Error::NotABundle), [`Error::UnknownFormat`](crate::Error::UnknownFormat),
    /// [`Error::Damaged`](crate::Error::Damaged), and [`Error::Runtime`](crate::Error::Runtime) where the library of
    /// [`BundleOptions::onnxruntime`] cannot be loaded or another one is loaded already.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Bundle> {
        if let Some(library) = &self.onnxruntime {
            inference::load(library)?;
        }
        let dir = dir.as_ref();
        Bundle::open(&dir.canonicalize().unwrap_or_else(|_| dir.to_owned()), self.provider, self.workers)
    }
}
