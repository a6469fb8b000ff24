//! Git checkouts, read in this process: no program starts that a checkout could name in its configuration.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use gix::{bstr::ByteSlice, odb::store::init::Slots, open::Options};
use ledger::{bail, ensure};
use walkdir::WalkDir;

use crate::error::{Context, Result};

/// Largest file directly below `.git`: the index of a repository with some millions of files.
const MAX_GIT_FILE: u64 = 1 << 30;
/// Largest text file of a git folder: `.git` of a linked working tree, a branch, `info/exclude`.
pub const MAX_TEXT: u64 = 1 << 20;

/// A git checkout.
#[derive(Debug)]
pub struct Checkout {
    /// The commit; empty before the first one.
    pub commit: String,
    /// Paths in the index, with `/` between their parts.
    pub tracked: BTreeSet<String>,
    /// Paths of submodules.
    pub submodules: Vec<String>,
    /// Patterns of `info/exclude`.
    pub excluded: Vec<u8>,
}

impl Checkout {
    /// The checkout whose working tree is this folder; none where the folder has no `.git`. Folders above are not searched.
    ///
    /// # Errors
    /// Where `.git` is no repository that can be read safely: read as a plain folder it would give ignored files and no commit.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let dot_git = root.join(".git");
        if fs::symlink_metadata(&dot_git).is_err() {
            return Ok(None);
        }
        let advice = || format!("git checkout {}: repair it, or remove its `.git` to read a plain folder", root.display());
        Self::read(root, &dot_git).map(Some).with_context(advice)
    }

    fn read(root: &Path, dot_git: &Path) -> Result<Self> {
        let git_dir = git_dir(root, dot_git)?;
        let common_dir = match text_file(&git_dir.join("commondir"))? {
            Some(common) => git_dir.join(common.trim_end()),
            None => git_dir.clone(),
        };
        check_files(&git_dir)?;
        check_files(&common_dir)?;
        // The objects are not read: without slots, their folders and those of other repositories stay closed.
        let options = Options::isolated().object_store_slots(Slots::Given(1));
        let repository = gix::open_opts(dot_git, options).map_err(|error| invalid(&error))?;
        let config = repository.config_snapshot();
        if config.string("core.worktree").is_some() {
            let own = repository.workdir().is_some_and(|tree| is_same(tree, root));
            ensure!(own, "core.worktree in .git/config names another folder");
        }
        let storage = config.string("extensions.refStorage");
        ensure!(
            storage.is_none_or(|storage| storage.as_bytes() == b"files"),
            "its branches are stored as reftable, which is not supported"
        );
        let commit = repository.head().map_err(|error| invalid(&error))?.id().map(|id| id.to_string()).unwrap_or_default();
        let index = repository.try_index().map_err(|error| invalid(&error))?;
        let (mut tracked, mut submodules) = (BTreeSet::new(), Vec::new());
        for (entry, index) in index.iter().flat_map(|index| index.entries().iter().map(move |entry| (entry, index))) {
            let path = || entry.path(index).to_str_lossy().into_owned();
            if entry.mode.is_submodule() {
                submodules.push(path());
            } else if !entry.mode.is_sparse() {
                tracked.insert(path());
            }
        }
        let excluded = text_file(&common_dir.join("info/exclude"))?.unwrap_or_default().into_bytes();
        Ok(Self { commit, tracked, submodules, excluded })
    }
}

/// The folder of the repository: `.git`, or the one that the file `.git` of a linked working tree or a submodule names.
pub fn git_dir(root: &Path, dot_git: &Path) -> Result<PathBuf> {
    if fs::metadata(dot_git)?.is_dir() {
        return Ok(dot_git.to_owned());
    }
    let text = text_file(dot_git)?.unwrap_or_default();
    let Some(target) = text.strip_prefix("gitdir:") else { bail!("the file .git names no repository") };
    let git_dir = root.join(target.trim());
    ensure!(git_dir.is_dir(), "the file .git names {}, which is no folder", git_dir.display());
    Ok(git_dir)
}

/// The text of a small regular file; none where it does not exist.
pub fn text_file(path: &Path) -> Result<Option<String>> {
    let Ok(meta) = fs::metadata(path) else { return Ok(None) };
    ensure!(meta.is_file() && meta.len() <= MAX_TEXT, "{} is no regular file of at most {MAX_TEXT} bytes", path.display());
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Files directly below `.git` that are read when the repository is opened, besides the parts of a split index (`sharedindex.*`).
const READ: [&str; 8] = ["HEAD", "commondir", "config", "config.worktree", "gitdir", "index", "packed-refs", "shallow"];

/// Checks the files that are read when the repository is opened: a pipe would block, a device has no end.
pub fn check_files(git_dir: &Path) -> Result<()> {
    let is_read = |name: &str| READ.contains(&name) || name.starts_with("sharedindex.");
    let direct = WalkDir::new(git_dir).min_depth(1).max_depth(1).into_iter();
    let direct = direct.filter(|entry| entry.as_ref().is_ok_and(|entry| is_read(&entry.file_name().to_string_lossy())));
    let refs = WalkDir::new(git_dir.join("refs")).into_iter();
    for (entry, max_bytes) in direct.map(|entry| (entry, MAX_GIT_FILE)).chain(refs.map(|entry| (entry, MAX_TEXT))) {
        let Ok(entry) = entry else { continue };
        // A link to a folder or file is followed, as git does; a link to nothing is not read.
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        let accepted = meta.is_dir() || meta.is_file() && meta.len() <= max_bytes;
        ensure!(accepted, "{} is no folder and no file of at most {max_bytes} bytes", entry.path().display());
    }
    Ok(())
}

pub fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

pub fn invalid(error: &gix::Error) -> ledger::Invalid {
    ledger::Invalid(error.to_string())
}
