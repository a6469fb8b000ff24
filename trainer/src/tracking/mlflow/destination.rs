//! Where the artifacts of a run are stored: through the proxy of the server, or in a folder of this machine. Stores that need credentials of
//! their own (such as `s3://`) are not supported.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use reqwest::Url;

use super::{server::Server, spool::Content};
use crate::error::{Context, Result};

/// Where the artifacts of a run are stored.
#[derive(Debug, PartialEq)]
pub enum Destination {
    /// Address of the folder of the run.
    Proxy(Url),
    Folder(PathBuf),
    /// They cannot be stored, with the reason.
    Unsupported(String),
}

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

impl Destination {
    /// The destination of a run, from its `artifact_uri` and the address of the server.
    pub fn of(uri: &str, server: &str) -> Self {
        let unsupported = |why: &str| Self::Unsupported(format!("{uri:?} {why}"));
        let Ok(server_url) = Url::parse(server) else { return unsupported("belongs to no server") };
        let on_this_machine = matches!(server_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let folder = |path: &str| {
            if on_this_machine {
                return Self::Folder(PathBuf::from(path));
            }
            unsupported("is a folder of the server's machine: start the server with --serve-artifacts")
        };
        if uri.starts_with('/') {
            return folder(uri);
        }
        let Ok(url) = Url::parse(uri) else { return unsupported("is not an address of artifacts") };
        let is_servers = || url.host_str().is_none_or(|host| Some(host) == server_url.host_str());
        let proxy = |address: String| Url::parse(&address).map_or_else(|_| unsupported("is not an address of artifacts"), Self::Proxy);
        match url.scheme() {
            "mlflow-artifacts" if is_servers() => proxy(format!("{server}{PROXY}{}", url.path())),
            "http" | "https" if uri.starts_with(&format!("{server}{PROXY}/")) => proxy(uri.to_owned()),
            "mlflow-artifacts" | "http" | "https" => unsupported("belongs to another server"),
            "file" => folder(url.path()),
            _ => unsupported("is a store that needs its own client: start the server with --serve-artifacts"),
        }
    }

    /// Stores one file; `data` is the data folder.
    pub fn put(&self, server: &Server, name: &str, content: &Content, data: &Path) -> Result<()> {
        let context = || format!("uploading the artifact {name}");
        match self {
            Self::Unsupported(_) => Ok(()),
            Self::Proxy(folder) => {
                let mut url = folder.clone();
                if let Ok(mut path) = url.path_segments_mut() {
                    path.pop_if_empty().extend(name.split('/'));
                }
                match content {
                    Content::Text(text) => server.upload(url.as_str(), text.clone().into(), text.len() as u64),
                    Content::File(file) => server.upload_file(url.as_str(), File::open(data.join(file)).with_context(context)?),
                }
                .with_context(context)
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(context)?;
                match content {
                    Content::Text(text) => fs::write(&path, text),
                    Content::File(file) => fs::copy(data.join(file), &path).map(drop),
                }
                .with_context(context)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_stored_where_the_server_says() {
        let here = "http://127.0.0.1:5000";
        let proxy = |text: &str| Destination::Proxy(Url::parse(text).unwrap());
        let below = "http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts/1/a/artifacts";
        assert_eq!(Destination::of("mlflow-artifacts:/1/a/artifacts", here), proxy(below));
        assert_eq!(Destination::of("mlflow-artifacts://127.0.0.1/1/a/artifacts", here), proxy(below));
        assert_eq!(Destination::of(below, here), proxy(below));
        assert_eq!(Destination::of("/srv/1/a", here), Destination::Folder("/srv/1/a".into()));
        assert_eq!(Destination::of("file:///srv/1/a", here), Destination::Folder("/srv/1/a".into()));
        for (uri, server, why) in [
            ("s3://bucket/1/a", here, "--serve-artifacts"),
            ("/srv/1/a", "https://far", "server's machine"),
            ("mlflow-artifacts://elsewhere/1/a", here, "another server"),
            ("https://elsewhere/api/2.0/mlflow-artifacts/artifacts/1", here, "another server"),
            ("./mlruns/1", here, "not an address"),
        ] {
            assert!(matches!(Destination::of(uri, server), Destination::Unsupported(reason) if reason.contains(why)), "{uri}");
        }
    }
}
