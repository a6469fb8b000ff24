//! Files by URL, pinned by sha256: several mirrors tried in order, a broken download taken up where it broke,
//! several files at a time. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`).

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ledger::{Bar, Progress};
use reqwest::{
    StatusCode,
    blocking::{Client, Response},
    header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE},
};
use serde::{Deserialize, Serialize};

use super::fetch::sha256_of;

/// One file of a `urls` source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Remote {
    /// What the file is called below the artifact; its end says what is in it.
    pub name: String,
    pub sha256: String,
    /// Its size, if it is known: for progress, and so that a mirror cannot send more.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Tried in this order.
    pub mirrors: Vec<String>,
}

/// Tries at one mirror, each going on where the last broke.
const TRIES: u32 = 5;
/// A file of unknown size is refused beyond this.
const MOST_BYTES: u64 = 64 << 30;
/// A server that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a try ended.
enum Failure {
    /// The connection broke or the server is busy: what came is kept, and the next try goes on behind it.
    Broken(anyhow::Error),
    /// This mirror does not have it.
    Refused(anyhow::Error),
    /// It is not the mirror's fault: the disk is full, for one.
    Local(anyhow::Error),
}

impl Remote {
    fn check(&self) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = !self.name.is_empty()
            && self.name.split('/').all(|part| !part.starts_with('.') && !part.is_empty() && part.chars().all(is_plain));
        ensure!(is_name, "{:?} is not a file name: letters, digits, `.`, `_`, `-`, folders parted by `/`", self.name);
        let is_digest = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ensure!(is_digest, "{}: {:?} is not a sha256 in lower-case hex", self.name, self.sha256);
        ensure!(!self.mirrors.is_empty(), "{}: no mirrors", self.name);
        let odd = self.mirrors.iter().find(|url| !url.starts_with("https://") && !url.starts_with("http://"));
        ensure!(odd.is_none(), "{}: {:?} is not an http or https URL", self.name, odd);
        Ok(())
    }

    fn cached(&self, cache: &Path) -> PathBuf {
        cache.join(&self.sha256)
    }
}

/// Fetches what the cache does not hold, `parallel` files at a time, and returns where each file lies, verified.
pub fn fetch(files: &[Remote], parallel: usize, cache: &Path, progress: &Progress) -> Result<Vec<PathBuf>> {
    files.iter().try_for_each(Remote::check)?;
    let mut names = HashSet::new();
    let twice = files.iter().find(|file| !names.insert(&file.name));
    ensure!(twice.is_none(), "two files are called {}: name every file once", twice.map(|file| file.name.as_str()).unwrap_or_default());
    let cache = cache.join("urls");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let total = files.iter().map(|file| file.bytes).sum::<Option<u64>>().unwrap_or_default();
    let bar = progress.bar("fetch", total, "bytes");
    // The timeout of the blocking client is one of each read, not of the whole body.
    let client = Client::builder().connect_timeout(Duration::from_secs(20)).timeout(SILENCE).build().context("starting the HTTP client")?;
    // A digest that is named twice is fetched once.
    let mut named = HashSet::new();
    let waiting = Mutex::new(files.iter().filter(|file| named.insert(&file.sha256)).rev().collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, 16) {
            scope.spawn(|| {
                loop {
                    let Some(file) = waiting.lock().expect("no holder panics").pop() else { break };
                    let result = one(&client, file, &cache, progress, &bar).with_context(|| format!("fetching {}", file.name));
                    results.lock().expect("no holder panics").push(result);
                }
            });
        }
    });
    bar.finish();
    results.into_inner().expect("no holder panics").into_iter().collect::<Result<()>>()?;
    Ok(files.iter().map(|file| file.cached(&cache)).collect())
}

fn one(client: &Client, file: &Remote, cache: &Path, progress: &Progress, bar: &Bar) -> Result<()> {
    let done = file.cached(cache);
    if done.is_file() && sha256_of(&done)? == file.sha256 {
        bar.add(fs::metadata(&done)?.len());
        return Ok(());
    }
    let part = done.with_extension("part");
    let mut told = Vec::new();
    for url in &file.mirrors {
        let (mut tries, mut furthest) = (0, length(&part));
        while tries < TRIES {
            tries += 1;
            let before = length(&part);
            match attempt(client, file, url, &part, bar) {
                Ok(()) => {
                    let sha256 = sha256_of(&part)?;
                    if sha256 == file.sha256 {
                        fs::rename(&part, &done).with_context(|| format!("keeping {}", done.display()))?;
                        return Ok(());
                    }
                    fs::remove_file(&part).with_context(|| format!("removing {}", part.display()))?;
                    let error = anyhow!("{url}: sha256 is {sha256}, the config pins {}", file.sha256);
                    progress.message(&format!("fetch     {error}"));
                    told.push(error);
                    // What was there before may have come from elsewhere; a whole file that is wrong stays wrong.
                    if before == 0 {
                        break;
                    }
                }
                Err(Failure::Refused(error)) => {
                    progress.message(&format!("fetch     {error:#}: trying the next mirror"));
                    told.push(error);
                    break;
                }
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Broken(error)) => {
                    progress.message(&format!("fetch     {error:#}: {} bytes are here, going on", length(&part)));
                    // A try that came further than any before it does not count.
                    if length(&part) > furthest {
                        (tries, furthest) = (0, length(&part));
                    }
                    if tries == TRIES {
                        told.push(error);
                    } else {
                        thread::sleep(Duration::from_millis(100 << tries));
                    }
                }
            }
        }
    }
    let all: Vec<String> = told.iter().map(|error| format!("{error:#}")).collect();
    bail!("no mirror gave it ({}): check the network and the proxy (HTTPS_PROXY), or correct mirrors and sha256", all.join("; "))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// One request; what comes is put behind what is there.
fn attempt(client: &Client, file: &Remote, url: &str, part: &Path, bar: &Bar) -> Result<(), Failure> {
    let here = length(part);
    let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
    if here > 0 {
        request = request.header(RANGE, format!("bytes={here}-"));
    }
    let mut response = request.send().map_err(|error| Failure::Broken(error.into()))?;
    let status = response.status();
    let start = match status {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(here) => here,
        // All of it is here already, or it is not the file that was begun: the digest tells.
        StatusCode::RANGE_NOT_SATISFIABLE if here > 0 => return Ok(()),
        StatusCode::PARTIAL_CONTENT => return Err(Failure::Refused(anyhow!("{url}: sent another range than was asked for"))),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Err(Failure::Broken(anyhow!("{url}: {status}"))),
        status if status.is_server_error() => return Err(Failure::Broken(anyhow!("{url}: {status}"))),
        status => return Err(Failure::Refused(anyhow!("{url}: {status}"))),
    };
    let limit = file.bytes.unwrap_or(MOST_BYTES);
    let mut out = OpenOptions::new().create(true).append(true).open(part).map_err(|error| disk(part, error))?;
    out.set_len(start).map_err(|error| disk(part, error))?;
    let result = copy(&mut response, &mut out, limit.saturating_sub(start), bar).map_err(|error| match error {
        Copied::Disk(error) => disk(part, error),
        Copied::Network(error) => Failure::Broken(anyhow!(error).context(url.to_owned())),
        Copied::TooMuch => Failure::Refused(anyhow!("{url}: sends more than {limit} bytes")),
    });
    if matches!(result, Err(Failure::Refused(_))) {
        let _ = out.set_len(0);
    }
    out.sync_all().map_err(|error| disk(part, error))?;
    result
}

fn range_start(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn disk(path: &Path, error: std::io::Error) -> Failure {
    Failure::Local(anyhow!(error).context(format!("writing {}: what came is kept, free some space and run again", path.display())))
}

enum Copied {
    Disk(std::io::Error),
    Network(std::io::Error),
    TooMuch,
}

fn copy(from: &mut impl Read, to: &mut File, mut left: u64, bar: &Bar) -> Result<(), Copied> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let read = from.read(&mut buffer).map_err(Copied::Network)?;
        if read == 0 {
            return Ok(());
        }
        left = left.checked_sub(read as u64).ok_or(Copied::TooMuch)?;
        to.write_all(&buffer[..read]).map_err(Copied::Disk)?;
        bar.add(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_and_odd_urls_are_refused() {
        let check = |name: &str, url: &str, sha256: &str| {
            Remote { name: name.to_owned(), sha256: sha256.to_owned(), bytes: None, mirrors: vec![url.to_owned()] }.check().is_ok()
        };
        let sha256 = "0a".repeat(32);
        assert!(check("python.zip", "https://host/x", &sha256) && check("ruby/train.jsonl", "http://host/x", &sha256));
        for name in ["", "../x", "/x", "a//b", "a/../b", ".hidden", "a\u{0}b", "a b"] {
            assert!(!check(name, "https://host/x", &sha256), "{name}");
        }
        assert!(!check("a.zip", "file:///etc/passwd", &sha256) && !check("a.zip", "https://host/x", "0A"));
    }
}
