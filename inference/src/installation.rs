//! Where the ONNX Runtime library is installed. Never in a data folder or below the working folder: those may come from someone else.

use std::{
    env,
    path::{Path, PathBuf},
};

use ledger::Digest;

use crate::{
    error::{Context, Error, LIBRARY_VARIABLE, Result},
    runtime,
};

/// Version of ONNX Runtime that `codenets setup` installs.
pub const PINNED_VERSION: &str = "1.30.0";
/// Name of the library's file.
pub const LIBRARY: &str = "libonnxruntime.so";
/// Lines: digest, machine, `folder/file`.
const DIGESTS: &str = include_str!("../../conf/runtime/libraries.blake3");

/// Who chose a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The environment variable [`LIBRARY_VARIABLE`].
    Variable,
    /// Whoever installed the program: the library is in the folder of the program.
    Program,
    /// `codenets setup`, in the folder of this user ([`user_folder`]).
    Setup,
}

/// An ONNX Runtime library that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledLibrary {
    pub path: PathBuf,
    pub chosen_by: ChosenBy,
}

/// Folder that `codenets setup` installs ONNX Runtime into: `codenets/onnxruntime-VERSION` (or `onnxruntime-gpu-VERSION`) in
/// `XDG_DATA_HOME` or `~/.local/share`. None where the user has no home.
pub fn user_folder(gpu: bool) -> Option<PathBuf> {
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    let home = || env::home_dir().and_then(absolute).map(|home| home.join(".local/share"));
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).and_then(absolute).or_else(home)?;
    Some(data.join("codenets").join(format!("onnxruntime{}-{PINNED_VERSION}", if gpu { "-gpu" } else { "" })))
}

/// The library of this process: that of [`LIBRARY_VARIABLE`], else the one next to the program, else the one that
/// `codenets setup` installed (with CUDA where both are there).
///
/// # Errors
/// [`Error::NotInstalled`], and [`Error::NoSuchLibrary`] where the variable names no file.
pub fn installed() -> Result<InstalledLibrary> {
    if let Some(path) = env::var_os(LIBRARY_VARIABLE).map(PathBuf::from) {
        return if path.is_file() { Ok(InstalledLibrary { path, chosen_by: ChosenBy::Variable }) } else { Err(Error::NoSuchLibrary(path)) };
    }
    let program = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let folders = [(program, ChosenBy::Program), (user_folder(true), ChosenBy::Setup), (user_folder(false), ChosenBy::Setup)];
    let candidates =
        folders.into_iter().filter_map(|(folder, chosen_by)| Some(InstalledLibrary { path: folder?.join(LIBRARY), chosen_by }));
    candidates.into_iter().find(|library| library.path.is_file()).ok_or(Error::NotInstalled)
}

/// Loads the library of [`installed`], unless a library is loaded already. A library that `codenets setup` installed must have
/// the pinned bytes.
///
/// # Errors
/// Those of [`installed`] and [`load`](crate::load), and [`Error::OtherBytes`].
pub fn load_installed() -> Result<()> {
    if runtime::is_loaded() {
        return Ok(());
    }
    let library = installed()?;
    if library.chosen_by == ChosenBy::Setup {
        library.check()?;
    }
    runtime::load(&library.path)
}

impl InstalledLibrary {
    /// Checks the library and the files next to it against the pinned digests.
    ///
    /// # Errors
    /// [`Error::OtherBytes`] for a file with other bytes.
    pub fn check(&self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        for (file, digest) in pinned_files(&name) {
            let path = folder.join(file);
            let own = Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?;
            if own.to_string() != digest {
                return Err(Error::OtherBytes { file: path });
            }
        }
        Ok(())
    }

    /// Has the library the bytes of a pinned one?
    pub fn is_pinned(&self) -> Result<bool> {
        let own = Digest::of_file(&self.path).with_context(|| format!("reading {}", self.path.display()))?.to_string();
        Ok(DIGESTS.lines().any(|line| line.starts_with(&own)))
    }
}

/// Names and digests of the files that `codenets setup` puts into a folder, on this machine.
fn pinned_files(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    DIGESTS.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let (digest, rest) = line.split_once(' ')?;
        let file = rest.strip_prefix(env::consts::ARCH)?.trim_start().strip_prefix(folder)?.strip_prefix('/')?;
        Some((file, digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_pinned_wheels() {
        for (wheels, folder) in [
            (include_str!("../../conf/runtime/onnxruntime.txt"), "onnxruntime"),
            (include_str!("../../conf/runtime/onnxruntime-gpu.txt"), "onnxruntime-gpu"),
        ] {
            assert!(wheels.contains(&format!("{folder}=={PINNED_VERSION} ")), "{wheels}");
            assert!(DIGESTS.contains(&format!(" {folder}-{PINNED_VERSION}/{LIBRARY}")), "{folder}");
        }
    }

    #[test]
    fn an_installed_library_with_other_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(format!("onnxruntime-{PINNED_VERSION}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(LIBRARY), "another program").unwrap();
        let library = InstalledLibrary { path: folder.join(LIBRARY), chosen_by: ChosenBy::Setup };
        assert!(matches!(library.check(), Err(Error::OtherBytes { .. })));
        assert!(!library.is_pinned().unwrap());
    }
}
