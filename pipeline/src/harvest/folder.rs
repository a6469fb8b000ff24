//! Files of a source folder: a git checkout or a plain folder.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use ledger::{Refusal, UntrustedFolder, ensure};
use walkdir::{DirEntry, WalkDir};

use super::{
    checkout::{Checkout, MAX_TEXT},
    ignore_rules::IgnoreRules,
    left_out::LeftOut,
};
use crate::{
    error::{Context, Result},
    files::is_hidden,
};

/// A source folder. Its content is not trusted: no program of a checkout runs, links are not followed.
#[derive(Debug)]
pub struct SourceFolder {
    root: PathBuf,
    files: UntrustedFolder,
    checkout: Option<Checkout>,
}

/// What a folder has: regular files that are read, and the other paths with the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted, relative to the folder, with `/` between the parts.
    pub files: Vec<String>,
    /// In the order of the walk.
    pub left_out: Vec<(String, LeftOut)>,
    /// Folders of git repositories whose files are read as those of a plain folder.
    pub merged: Vec<String>,
    /// `.gitignore` files that are too large, not readable or no regular files: their rules do not apply.
    pub unread_rules: Vec<String>,
}

impl SourceFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// Where the folder does not exist, and where its `.git` is no repository that can be read.
    pub fn open(root: &Path) -> Result<Self> {
        let files = UntrustedFolder::open(root).with_context(|| format!("opening {}", root.display()))?;
        Ok(Self { root: root.to_owned(), files, checkout: Checkout::open(root)? })
    }

    /// The commit of a checkout; empty for a plain folder, and before the first commit.
    pub fn commit(&self) -> &str {
        self.checkout.as_ref().map_or("", |checkout| &checkout.commit)
    }

    /// The checkout that this folder is part of, where the folder itself is a plain one.
    pub fn enclosing_checkout(&self) -> Option<PathBuf> {
        let full = self.root.canonicalize().ok().filter(|_| self.checkout.is_none())?;
        full.ancestors().skip(1).find(|above| above.join(".git").exists()).map(Path::to_owned)
    }

    /// Files of a checkout that git does not ignore, or files of a plain folder outside hidden folders. `walks_all`: also
    /// lists the content of folders that are left out.
    pub fn list(&self, walks_all: bool) -> Result<Listing> {
        let mut walk = Walk {
            folder: self,
            rules: IgnoreRules::new(self.checkout.as_ref().map_or(&[], |checkout| &checkout.excluded)),
            walks_all,
            left_out_below: None,
            found: Listing::default(),
        };
        walk.run()?;
        let Listing { files, mut left_out, merged, unread_rules } = walk.found;
        // A submodule whose files are not there is an empty folder.
        for submodule in self.checkout.iter().flat_map(|checkout| &checkout.submodules).map(|path| format!("{path}/")) {
            if !left_out.iter().any(|(path, _)| path.starts_with(&submodule)) {
                left_out.push((submodule, LeftOut::NestedRepository));
            }
        }
        let mut files: BTreeSet<String> = files.into_iter().collect();
        let tracked = self.checkout.iter().flat_map(|checkout| &checkout.tracked);
        // The walk does not enter an ignored folder, which may have tracked files. Reading tells whether they exist.
        let seen: HashSet<&str> = left_out.iter().map(|(path, _)| path.as_str()).collect();
        files.extend(tracked.filter(|path| !walks_all && !seen.contains(path.as_str())).cloned());
        Ok(Listing { files: files.into_iter().collect(), left_out, merged, unread_rules })
    }

    /// Names directly in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Reads a file of at most `max_bytes`.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
        self.files.read(path, max_bytes)
    }
}

/// A walk through a source folder.
struct Walk<'a> {
    folder: &'a SourceFolder,
    rules: IgnoreRules,
    walks_all: bool,
    /// Depth and reason of the folder that is left out, while the walk is in it.
    left_out_below: Option<(usize, LeftOut)>,
    found: Listing,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let root = &self.folder.root;
        let mut walk = WalkDir::new(root).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.depth() == 0 => return Err(error).with_context(|| format!("listing {}", root.display())),
                Err(error) => {
                    let path = error.path().map(|path| self.relative(path)).unwrap_or_default();
                    self.found.left_out.push((path, LeftOut::Unreadable));
                    continue;
                }
            };
            self.rules.leave(entry.depth());
            self.left_out_below.take_if(|(depth, _)| *depth >= entry.depth());
            let path = self.relative(entry.path());
            if !entry.file_type().is_dir() {
                self.file(path, &entry);
            } else if !self.enter(&path, &entry) {
                walk.skip_current_dir();
            }
        }
        Ok(())
    }

    fn relative(&self, path: &Path) -> String {
        let parts: Vec<_> = path.strip_prefix(&self.folder.root).unwrap_or(path).iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    /// Does the walk enter this folder?
    fn enter(&mut self, path: &str, entry: &DirEntry) -> bool {
        if entry.depth() > 0 {
            if entry.file_name() == ".git" {
                return false;
            }
            if self.left_out_below.is_none()
                && let Some(reason) = self.reason_of_folder(path, entry)
            {
                if !self.walks_all {
                    self.found.left_out.push((format!("{path}/"), reason.clone()));
                }
                self.left_out_below = Some((entry.depth(), reason));
            }
        }
        if self.folder.checkout.is_some() && self.left_out_below.is_none() {
            self.read_rules(path, entry.depth());
        }
        if self.folder.checkout.is_none() && self.left_out_below.is_none() && entry.path().join(".git").symlink_metadata().is_ok() {
            self.found.merged.push(path.to_owned());
        }
        self.walks_all || self.left_out_below.is_none()
    }

    /// Why a folder is not entered.
    fn reason_of_folder(&self, path: &str, entry: &DirEntry) -> Option<LeftOut> {
        let has = |name: &str| entry.path().join(name).symlink_metadata().is_ok();
        let name = entry.file_name().to_string_lossy();
        match &self.folder.checkout {
            None if is_hidden(&name) => Some(LeftOut::HiddenFolder(name.into_owned())),
            Some(_) if self.rules.ignores(path, true) && !has(".git") => Some(LeftOut::GitIgnored),
            Some(_) if has(".git") => Some(LeftOut::NestedRepository),
            _ => {
                ["pyvenv.cfg", "conda-meta", "bin/activate", "Scripts/activate"].into_iter().any(has).then_some(LeftOut::VirtualEnvironment)
            }
        }
    }

    fn read_rules(&mut self, folder: &str, depth: usize) {
        let file = if folder.is_empty() { ".gitignore".to_owned() } else { format!("{folder}/.gitignore") };
        match self.folder.read(&file, MAX_TEXT) {
            Ok(rules) => self.rules.enter(folder, depth, &rules),
            // Git does not follow a link either.
            Err(Refusal::Missing | Refusal::Link) => {}
            Err(_) => self.found.unread_rules.push(file),
        }
    }

    fn file(&mut self, path: String, entry: &DirEntry) {
        let kind = entry.file_type();
        let tracked = self.folder.checkout.as_ref().is_some_and(|checkout| checkout.tracked.contains(&path));
        let ignored = || self.folder.checkout.is_some() && self.rules.ignores(&path, false);
        let reason = if entry.path().strip_prefix(&self.folder.root).is_ok_and(|relative| relative.to_str().is_none()) {
            Some(LeftOut::NameNotUtf8)
        } else if kind.is_symlink() {
            Some(LeftOut::Link)
        } else if !kind.is_file() {
            Some(LeftOut::NotRegular)
        } else if tracked {
            None
        } else {
            self.left_out_below.as_ref().map(|(_, reason)| reason.clone()).or_else(|| ignored().then_some(LeftOut::GitIgnored))
        };
        match reason {
            None => self.found.files.push(path),
            Some(reason) => self.found.left_out.push((path, reason)),
        }
    }
}

/// Content of a folder of repositories.
#[derive(Debug, Default)]
pub struct Subfolders {
    /// Folders that are not hidden, sorted.
    pub repositories: Vec<PathBuf>,
    /// Names that are not read, sorted.
    pub left_out: Vec<(String, LeftOut)>,
}

/// Can the folder of a source be listed?
pub fn is_listable(root: &Path, each_subfolder: bool) -> bool {
    root.is_dir() && (!each_subfolder || subfolders(root).is_ok())
}

/// Subfolders of a source with `each-subfolder`.
///
/// # Errors
/// Where there is none.
pub fn subfolders(root: &Path) -> Result<Subfolders> {
    let entries =
        fs::read_dir(root).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(|| format!("listing {}", root.display()))?;
    let mut found = Subfolders::default();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().with_context(|| format!("listing {}", entry.path().display()))?;
        let reason = match () {
            () if kind.is_symlink() => LeftOut::Link,
            () if kind.is_dir() && is_hidden(&name) => LeftOut::HiddenFolder(name.clone()),
            () if kind.is_dir() => {
                found.repositories.push(entry.path());
                continue;
            }
            () => LeftOut::OutsideRepositories,
        };
        found.left_out.push((name, reason));
    }
    found.repositories.sort();
    found.left_out.sort_by(|(a, _), (b, _)| a.cmp(b));
    ensure!(
        !found.repositories.is_empty(),
        "{} has no subfolders: set each-subfolder = false to read it as one repository",
        root.display()
    );
    Ok(found)
}
