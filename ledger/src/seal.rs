//! Making bytes durable: fsync, hash, rename. Nothing here knows what the bytes mean.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use crate::{
    Digest, bail, ensure,
    error::{Context, Result},
    fault,
    manifest::FileRecord,
};

/// Begins the name of a file that is not whole yet.
pub(crate) const TEMPORARY: &str = ".writing-";

/// Every regular file below `dir`, relative and sorted. A symbolic link is refused: an artifact is
/// whole in itself.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    fn walk(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(root.join(below)).with_context(|| format!("listing {}", below.display()))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                walk(root, &path, files)?;
            } else if kind.is_file() {
                files.push(path);
            } else {
                bail!("{} is not a plain file", root.join(path).display());
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(dir, Path::new(""), &mut files)?;
    files.sort();
    Ok(files)
}

/// Hashes and fsyncs every file below `dir`.
pub(crate) fn hash_files(dir: &Path) -> Result<BTreeMap<PathBuf, FileRecord>> {
    files_below(dir)?
        .into_par_iter()
        .map(|path| {
            let full = dir.join(&path);
            let file = File::open(&full)?;
            fault::point("fsync of an output");
            file.sync_all()?;
            let record = FileRecord { bytes: file.metadata()?.len(), blake3: Digest::of_file(&full)? };
            Ok((path, record))
        })
        .collect::<Result<_>>()
        .with_context(|| format!("hashing {}", dir.display()))
}

/// Fsyncs every file and directory below and including `dir`.
pub fn fsync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fsync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    fsync_dir(dir)
}

/// A temporary folder is its owner's alone; what is sealed may be read by others.
pub fn open_to_all(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).with_context(|| format!("opening {} to all", dir.display()))?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub fn fsync_dir(dir: &Path) -> Result<()> {
    fault::point("fsync of a folder");
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("syncing {}", dir.display()))
}

/// Writes beside `path`, fsyncs, renames over it: a reader sees the old bytes or the new ones.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(dir)?;
    let write = || -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fault::point(&format!("making the temporary of {name}"));
        let mut temporary = tempfile::NamedTempFile::with_prefix_in(TEMPORARY, dir)?;
        // Two writes, so that a crash between them leaves half a file.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        temporary.write_all(first)?;
        fault::point(&format!("the second half of {name}"));
        temporary.write_all(second)?;
        fault::point(&format!("fsync of {name}"));
        temporary.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        fault::point(&format!("rename to {name}"));
        temporary.persist(path).map_err(|error| error.error)?;
        fsync_dir(dir)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Points the symbolic link `link` at `target` by rename(2): it never dangles in between.
pub fn publish_link(link: &Path, target: &Path) -> Result<()> {
    let dir = link.parent().context("a link lies in a folder")?;
    let name = link.file_name().context("a link has a name")?.to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    fault::point("making a link");
    std::os::unix::fs::symlink(target, &temporary)?;
    ensure!(
        fs::symlink_metadata(link).map(|meta| meta.file_type().is_symlink()).unwrap_or(true),
        "{} is not a symbolic link: move it away",
        link.display()
    );
    fault::point("rename to a link");
    fs::rename(&temporary, link).with_context(|| format!("pointing {} at {}", link.display(), target.display()))?;
    fsync_dir(dir)
}
