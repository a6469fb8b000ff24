//! Where a run's artifacts go: through the server's proxy, or into a folder of this machine. Stores that want credentials
//! of their own (`s3://` and the like) are left out.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use reqwest::Url;

use super::{server::Server, spool::Content};

/// Of one run.
#[derive(Debug, PartialEq)]
pub enum Destination {
    /// The address below which files are put.
    Proxy(Url),
    Folder(PathBuf),
    /// And why.
    Nowhere(String),
}

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

impl Destination {
    /// By the `artifact_uri` of a run.
    pub fn of(uri: &str, server: &str) -> Self {
        let nowhere = |why: &str| Self::Nowhere(format!("{uri:?} {why}"));
        let Ok(server_url) = Url::parse(server) else { return nowhere("is of no server") };
        let on_this_machine = matches!(server_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let folder = |path: &str| {
            if on_this_machine {
                return Self::Folder(PathBuf::from(path));
            }
            nowhere("is a folder of the server's machine: start it with --serve-artifacts")
        };
        if uri.starts_with('/') {
            return folder(uri);
        }
        let Ok(url) = Url::parse(uri) else { return nowhere("is no address of artifacts") };
        let is_servers = || url.host_str().is_none_or(|host| Some(host) == server_url.host_str());
        let proxy = |address: String| Url::parse(&address).map_or_else(|_| nowhere("is no address of artifacts"), Self::Proxy);
        match url.scheme() {
            "mlflow-artifacts" if is_servers() => proxy(format!("{server}{PROXY}{}", url.path())),
            "http" | "https" if uri.starts_with(&format!("{server}{PROXY}/")) => proxy(uri.to_owned()),
            "mlflow-artifacts" | "http" | "https" => nowhere("is another server's"),
            "file" => folder(url.path()),
            _ => nowhere("is a store that only its own client writes to: start the server with --serve-artifacts"),
        }
    }

    /// Puts one file; its content comes from below `data`.
    pub fn put(&self, server: &Server, name: &str, content: &Content, data: &Path) -> Result<()> {
        let context = || format!("the artifact {name}");
        match self {
            Self::Nowhere(_) => Ok(()),
            Self::Proxy(below) => {
                let mut url = below.clone();
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
    fn artifacts_go_where_the_server_says() {
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
            ("mlflow-artifacts://elsewhere/1/a", here, "another server's"),
            ("https://elsewhere/api/2.0/mlflow-artifacts/artifacts/1", here, "another server's"),
            ("./mlruns/1", here, "no address"),
        ] {
            assert!(matches!(Destination::of(uri, server), Destination::Nowhere(said) if said.contains(why)), "{uri}");
        }
    }
}
