//! Files that are copied into the artifact as they are.

use std::{fs, path::Path};

use ledger::ensure;

use crate::{
    error::{Context, Result},
    files::data_files,
};

/// Copies every regular file of a folder. Hard links are not used: later changes of the source must not change the artifact.
/// Returns the number of files, and the number of links that were not followed.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(u64, u64)> {
    let (paths, links) = data_files(from)?;
    for path in &paths {
        let (source, target) = (from.join(path), to.join(path));
        create_parent(&target)?;
        fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
    }
    ensure!(!paths.is_empty(), "no files in {}: correct harvest.source.path", from.display());
    Ok((paths.len() as u64, links))
}

/// Hard-links a verified download from the cache, or copies it where the file system has no hard links.
pub fn link_download(cached: &Path, target: &Path) -> Result<()> {
    create_parent(target)?;
    ensure!(!target.exists(), "{} exists already: name every file once", target.display());
    fs::hard_link(cached, target).or_else(|_| fs::copy(cached, target).map(|_| ())).with_context(|| format!("copying {}", cached.display()))
}

fn create_parent(target: &Path) -> Result<()> {
    let parent = target.parent().context("a file is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))
}
