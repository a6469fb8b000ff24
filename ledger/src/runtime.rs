//! Where the onnxruntime library lies: it is loaded at run time, never linked.

use std::path::{Path, PathBuf};

use crate::{bail, error::Result};

/// `ORT_DYLIB_PATH`, else `<data>/runtime/libonnxruntime.so`, else the same below `data/`, where
/// `make setup` puts it.
pub fn onnxruntime_library(data: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from) {
        return if path.is_file() { Ok(path) } else { bail!("ORT_DYLIB_PATH names {}, which is no file", path.display()) };
    }
    let candidates = [data, Path::new("data")].map(|data| data.join("runtime").join("libonnxruntime.so"));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("onnxruntime is not here: run `make setup`, or set ORT_DYLIB_PATH to a libonnxruntime.so (1.24 or newer)"),
    }
}
