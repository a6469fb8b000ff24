//! The ONNX Runtime of this process: loaded once, used until the process ends (ort allows one environment).

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use ort::environment::Environment;

use crate::{Error, Result, error::LIBRARY_VARIABLE};

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

/// Loads the ONNX Runtime library of this process. Loading the same file again does nothing.
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

/// Loads the library that the environment variable [`LIBRARY_VARIABLE`] names, unless a library is loaded already.
///
/// # Errors
/// [`Error::NotLoaded`] where the variable is not set, and the errors of [`load`].
pub fn load_default() -> Result<()> {
    if is_loaded() {
        return Ok(());
    }
    load(&env::var_os(LIBRARY_VARIABLE).map(PathBuf::from).ok_or(Error::NotLoaded)?)
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
