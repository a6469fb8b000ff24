//! Where records are saved: a folder, `s3://`, `gs://` or `az://`, seen as names with bytes (crate `object_store`).
//!
//! Credentials and endpoints are those that the environment gives, by the names that the clouds' own tools use: `AWS_…`, `AZURE_…`,
//! `GOOGLE_…`. Nothing above this file is asynchronous.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::TryStreamExt;
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, path::Path,
};
use tokio::runtime::Runtime;
use url::Url;

/// A place that is reached.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    address: String,
    /// Of a folder: the crate does not make what it writes durable.
    folder: Option<PathBuf>,
    runtime: Runtime,
}

/// Schemes that are understood, for people.
const SCHEMES: &str = "a folder, s3://bucket/path, gs://bucket/path or az://container/path";
/// Of one request: a chunk must pass in it on a slow line.
const REQUEST_TIMEOUT: &str = "300 seconds";
/// Times that a download is begun anew when its body breaks off.
const DOWNLOADS: u32 = 4;

impl Remote {
    /// Opens an address, by which a folder is made if it `may_be_new`. The network is not asked yet.
    pub fn open(address: &str, may_be_new: bool) -> Result<Self> {
        let (store, prefix) = connect(address, may_be_new).with_context(|| format!("opening {address}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the network")?;
        let folder = match address.split_once("://") {
            None => Some(PathBuf::from(address)),
            Some(("file", _)) => Url::parse(address)?.to_file_path().ok(),
            Some(_) => None,
        };
        Ok(Self { store, prefix, address: address.trim_end_matches('/').to_owned(), folder, runtime })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of one name, for people.
    pub fn address_of(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    /// Bytes under a name, or none.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(told(&error)).with_context(|| format!("asking for {}", self.address_of(name))),
        }
    }

    /// Puts bytes under a name, all or none of them, over what was there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.runtime.block_on(self.store.put(&self.path(name), bytes.into()));
        put.map(drop)
            .map_err(|error| told(&error))
            .and_then(|()| self.make_durable(name))
            .with_context(|| format!("writing {} (what is there already stays: run the same command again)", self.address_of(name)))
    }

    /// Of a folder: the bytes and their name survive a power cut before what names them is written.
    fn make_durable(&self, name: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(name);
        fs::File::open(&path)?.sync_all()?;
        ledger::fsync_dir(path.parent().context("a file lies in a folder")?)
    }

    /// The bytes under a name, if they are not more than `most`.
    pub fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let once = || {
            self.runtime.block_on(async {
                let found = self.store.get(&path).await?;
                let size = found.meta.size;
                Ok((size, if size <= most { found.bytes().await?.to_vec() } else { Vec::new() }))
            })
        };
        for attempt in 1.. {
            match once() {
                Ok((size, bytes)) => {
                    ensure!(size <= most, "{} has {size} bytes, more than the {most} that it can have", self.address_of(name));
                    return Ok(Some(bytes));
                }
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(_) if attempt < DOWNLOADS => std::thread::sleep(Duration::from_millis(200) * attempt * attempt),
                Err(error) => {
                    let remedy = "what was fetched already stays: run the same command again";
                    return Err(told(&error)).with_context(|| format!("reading {} ({remedy})", self.address_of(name)));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Names below a folder, with their sizes, sorted.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let path = self.path(folder);
        let listed: Vec<_> = self
            .runtime
            .block_on(self.store.list(Some(&path)).try_collect())
            .map_err(|error: object_store::Error| told(&error))
            .with_context(|| format!("listing {}", self.address_of(folder)))?;
        let name = |location: &Path| {
            location.prefix_match(&path).map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        let mut names: Vec<_> = listed.iter().filter_map(|meta| Some((format!("{folder}/{}", name(&meta.location)?), meta.size))).collect();
        names.sort();
        Ok(names)
    }
}

/// Its text alone: it holds those of its causes.
fn told(error: &object_store::Error) -> anyhow::Error {
    anyhow!("{error}")
}

fn connect(address: &str, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let Some((scheme, _)) = address.split_once("://") else { return folder(PathBuf::from(address), may_be_new) };
    let url = Url::parse(address).context("the address is no URL")?;
    let prefix = Path::from_url_path(url.path()).context("the path of the address")?;
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
        max_retries: 6,
        retry_timeout: Duration::from_secs(120),
    };
    // Each builder takes its options by its own type: `$prefix` begins the variables that are meant for it.
    macro_rules! build {
        ($builder:ty, $prefix:literal) => {{
            ensure!(url.host_str().is_some(), "the address names no bucket: {SCHEMES}");
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
        "file" => return folder(url.to_file_path().ok().context("a file:// address names an absolute path")?, may_be_new),
        "s3" | "s3a" => build!(AmazonS3Builder, "AWS_"),
        "gs" => build!(GoogleCloudStorageBuilder, "GOOGLE_"),
        "az" | "azure" | "abfs" | "abfss" => build!(MicrosoftAzureBuilder, "AZURE_"),
        other => bail!("{other}:// is not understood: {SCHEMES} is"),
    };
    Ok((store, prefix))
}

fn folder(dir: PathBuf, may_be_new: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
    if may_be_new {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    ensure!(dir.is_dir(), "{} is not a folder", dir.display());
    Ok((Arc::new(LocalFileSystem::new_with_prefix(dir)?), Path::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_names_and_refuses_what_is_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::open(&dir.path().join("new").display().to_string(), true).unwrap();
        assert_eq!(remote.size("objects/aa/x").unwrap(), None);
        remote.put("objects/aa/x", b"four".to_vec()).unwrap();
        assert_eq!(remote.size("objects/aa/x").unwrap(), Some(4));
        assert_eq!(remote.get("objects/aa/x", 4).unwrap().as_deref(), Some(&b"four"[..]));
        assert!(remote.get("objects/aa/x", 3).unwrap_err().to_string().contains("more than the 3"));
        assert_eq!(remote.get("objects/aa/y", 3).unwrap(), None);
        assert_eq!(remote.list("objects").unwrap(), [("objects/aa/x".to_owned(), 4)]);
    }

    #[test]
    fn addresses_that_are_none_are_told_which_there_are() {
        for (address, said) in
            [("ftp://host/x", "ftp:// is not understood"), ("s3:///x", "names no bucket"), ("/no/such/folder", "is not a folder")]
        {
            let error = format!("{:#}", Remote::open(address, false).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
