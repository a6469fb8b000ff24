//! Durable files: list, sync and replace them atomically. This module knows nothing about their contents.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use walkdir::WalkDir;

use crate::{
    bail, ensure,
    error::{Context, Error, Result},
    fault,
};

/// Prefix of the name of a file that is being written.
pub(crate) const TEMPORARY: &str = ".writing-";

/// Is the path relative and without `..`, so that it stays in the folder that it is joined to?
pub fn is_plain(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Every regular file below `dir`: paths relative to `dir`, sorted.
///
/// # Errors
/// A folder that cannot be listed, or a symbolic link or special file: an artifact contains all of its bytes.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(dir).min_depth(1) {
        let entry = entry.map_err(|error| walk_error(dir, error))?;
        if entry.file_type().is_file() {
            files.push(entry.path().strip_prefix(dir).unwrap_or(entry.path()).to_owned());
        } else if !entry.file_type().is_dir() {
            bail!("{} is not a plain file", entry.path().display());
        }
    }
    files.sort();
    Ok(files)
}

/// Syncs every file and folder below `dir`, and `dir`, to disk.
pub fn fsync_tree(dir: &Path) -> Result<()> {
    // A folder after its contents.
    for entry in WalkDir::new(dir).contents_first(true) {
        let entry = entry.map_err(|error| walk_error(dir, error))?;
        if entry.file_type().is_dir() {
            fsync_dir(entry.path())?;
        } else {
            File::open(entry.path()).and_then(|file| file.sync_all()).map_err(Error::io("syncing", entry.path()))?;
        }
    }
    Ok(())
}

fn walk_error(dir: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(dir).to_owned();
    match error.into_io_error() {
        Some(source) => Error::Io { action: "listing", path, source },
        // walkdir reports loops of links only where it follows links.
        None => Error::Invalid(crate::Invalid(format!("listing {}: a link leads to a folder above it", path.display()))),
    }
}

/// Syncs the names in a folder to disk.
pub fn fsync_dir(dir: &Path) -> Result<()> {
    fault::point("fsync of a folder");
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("syncing", dir))
}

/// Creates a temporary folder that others may enter as far as the umask allows, because it will be renamed to its final name.
pub fn scratch_folder(prefix: &str, parent: &Path) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(fs::Permissions::from_mode(0o777));
    builder.tempdir_in(parent).map_err(Error::io("creating a folder in", parent))
}

/// Creates a temporary file that others may read as far as the umask allows, because it will be renamed to its final name.
pub fn scratch_file(prefix: &str, parent: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(fs::Permissions::from_mode(0o666));
    builder.tempfile_in(parent).map_err(Error::io("creating a file in", parent))
}

/// Replaces a file: a reader sees the old bytes or the new ones, also after a crash. Creates the folder of the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file path needs a folder")?;
    fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
    let write = || -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fault::point(&format!("making the temporary of {name}"));
        let mut temporary = scratch_file(TEMPORARY, dir)?;
        // Two writes, so that a test that kills the process between them finds half a file.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        temporary.write_all(first)?;
        fault::point(&format!("the second half of {name}"));
        temporary.write_all(second)?;
        fault::point(&format!("fsync of {name}"));
        temporary.as_file().sync_all()?;
        fault::point(&format!("rename to {name}"));
        temporary.persist(path).map_err(|error| error.error)?;
        fsync_dir(dir)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Points the symbolic link `link` at `target` with rename(2): the link exists at every moment.
///
/// # Errors
/// `link` exists and is not a symbolic link.
pub fn publish_link(link: &Path, target: &Path) -> Result<()> {
    let dir = link.parent().context("a link path needs a folder")?;
    let name = link.file_name().context("a link path needs a name")?.to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    fault::point("making a link");
    std::os::unix::fs::symlink(target, &temporary).map_err(Error::io("linking", &temporary))?;
    ensure!(
        fs::symlink_metadata(link).map(|meta| meta.file_type().is_symlink()).unwrap_or(true),
        "{} is not a symbolic link: move it away",
        link.display()
    );
    fault::point("rename to a link");
    fs::rename(&temporary, link).with_context(|| format!("pointing {} at {}", link.display(), target.display()))?;
    fsync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_relative_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["z", "a/b/c", "a-c"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(files_below(dir.path()).unwrap(), ["a/b/c", "a-c", "z"].map(PathBuf::from));
        fsync_tree(dir.path()).unwrap();
    }

    #[test]
    fn a_link_in_an_artifact_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(files_below(dir.path()).unwrap_err().to_string().ends_with("link is not a plain file"));
    }

    #[test]
    fn plain_paths_stay_in_their_folder() {
        assert!(is_plain(Path::new("checkpoint/a/context.json")));
        assert!(["", "..", "../a", "a/../b", "/a"].iter().all(|path| !is_plain(Path::new(path))));
    }

    proptest::proptest! {
        #[test]
        fn a_path_that_leaves_its_folder_is_not_plain(parts in proptest::collection::vec("[a-z.]{1,3}|\\.\\.", 1..5), absolute: bool) {
            let path = PathBuf::from(format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")));
            let leaves = absolute || parts.iter().any(|part| part == "..");
            proptest::prop_assert!(!(leaves && is_plain(&path)), "{}", path.display());
        }
    }
}
