//! `CHECKSUMS`: blake3 and path of every file of a bundle, one a line, as `b3sum --check` reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use ledger::Digest;
use walkdir::WalkDir;

use crate::{Error, Result, error::Context};

/// Name of the file in a bundle.
pub const CHECKSUMS: &str = "CHECKSUMS";

/// Is this a lock of tantivy? Other readers (tantivy-py) write them into the folder of the lexical index.
fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tantivy-") && name.to_string_lossy().ends_with(".lock"))
}

/// Every file below `dir`, relative and sorted, without `CHECKSUMS` itself, locks of tantivy, and hidden files at the top, which a
/// killed writer leaves.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir) {
        let entry = entry.map_err(std::io::Error::from).with_context(|| format!("listing {}", dir.display()))?;
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        if !entry.file_type().is_dir() && path.as_os_str() != CHECKSUMS && !path.to_string_lossy().starts_with('.') && !is_lock(path) {
            found.push(path.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Compares some files of a bundle (paths relative to it) with its `CHECKSUMS`, once in this process while they do not change. Does
/// nothing where the bundle has no `CHECKSUMS`, because it is being built.
///
/// # Errors
/// [`Error::Damaged`] for a file that differs or is not listed.
pub fn verify_once(dir: &Path, paths: &[PathBuf]) -> Result<()> {
    static VERIFIED: Mutex<BTreeSet<(u64, u64, u64, SystemTime)>> = Mutex::new(BTreeSet::new());
    let list = dir.join(CHECKSUMS);
    if !list.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let expected: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once("  ")).map(|(digest, path)| (path, digest)).collect();
    for path in paths {
        let file = dir.join(path);
        let meta = fs::metadata(&file).with_context(|| format!("opening {}", file.display()))?;
        let state = (meta.dev(), meta.ino(), meta.len(), meta.modified()?);
        if VERIFIED.lock().unwrap_or_else(PoisonError::into_inner).contains(&state) {
            continue;
        }
        let digest = Digest::of_file(&file)?.to_string();
        if expected.get(path.to_string_lossy().as_ref()) != Some(&digest.as_str()) {
            return Err(Error::damaged(file, format!("its bytes differ from {CHECKSUMS}")));
        }
        VERIFIED.lock().unwrap_or_else(PoisonError::into_inner).insert(state);
    }
    Ok(())
}

/// Compares every file of a bundle with its `CHECKSUMS`.
///
/// # Errors
/// [`Error::Damaged`] for the first file that differs, is missing or was added.
pub fn verify(dir: &Path) -> Result<()> {
    let text = fs::read_to_string(dir.join(CHECKSUMS)).with_context(|| format!("{} has no {CHECKSUMS}", dir.display()))?;
    let expected: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path, digest))
        .filter(|(path, _)| !is_lock(Path::new(path)))
        .collect();
    let present = files(dir)?;
    for path in &present {
        let (name, file) = (path.display().to_string(), dir.join(path));
        match expected.get(name.as_str()) {
            None => return Err(Error::damaged(file, format!("it is not in {CHECKSUMS}"))),
            Some(digest) if *digest != Digest::of_file(&file)?.to_string() => {
                return Err(Error::damaged(file, format!("its bytes differ from {CHECKSUMS}")));
            }
            Some(_) => {}
        }
    }
    match expected.keys().find(|name| !present.iter().any(|path| path == Path::new(name))) {
        Some(missing) => Err(Error::damaged(dir.join(missing), format!("{CHECKSUMS} lists it, and it does not exist"))),
        None => Ok(()),
    }
}
