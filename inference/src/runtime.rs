//! The ONNX Runtime of this process: loaded once, used until the process ends (ort allows one environment).

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use ort::environment::Environment;

use crate::{Error, Result};

/// Version of the ONNX Runtime API that the library must offer (`ort`'s feature `api-24`): ONNX Runtime 1.24 or newer.
pub const API_VERSION: u32 = 24;

struct Loaded {
    /// File of the library, canonical where the file system can tell.
    path: PathBuf,
    environment: Environment,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();
/// Held while a library is being loaded.
static LOADING: Mutex<()> = Mutex::new(());

/// Environment variable that switches off the telemetry of ONNX Runtime. It must be `1` before [`load`]; later is too late.
pub const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Loads the ONNX Runtime library of this process. Loading the same file again does nothing.
///
/// ONNX Runtime 1.30 writes a device id and session events to the home folder and tries to send them. Programs set
/// [`TELEMETRY_VARIABLE`] to `1` in the environment before they load it: this function cannot, because other threads may
/// read the environment.
///
/// # Errors
/// [`Error::OtherLibrary`] where another library is loaded already, [`Error::Load`] where the file is no ONNX Runtime or an older
/// one than [`API_VERSION`].
pub fn load(library: &Path) -> Result<()> {
    let library = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    // A panic of another thread while it loaded leaves nothing half done that this thread could see.
    let _guard = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(loaded) = LOADED.get() {
        if loaded.path == library {
            return Ok(());
        }
        return Err(Error::OtherLibrary { loaded: loaded.path.clone(), requested: library });
    }
    let failed = |message: String| Error::Load { library: library.clone(), message };
    let builder = ort::init_from(&library).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("codenets").build().map_err(|error| failed(error.to_string()))?;
    let _ = LOADED.set(Loaded { path: library, environment });
    Ok(())
}

/// Is a library loaded?
pub fn is_loaded() -> bool {
    LOADED.get().is_some()
}

/// The environment of the loaded library, for code that builds sessions itself.
///
/// # Errors
/// [`Error::NotLoaded`] before [`load`].
pub fn environment() -> Result<&'static Environment> {
    LOADED.get().map(|loaded| &loaded.environment).ok_or(Error::NotLoaded)
}
