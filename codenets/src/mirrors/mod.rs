//! Mirrors of remote git repositories, which a night fetches before it reads them.
//!
//! ```text
//! list   the file with the addresses
//! git    the program git, without the configuration of a repository
//! ```
//! A mirror is a bare repository `NAME.git` in the folder of the section, with a file `codenets-mirror.json`: only what has it is fetched. Its
//! configuration is written anew before each call, so that nothing in it (other addresses, commands, hooks) has an effect while
//! the credentials of the user are near.

mod git;
mod list;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ledger::{plain, rfc3339, scratch_folder, unix_now, write_atomically};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use self::{
    git::{Git, Refs},
    list::Remote,
};
use crate::period::Period;

/// `nightly.fetch`: repositories that are fetched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Folder of the mirrors: the path of a source of `harvest` with `each-subfolder` and `revision`.
    pub folder: PathBuf,
    /// File with one address a line (`https://`, `ssh://`, `user@host:path`, `file://`), and after a space the name of the mirror. Default of the
    /// name: the last part of the address.
    pub list: PathBuf,
    /// Commits of each branch that are fetched; null: all.
    #[serde(default = "one")]
    pub depth: Option<u32>,
    /// Fetch all branches and tags, and not only the branch that `HEAD` of the remote names?
    #[serde(default)]
    pub all_branches_and_tags: bool,
    /// Longest time for one repository: `10m`.
    #[serde(default = "ten_minutes")]
    pub timeout: Period,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional key")]
fn one() -> Option<u32> {
    Some(1)
}

fn ten_minutes() -> Period {
    Period(Duration::from_mins(10))
}

/// File of a mirror with its [`Marker`].
const MARKER: &str = "codenets-mirror.json";
/// Prefix of a mirror that is being made.
const UNFINISHED: &str = ".unfinished-mirror-";

/// What makes a bare repository a mirror.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    url: String,
    fetched_unix_s: u64,
}

/// The outcome of fetching all mirrors.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Number of mirrors that are up to date.
    pub mirrors: usize,
    /// One sentence for each mirror that was not fetched, or is no longer in the list.
    pub warnings: Vec<String>,
}

/// Fetches the mirrors of the list, and makes those that are new; calls `done` after each. A mirror that cannot be fetched stays as it is.
///
/// # Errors
/// The list cannot be read or has an error, or the folder cannot be made.
pub fn fetch(config: &Config, done: impl Fn() + Sync) -> Result<Fetched> {
    let remotes = list::read(&config.list)?;
    fs::create_dir_all(&config.folder).with_context(|| format!("creating {}", config.folder.display()))?;
    let git = Git { timeout: config.timeout.0, lock: lock(&config.folder)? };
    let mut warnings = remove_unfinished(&config.folder)?;
    let outcomes: Vec<Result<(), String>> = remotes.par_iter().map(|remote| fetch_one(config, &git, remote)).inspect(|_| done()).collect();
    let mirrors = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    warnings.extend(outcomes.into_iter().filter_map(Result::err));
    for name in others(&config.folder, &remotes)? {
        let path = config.folder.join(&name);
        let list = config.list.display();
        warnings.push(format!("the mirror {name} is not in {list} any more: delete {} to remove its functions", path.display()));
    }
    Ok(Fetched { mirrors, warnings })
}

/// Waits for other processes that fetch into the folder. The processes that git starts hold the lock too: it is free when all have ended, also
/// where this program was killed.
fn lock(folder: &Path) -> Result<File> {
    let opened = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    opened.lock().with_context(|| format!("locking {}", folder.display()))?;
    Ok(opened)
}

/// Fetches one mirror; else the warning.
fn fetch_one(config: &Config, git: &Git, remote: &Remote) -> Result<(), String> {
    let mirror = config.folder.join(&remote.folder);
    let before = marker(&mirror);
    let fetched = match &before {
        _ if !mirror.exists() => make(config, git, remote, &mirror),
        Some(marker) if marker.url == remote.url => update(config, git, remote, &mirror),
        Some(marker) => Err(anyhow::anyhow!("{} is the mirror of {}: delete it, or give another name", mirror.display(), marker.url)),
        None => Err(anyhow::anyhow!("{} is no mirror that codenets made: move it away, or give another name", mirror.display())),
    };
    let state = before
        .map_or_else(|| "it is left out".to_owned(), |marker| format!("its functions are those of {}", rfc3339(marker.fetched_unix_s)));
    fetched.map_err(|error| plain(&format!("{} is not fetched: {error:#}; {state}", remote.url)))
}

fn marker(mirror: &Path) -> Option<Marker> {
    serde_json::from_slice(&fs::read(mirror.join(MARKER)).ok()?).ok()
}

/// Makes a mirror. It has its name when it is complete.
fn make(config: &Config, git: &Git, remote: &Remote, mirror: &Path) -> Result<()> {
    let scratch = scratch_folder(UNFINISHED, &config.folder)?;
    git.init(scratch.path())?;
    update(config, git, remote, scratch.path())?;
    fs::rename(scratch.keep(), mirror).with_context(|| format!("creating {}", mirror.display()))
}

fn update(config: &Config, git: &Git, remote: &Remote, mirror: &Path) -> Result<()> {
    remove_locks(mirror)?;
    git.reset_configuration(mirror)?;
    let branch = git.branch_of_head(mirror, &remote.url)?;
    let refs = if config.all_branches_and_tags { Refs::All } else { Refs::One(&branch) };
    git.fetch(mirror, &remote.url, refs, config.depth)?;
    git.set_head(mirror, refs.head().unwrap_or(&branch))?;
    let marker = Marker { url: remote.url.clone(), fetched_unix_s: unix_now() };
    Ok(write_atomically(&mirror.join(MARKER), &serde_json::to_vec(&marker)?)?)
}

/// Deletes mirrors that a killed process did not finish; warnings where one cannot be deleted.
fn remove_unfinished(folder: &Path) -> Result<Vec<String>> {
    let unfinished = names(folder)?.into_iter().filter(|name| name.starts_with(UNFINISHED)).map(|name| folder.join(name));
    Ok(unfinished.filter_map(|path| Some(format!("{} cannot be deleted: {}", path.display(), fs::remove_dir_all(&path).err()?))).collect())
}

/// Deletes the locks that a killed git left: no other process uses the mirror.
fn remove_locks(mirror: &Path) -> Result<()> {
    for entry in WalkDir::new(mirror) {
        let entry = entry?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(entry.path()).with_context(|| format!("deleting {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Mirrors that the list does not have.
fn others(folder: &Path, remotes: &[Remote]) -> Result<Vec<String>> {
    let is_other = |name: &String| marker(&folder.join(name)).is_some() && !remotes.iter().any(|remote| remote.folder == *name);
    Ok(names(folder)?.into_iter().filter(is_other).collect())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("listing {}", folder.display()))?;
    let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

impl Config {
    /// Checks that a source reads the mirrors.
    pub fn check<'a>(&self, mut sources: impl Iterator<Item = &'a Path>) -> Result<()> {
        let is_read = sources.any(|path| path == self.folder);
        ensure!(is_read, "nightly.fetch.folder = {}: no source of harvest reads it; add a source of kind dir", self.folder.display());
        Ok(())
    }
}
