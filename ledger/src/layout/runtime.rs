//! The path of the ONNX Runtime library, which is loaded at run time and never linked.

use std::path::{Path, PathBuf};

use crate::{bail, error::Result};

/// Folder of a data folder that `codenets setup` fetches the library into.
pub fn runtime_dir(data: &Path) -> PathBuf {
    data.join("runtime")
}

/// `ORT_DYLIB_PATH`, else `<data>/runtime/libonnxruntime.so`, else `data/runtime/libonnxruntime.so`, which `codenets setup` fetches.
///
/// # Errors
/// No such file.
pub fn onnxruntime_library(data: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            bail!("ORT_DYLIB_PATH names {}, which is not a file: correct it, or unset it and run `codenets setup`", path.display())
        };
    }
    let candidates = [data, Path::new("data")].map(|data| runtime_dir(data).join("libonnxruntime.so"));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("ONNX Runtime is not installed: run `codenets setup`, or set ORT_DYLIB_PATH to a libonnxruntime.so (1.24 or newer)"),
    }
}
