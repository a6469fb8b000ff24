//! Opens an address: a folder or the bucket of a cloud.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use ledger::{bail, ensure};
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem, path::Path,
};
use url::Url;

use crate::error::{Context, Result};

/// Supported addresses, for messages.
const SCHEMES: &str = "a folder, s3://bucket/path, gs://bucket/path or az://container/path";
/// Time limit of one request: a chunk must pass within it on a slow line.
const REQUEST_TIMEOUT: &str = "300 seconds";

/// The store of an address, and the path of the address in the store.
pub(super) fn connect(address: &str, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let Some((scheme, _)) = address.split_once("://") else { return folder(PathBuf::from(address), may_be_new) };
    let url = Url::parse(address).context("not a URL")?;
    let prefix = Path::from_url_path(url.path()).context("not a path of a bucket")?;
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
        max_retries: 6,
        retry_timeout: Duration::from_secs(120),
    };
    // The builders share no trait. `$prefix`: how the names of their environment variables begin.
    macro_rules! build {
        ($builder:ty, $prefix:literal) => {{
            ensure!(url.host_str().is_some(), "the address names no bucket: use {SCHEMES}");
            let mut builder = <$builder>::new().with_url(address).with_retry(retry);
            let own = [("timeout".to_owned(), REQUEST_TIMEOUT.to_owned())];
            for (name, value) in own.into_iter().chain(std::env::vars().filter(|(name, _)| name.starts_with($prefix))) {
                if let Ok(key) = name.to_ascii_lowercase().parse() {
                    builder = builder.with_config(key, value);
                }
            }
            Arc::new(builder.build()?) as Arc<dyn ObjectStore>
        }};
    }
    let store = match scheme {
        "file" => return folder(url.to_file_path().ok().context("a file:// address needs an absolute path")?, may_be_new),
        "s3" | "s3a" => build!(AmazonS3Builder, "AWS_"),
        "gs" => build!(GoogleCloudStorageBuilder, "GOOGLE_"),
        "az" | "azure" | "abfs" | "abfss" => build!(MicrosoftAzureBuilder, "AZURE_"),
        other => bail!("{other}:// is not supported: use {SCHEMES}"),
    };
    Ok((store, prefix))
}

fn folder(dir: PathBuf, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    if may_be_new {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    ensure!(dir.is_dir(), "{} is not a folder: use {SCHEMES}", dir.display());
    Ok((Arc::new(LocalFileSystem::new_with_prefix(dir)?), Path::default()))
}
