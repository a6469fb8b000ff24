//! The onnxruntime of this process: loaded once, kept to the end (ort allows one environment).

use std::{path::Path, sync::OnceLock};

use anyhow::{Context, Result, anyhow};
use ort::environment::Environment;

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// Loads the library. A second call changes nothing.
pub fn load(library: &Path) -> Result<()> {
    if ENVIRONMENT.get().is_none() {
        let builder = ort::init_from(library).with_context(|| format!("loading {}", library.display()))?;
        let environment = builder.with_name("codenets").build().map_err(|error| anyhow!("onnxruntime: {error}"))?;
        let _ = ENVIRONMENT.set(environment);
    }
    Ok(())
}

pub fn environment() -> Result<&'static Environment> {
    ENVIRONMENT.get().context("onnxruntime is not loaded")
}
