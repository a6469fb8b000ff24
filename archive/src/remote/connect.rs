//! Opens an address: a folder or the bucket of a cloud.

use std::{fs, path::PathBuf, sync::Arc};

use ledger::{bail, ensure};
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use url::Url;

use crate::error::{Context, Result};

/// Supported addresses, for messages.
const SCHEMES: &str = "a folder, s3://bucket/path, gs://bucket/path or az://container/path";

/// Schemes of cloud storage.
const CLOUDS: [&str; 7] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];

/// The store of an address, and the path of the address in the store.
pub(super) fn connect(address: &str, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let Some((scheme, _)) = address.split_once("://") else { return folder(PathBuf::from(address), may_be_new) };
    let url = Url::parse(address).context("not a URL")?;
    let prefix = Path::from_url_path(url.path()).context("not a path of a bucket")?;
    if scheme == "file" {
        return folder(url.to_file_path().ok().context("a file:// address needs an absolute path")?, may_be_new);
    }
    ensure!(CLOUDS.contains(&scheme), "{scheme}:// is not supported: use {SCHEMES}");
    ensure!(url.host_str().is_some(), "the address names no bucket: use {SCHEMES}");
    match cloud(scheme, address)? {
        Some(store) => Ok((store, prefix)),
        None => bail!("{scheme}:// is not supported: use {SCHEMES}"),
    }
}

#[cfg(feature = "cloud")]
use super::cloud::connect as cloud;

#[cfg(not(feature = "cloud"))]
fn cloud(scheme: &str, _: &str) -> Result<Option<Arc<dyn ObjectStore>>> {
    bail!("{scheme}:// needs a build with cloud storage: cargo install --path codenets --features cloud")
}

fn folder(dir: PathBuf, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    if may_be_new {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    ensure!(dir.is_dir(), "{} is not a folder: use {SCHEMES}", dir.display());
    Ok((Arc::new(LocalFileSystem::new_with_prefix(dir)?), Path::default()))
}
