//! A remote: a folder, `s3://`, `gs://` or `az://`, seen as names with bytes (crate `object_store`).
//!
//! Credentials and endpoints come from the environment, under the names that the clouds' own tools use: `AWS_…`, `AZURE_…`, `GOOGLE_…`.
//! Everything above this module is synchronous.

#[cfg(feature = "cloud")]
mod cloud;
mod connect;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use futures::TryStreamExt;
use ledger::ensure;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::runtime::Runtime;
use url::Url;

use crate::error::{Context, Error, Result};

/// An opened remote.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    address: String,
    /// Where the remote is a folder: `object_store` does not sync the files that it writes.
    folder: Option<PathBuf>,
    runtime: Runtime,
}

/// Times that a download is tried when its body breaks off.
const DOWNLOADS: u32 = 4;

impl Remote {
    /// Opens the remote at a URL or a path. Nothing is sent over the network yet.
    ///
    /// * `may_be_new`: creates the folder where the address is one that does not exist.
    ///
    /// # Errors
    /// The address has an unknown scheme, names no bucket, or is a folder that does not exist.
    pub fn open(address: &str, may_be_new: bool) -> Result<Self> {
        let (store, prefix) = connect::connect(address, may_be_new).with_context(|| format!("opening {address}"))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the network threads")?;
        let folder = match address.split_once("://") {
            None => Some(PathBuf::from(address)),
            Some(("file", _)) => Url::parse(address)?.to_file_path().ok(),
            Some(_) => None,
        };
        Ok(Self { store, prefix, address: address.trim_end_matches('/').to_owned(), folder, runtime })
    }

    /// The address that was opened.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of one name, for messages.
    pub fn address_of(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    /// Length in bytes of what is stored under a name; none where nothing is.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking up {}", self.address_of(name))),
        }
    }

    /// Stores bytes under a name, all or none of them. Bytes that the name had before are replaced.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.runtime.block_on(self.store.put(&self.path(name), bytes.into()));
        put.map_err(Error::from).and_then(|_| self.make_durable(name)).with_context(|| {
            format!("writing {}: run the same command again, objects that were written are not sent twice", self.address_of(name))
        })
    }

    /// In a folder: the bytes, their name and the names of new folders survive a power failure before the list that names them is written.
    fn make_durable(&self, name: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(name);
        fs::File::open(&path)?.sync_all()?;
        for above in path.ancestors().skip(1).take_while(|above| above.starts_with(folder)) {
            ledger::fsync_dir(above)?;
        }
        Ok(())
    }

    /// The bytes under a name; none where nothing is stored.
    ///
    /// # Errors
    /// There are more than `limit` bytes, or the remote cannot be read.
    pub fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let once = || {
            self.runtime.block_on(async {
                let found = self.store.get(&path).await?;
                let size = found.meta.size;
                Ok((size, if size <= limit { found.bytes().await?.to_vec() } else { Vec::new() }))
            })
        };
        let mut attempt = 1;
        loop {
            match once() {
                Ok((size, bytes)) => {
                    ensure!(size <= limit, "{} has {size} bytes, expected at most {limit}", self.address_of(name));
                    return Ok(Some(bytes));
                }
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(_) if attempt < DOWNLOADS => std::thread::sleep(Duration::from_millis(200) * attempt * attempt),
                Err(error) => {
                    let fix = "run the same command again, objects that were fetched are not fetched twice";
                    return Err(error).with_context(|| format!("reading {}: {fix}", self.address_of(name)));
                }
            }
            attempt += 1;
        }
    }

    /// Names below a folder with their lengths in bytes, sorted.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let path = self.path(folder);
        let listed: Vec<_> = self
            .runtime
            .block_on(self.store.list(Some(&path)).try_collect())
            .with_context(|| format!("listing {}", self.address_of(folder)))?;
        let name = |location: &Path| {
            location.prefix_match(&path).map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        let mut names: Vec<_> = listed.iter().filter_map(|meta| Some((format!("{folder}/{}", name(&meta.location)?), meta.size))).collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::chain;

    #[test]
    fn a_folder_stores_names_and_limits_the_length() {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::open(&dir.path().join("new").display().to_string(), true).unwrap();
        assert_eq!(remote.size("objects/aa/x").unwrap(), None);
        remote.put("objects/aa/x", b"four".to_vec()).unwrap();
        assert_eq!(remote.size("objects/aa/x").unwrap(), Some(4));
        assert_eq!(remote.get("objects/aa/x", 4).unwrap().as_deref(), Some(&b"four"[..]));
        assert!(remote.get("objects/aa/x", 3).unwrap_err().to_string().contains("expected at most 3"));
        assert_eq!(remote.get("objects/aa/y", 3).unwrap(), None);
        assert_eq!(remote.list("objects").unwrap(), [("objects/aa/x".to_owned(), 4)]);
    }

    #[test]
    fn an_invalid_address_is_refused_with_the_reason() {
        for (address, expected) in
            [("ftp://host/x", "ftp:// is not supported"), ("s3:///x", "names no bucket"), ("/no/such/folder", "is not a folder")]
        {
            let error = chain(&Remote::open(address, false).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
