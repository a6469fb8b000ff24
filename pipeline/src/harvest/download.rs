//! Downloads files by URL and verifies their sha256. Several mirrors are tried in order, an interrupted download is resumed,
//! and several files are downloaded at the same time. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`).

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

use ledger::{Bar, Invalid, Progress, bail, chain, conf::SecretUrl, ensure};
use reqwest::{
    StatusCode,
    blocking::{Client, Response},
    header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE},
};

use super::{
    sha256::{is_sha256, sha256_of},
    source::Remote,
};
use crate::error::{Context, Error, Result};

/// Attempts at one mirror. Each resumes where the last one ended.
const MAX_ATTEMPTS: u32 = 5;
/// Largest size of a file whose size is not configured.
const MAX_BYTES: u64 = 64 << 30;
/// Largest number of downloads at the same time.
const MAX_PARALLEL: usize = 16;
/// Longest wait for the next bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why an attempt ended.
enum Failure {
    /// The connection ended or the server is busy. The next attempt resumes.
    Interrupted(Error),
    /// This mirror does not have the file.
    Refused(Error),
    /// The fault is not the mirror's, for example a full disk.
    Local(Error),
}

fn check(file: &Remote) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name =
        !file.name.is_empty() && file.name.split('/').all(|part| !part.starts_with('.') && !part.is_empty() && part.chars().all(is_plain));
    ensure!(is_name, "{:?} is not a file name: use letters, digits, `.`, `_`, `-`, and `/` between folders", file.name);
    ensure!(is_sha256(&file.sha256), "{}: {:?} is not a sha256 in lower-case hex: correct harvest.sources", file.name, file.sha256);
    ensure!(!file.mirrors.is_empty(), "{}: no mirrors: name at least one URL", file.name);
    let is_http = |url: &&SecretUrl| url.expose().starts_with("https://") || url.expose().starts_with("http://");
    if let Some(other) = file.mirrors.iter().find(|url| !is_http(url)) {
        bail!("{}: {other:?} is not an http or https URL: correct harvest.sources", file.name);
    }
    Ok(())
}

fn cached(file: &Remote, cache: &Path) -> PathBuf {
    cache.join(&file.sha256)
}

/// Downloads the files that are not in the cache, `parallel` at the same time. Returns the path of each file; its sha256 is
/// verified.
pub fn fetch(files: &[Remote], parallel: usize, cache: &Path, progress: &Progress) -> Result<Vec<PathBuf>> {
    files.iter().try_for_each(check)?;
    let mut names = HashSet::new();
    if let Some(file) = files.iter().find(|file| !names.insert(&file.name)) {
        bail!("two files have the name {}: name every file once", file.name);
    }
    let cache = cache.join("urls");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let total = files.iter().map(|file| file.bytes).sum::<Option<u64>>().unwrap_or_default();
    let bar = progress.bar("fetch", total, "bytes");
    // The timeout of the blocking client applies to each read, not to the whole body.
    let client =
        Client::builder().connect_timeout(Duration::from_secs(20)).timeout(READ_TIMEOUT).build().context("starting the HTTP client")?;
    // A digest that two files have is downloaded once.
    let mut digests = HashSet::new();
    let waiting = Mutex::new(files.iter().filter(|file| digests.insert(&file.sha256)).rev().collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, MAX_PARALLEL) {
            scope.spawn(|| {
                loop {
                    let Some(file) = waiting.lock().expect("no holder panics").pop() else { break };
                    let result = Download { client: &client, file, cache: &cache, progress, bar: &bar }.run();
                    results.lock().expect("no holder panics").push(result.with_context(|| format!("downloading {}", file.name)));
                }
            });
        }
    });
    bar.finish();
    results.into_inner().expect("no holder panics").into_iter().collect::<Result<()>>()?;
    Ok(files.iter().map(|file| cached(file, &cache)).collect())
}

/// The download of one file.
struct Download<'a> {
    client: &'a Client,
    file: &'a Remote,
    cache: &'a Path,
    progress: &'a Progress,
    bar: &'a Bar,
}

impl Download<'_> {
    /// Tries the mirrors in order.
    fn run(&self) -> Result<()> {
        let done = cached(self.file, self.cache);
        if done.is_file() && sha256_of(&done)? == self.file.sha256 {
            self.bar.add(fs::metadata(&done)?.len());
            return Ok(());
        }
        let part = done.with_extension("part");
        let mut errors = Vec::new();
        for url in &self.file.mirrors {
            match self.try_mirror(url, &part)? {
                None => return fs::rename(&part, &done).with_context(|| format!("moving a download to {}", done.display())),
                Some(error) => errors.push(chain(&error)),
            }
        }
        bail!(
            "no mirror has the file ({}): check the network and the proxy (HTTPS_PROXY), or correct mirrors and sha256",
            errors.join("; ")
        )
    }

    /// Attempts one mirror several times. Returns why the mirror does not give the file, or none where `part` is the file.
    fn try_mirror(&self, url: &SecretUrl, part: &Path) -> Result<Option<Error>> {
        let (mut attempts, mut furthest) = (0, length(part));
        loop {
            attempts += 1;
            let before = length(part);
            let error = match self.attempt(url, part) {
                Ok(()) => {
                    let sha256 = sha256_of(part)?;
                    if sha256 == self.file.sha256 {
                        return Ok(None);
                    }
                    fs::remove_file(part).with_context(|| format!("removing {}", part.display()))?;
                    let error = invalid(format!("{url}: sha256 is {sha256}, but the configuration pins {}", self.file.sha256));
                    self.progress.message(&format!("fetch     {error}"));
                    // A resumed file may have started at another mirror; a complete file that is wrong stays wrong.
                    if before == 0 || attempts == MAX_ATTEMPTS {
                        return Ok(Some(error));
                    }
                    continue;
                }
                Err(Failure::Refused(error)) => {
                    self.progress.message(&format!("fetch     {}: trying the next mirror", chain(&error)));
                    return Ok(Some(error));
                }
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Interrupted(error)) => error,
            };
            self.progress.message(&format!("fetch     {}: {} bytes are downloaded, going on from there", chain(&error), length(part)));
            // Only attempts without progress count.
            if length(part) > furthest {
                (attempts, furthest) = (0, length(part));
            }
            if attempts == MAX_ATTEMPTS {
                return Ok(Some(error));
            }
            thread::sleep(Duration::from_millis(100 << attempts));
        }
    }

    /// Sends one request and appends the answer to `part`.
    fn attempt(&self, url: &SecretUrl, part: &Path) -> Result<(), Failure> {
        let downloaded = length(part);
        let mut request = self.client.get(url.expose()).header(ACCEPT_ENCODING, "identity");
        if downloaded > 0 {
            request = request.header(RANGE, format!("bytes={downloaded}-"));
        }
        // The message of an error holds the URL with its secrets.
        let failed = |error: reqwest::Error| Error::Context { what: url.to_string(), source: Box::new(error.without_url().into()) };
        let mut response = request.send().map_err(|error| Failure::Interrupted(failed(error)))?;
        let Some(start) = start_of(&response, url, downloaded)? else { return Ok(()) };
        let limit = self.file.bytes.unwrap_or(MAX_BYTES);
        let mut out = OpenOptions::new().create(true).append(true).open(part).map_err(|error| disk(part, error))?;
        out.set_len(start).map_err(|error| disk(part, error))?;
        let result = copy(&mut response, &mut out, limit.saturating_sub(start), self.bar).map_err(|error| match error {
            CopyError::Disk(error) => disk(part, error),
            CopyError::Network(error) => Failure::Interrupted(Error::Context { what: url.to_string(), source: Box::new(error.into()) }),
            CopyError::TooLong => Failure::Refused(invalid(format!("{url}: sends more than {limit} bytes"))),
        });
        if matches!(result, Err(Failure::Refused(_))) {
            let _ = out.set_len(0);
        }
        out.sync_all().map_err(|error| disk(part, error))?;
        result
    }
}

fn invalid(message: String) -> Error {
    Invalid(message).into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Position in the file at which the answer starts; none where nothing is left to download.
fn start_of(response: &Response, url: &SecretUrl, downloaded: u64) -> Result<Option<u64>, Failure> {
    match response.status() {
        StatusCode::OK => Ok(Some(0)),
        StatusCode::PARTIAL_CONTENT if range_start(response) == Some(downloaded) => Ok(Some(downloaded)),
        // The file is complete, or it is another file: its sha256 decides.
        StatusCode::RANGE_NOT_SATISFIABLE if downloaded > 0 => Ok(None),
        StatusCode::PARTIAL_CONTENT => Err(Failure::Refused(invalid(format!("{url}: sent another range than the requested one")))),
        status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
            Err(Failure::Interrupted(invalid(format!("{url}: {status}"))))
        }
        status if status.is_server_error() => Err(Failure::Interrupted(invalid(format!("{url}: {status}")))),
        status => Err(Failure::Refused(invalid(format!("{url}: {status}")))),
    }
}

fn range_start(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn disk(path: &Path, error: io::Error) -> Failure {
    let what = format!("writing {}: the downloaded part stays there; free some space and run again", path.display());
    Failure::Local(Error::Context { what, source: Box::new(error.into()) })
}

enum CopyError {
    Disk(io::Error),
    Network(io::Error),
    TooLong,
}

fn copy(from: &mut impl Read, to: &mut File, mut left: u64, bar: &Bar) -> Result<(), CopyError> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let read = from.read(&mut buffer).map_err(CopyError::Network)?;
        if read == 0 {
            return Ok(());
        }
        left = left.checked_sub(read as u64).ok_or(CopyError::TooLong)?;
        to.write_all(&buffer[..read]).map_err(CopyError::Disk)?;
        bar.add(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_folder_and_other_urls_are_refused() {
        let accepts = |name: &str, url: &str, sha256: &str| {
            let mirrors = vec![SecretUrl::new(url)];
            check(&Remote { name: name.to_owned(), sha256: sha256.to_owned(), bytes: None, mirrors }).is_ok()
        };
        let sha256 = "0a".repeat(32);
        assert!(accepts("python.zip", "https://host/x", &sha256) && accepts("ruby/train.jsonl", "http://host/x", &sha256));
        for name in ["", "../x", "/x", "a//b", "a/../b", ".hidden", "a\u{0}b", "a b"] {
            assert!(!accepts(name, "https://host/x", &sha256), "{name}");
        }
        assert!(!accepts("a.zip", "file:///etc/passwd", &sha256) && !accepts("a.zip", "https://host/x", "0A"));
    }
}
