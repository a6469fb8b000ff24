//! Files of a source folder.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use ledger::ensure;

use super::{git, left_out::LeftOut};
use crate::{
    error::{Context, Result},
    files::{FileKind, find_files, hidden_folder, is_hidden},
};

/// Regular files below a folder, relative and sorted. Of a git checkout: the files that git does not ignore. Else: the files
/// outside hidden folders. Links are not followed.
pub fn paths_below(root: &Path) -> Result<Vec<String>> {
    let mut paths = match git::listed_files(root)? {
        Some(listed) => listed,
        None => find_files(root, &|folder| !is_hidden(folder))?.into_iter().map(|file| file.path).collect(),
    };
    paths.retain(|path| fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_file()));
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Files and links below a folder that [`paths_below`] does not return, with the reason. The content of `.git` is not part of
/// the source and not listed.
pub fn other_paths_below(root: &Path) -> Result<Vec<(String, LeftOut)>> {
    let read: HashSet<String> = paths_below(root)?.into_iter().collect();
    let is_checkout = git::listed_files(root)?.is_some();
    let found = find_files(root, &|folder| folder != ".git")?;
    let others = found.into_iter().filter(|file| !read.contains(&file.path)).map(|file| {
        let reason = match (file.kind, is_checkout, hidden_folder(&file.path)) {
            (FileKind::Link, ..) => LeftOut::Link,
            (FileKind::Regular, false, Some(hidden)) => LeftOut::HiddenFolder(hidden.to_owned()),
            (FileKind::Regular, ..) => LeftOut::GitIgnored,
        };
        (file.path, reason)
    });
    Ok(others.collect())
}

/// Subfolders that are not hidden, sorted.
///
/// # Errors
/// Where there is none.
pub fn subfolders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("listing {}", root.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !is_hidden(&entry.file_name().to_string_lossy()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    ensure!(!folders.is_empty(), "{} has no subfolders: set each-subfolder = false to read it as one repository", root.display());
    Ok(folders)
}
