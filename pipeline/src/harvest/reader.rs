//! Reads the source files of packages and folders, one repository after the other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ledger::{Digest, Language, Progress, ensure};

use super::{
    archive::{self, EntrySelection, EntryVisitor},
    config::{Config, Exclude},
    folder::{Listing, SourceFolder, Subfolders, subfolders},
    left_out::{LeftOut, language_of},
    licence::{licence_of_folder, licence_of_package},
    packages,
    repository_names::repository_name,
    source::{Package, Registry, Source},
};
use crate::{error::Result, repositories::Repo};

/// A source file of a repository.
#[derive(Debug)]
pub struct SourceFile {
    pub path: String,
    pub language: Language,
    /// Digest of the bytes.
    pub content: String,
    /// What the field `sha` of a record names; none: the id that git gives to the file.
    pub sha: Option<String>,
    pub bytes: Vec<u8>,
}

/// What a folder source gives, by path: digests of the files that are read, reasons of those that are not, commits and licences. Equal
/// contents give equal records.
pub type Contents = BTreeMap<String, String>;

/// The files of a repository.
#[derive(Debug, Default)]
pub struct RepoFiles {
    /// Sorted by path.
    pub files: Vec<SourceFile>,
    /// Paths that are not read. Empty unless the reader lists them.
    pub left_out: Vec<(String, LeftOut)>,
}

/// Largest number of folders that one message names.
const NAMED: usize = 5;

type Take<'a> = &'a mut dyn FnMut(&Repo, RepoFiles) -> Result<()>;

/// Reads repositories.
pub struct Reader<'a> {
    exclude: &'a Exclude,
    max_file_bytes: u64,
    /// Folder of the downloads.
    cache: &'a Path,
    progress: &'a Progress,
    lists_left_out: bool,
    keeps_files: bool,
    /// Number of files that were left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Of the folder source that was read last.
    pub contents: Contents,
}

/// Number of repositories in a source. A source whose files are copied has none.
pub fn repository_count(source: &Source) -> Result<u64> {
    Ok(match source {
        Source::Packages { packages, .. } => packages.len() as u64,
        Source::Dir { path, each_subfolder: true, .. } => subfolders(path)?.repositories.len() as u64,
        Source::Dir { .. } => 1,
        Source::Csn { .. } | Source::Urls { .. } | Source::Snippets { .. } | Source::Perturbed { .. } => 0,
    })
}

impl<'a> Reader<'a> {
    /// A reader. `cache` is the folder of the downloads.
    pub fn new(config: &'a Config, cache: &'a Path, progress: &'a Progress) -> Self {
        let (exclude, max_file_bytes) = (&config.exclude, config.max_file_bytes);
        Self {
            exclude,
            max_file_bytes,
            cache,
            progress,
            lists_left_out: false,
            keeps_files: true,
            skipped: BTreeMap::new(),
            contents: Contents::new(),
        }
    }

    /// Reads folders for their contents only: no repository has files, so that one file at a time is in memory.
    pub fn without_files(self) -> Self {
        Self { keeps_files: false, ..self }
    }

    /// Also returns the paths that are not read, with the reasons.
    pub fn listing_left_out(self) -> Self {
        Self { lists_left_out: true, ..self }
    }

    /// Calls `take` with each repository of a source and its files, in a fixed order.
    pub fn read(&mut self, source: &Source, take: Take<'_>) -> Result<()> {
        match source {
            Source::Packages { registry, optional, packages } => self.read_packages(*registry, *optional, packages, take),
            Source::Dir { path, name, licence, url_prefix, each_subfolder } => {
                ensure!(path.is_dir(), "source folder {} does not exist: correct harvest.source.path", path.display());
                self.contents.clear();
                for folder in self.repositories(path, *each_subfolder)? {
                    let opened = SourceFolder::open(&folder)?;
                    if let Some(checkout) = opened.enclosing_checkout() {
                        self.progress.message(&format!(
                            "harvest   reads {} as a plain folder, without commit and .gitignore: its checkout is {}",
                            folder.display(),
                            checkout.display()
                        ));
                    }
                    let found_licence = licence_of_folder(&opened);
                    let within = if *each_subfolder { format!("{}/", file_name(&folder)) } else { String::new() };
                    // No path of a file ends with a slash.
                    self.contents.insert(format!("{within}commit/"), opened.commit().to_owned());
                    self.contents.insert(format!("{within}licence/"), found_licence.clone().unwrap_or_default());
                    let repo = Repo {
                        name: repository_name(&folder, name.as_deref(), *each_subfolder),
                        url_prefix: url_prefix.clone(),
                        sha: opened.commit().to_owned(),
                        licence: licence.clone().or(found_licence).unwrap_or_else(|| "unknown".into()),
                    };
                    let files = self.folder(&folder, &opened, &within)?;
                    take(&repo, files)?;
                }
                Ok(())
            }
            Source::Csn { .. } | Source::Urls { .. } | Source::Snippets { .. } | Source::Perturbed { .. } => Ok(()),
        }
    }

    /// The repositories of a folder source. Names that are not read are counted.
    fn repositories(&mut self, root: &Path, each_subfolder: bool) -> Result<Vec<PathBuf>> {
        if !each_subfolder {
            return Ok(vec![root.to_owned()]);
        }
        let Subfolders { repositories, left_out } = subfolders(root)?;
        let links = left_out.iter().filter(|(name, reason)| *reason == LeftOut::Link && root.join(name).is_dir());
        self.name_left_out(root, "linked folders", links.map(|(name, _)| name.as_str()));
        for (name, reason) in left_out {
            self.skip(reason.report_key(), 1);
            self.contents.insert(name, reason.to_string());
        }
        Ok(repositories)
    }

    /// Names folders that a user might expect to be read.
    fn name_left_out<'n>(&self, root: &Path, what: &str, names: impl Iterator<Item = &'n str>) {
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
            let first = names[..names.len().min(NAMED)].join(", ");
            self.progress.message(&format!(
                "harvest   leaves out in {}: {what} {first}{more}; add their folders to harvest.sources to read them",
                root.display()
            ));
        }
    }

    fn read_packages(&mut self, registry: Registry, optional: bool, packages: &[Package], take: Take<'_>) -> Result<()> {
        if optional && !packages::is_available(registry) {
            let count = packages.len();
            self.progress.message(&format!("harvest   leaves out {count} {} packages: their client is not installed", registry.name()));
            self.skip(format!("{} packages without client", registry.name()), count as u64);
            return Ok(());
        }
        let fetched = packages::fetch(registry, packages, self.cache, self.progress)?;
        for (package, fetched) in packages.iter().zip(fetched) {
            let (licence, mut files) = self.package(registry, package, &fetched.path)?;
            let version = package.version.clone().or_else(|| fetched.version.clone()).unwrap_or_else(|| "any".to_owned());
            let kind = if registry == Registry::Debian { "deb/debian" } else { registry.name() };
            files.files.iter_mut().for_each(|file| file.sha = Some(fetched.sha256.clone()));
            let repo = Repo {
                name: format!("{}/{}", registry.name(), package.name),
                url_prefix: format!("pkg:{kind}/{}@{version}#", package.name),
                sha: fetched.sha256,
                licence,
            };
            take(&repo, files)?;
        }
        Ok(())
    }

    fn skip(&mut self, reason: impl Into<String>, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason.into()).or_default() += count;
        }
    }

    fn package(&mut self, registry: Registry, package: &Package, archive: &Path) -> Result<(String, RepoFiles)> {
        let max_bytes = self.max_file_bytes;
        let mut visitor = PackageVisitor {
            filter: PackageFilter { registry, package, exclude: self.exclude },
            max_bytes,
            lists_left_out: self.lists_left_out,
            licence: None,
            found: RepoFiles::default(),
            skipped: BTreeMap::new(),
        };
        archive::visit(registry, archive, &mut visitor)?;
        let PackageVisitor { licence, mut found, skipped, .. } = visitor;
        for (reason, count) in skipped {
            self.skip(reason, count);
        }
        found.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((licence.unwrap_or_else(|| "unknown".into()), found))
    }

    /// Reads the files of a folder. `within`: text before their paths in the contents of the source.
    fn folder(&mut self, root: &Path, folder: &SourceFolder, within: &str) -> Result<RepoFiles> {
        let mut found = RepoFiles::default();
        let Listing { files, left_out, merged, unread_rules } = folder.list(self.lists_left_out)?;
        if !merged.is_empty() {
            self.progress.message(&format!(
                "harvest   reads {} git repositories in {} as one plain folder, without commits and .gitignore, the first is {}; make each a \
                 source, or set each-subfolder = true",
                merged.len(),
                root.display(),
                merged[0]
            ));
        }
        let nested = left_out.iter().filter(|(path, reason)| *reason == LeftOut::NestedRepository && path.ends_with('/'));
        self.name_left_out(root, "git repositories", nested.map(|(path, _)| path.trim_end_matches('/')));
        self.skip("ignore file not read", unread_rules.len() as u64);
        for (path, reason) in left_out {
            // Files that git ignores come and go with every build.
            if matches!(reason, LeftOut::NestedRepository | LeftOut::Unreadable) {
                self.contents.insert(format!("{within}{path}"), reason.to_string());
            }
            self.leave_out(&mut found, path, reason);
        }
        for path in files {
            let read = self.exclude.select(&path).map_err(Some).and_then(|language| {
                let bytes = folder.read(&path, self.max_file_bytes);
                bytes.map(|bytes| (language, bytes)).map_err(|refusal| LeftOut::of_refusal(&refusal, self.max_file_bytes))
            });
            match read {
                Ok((language, bytes)) => {
                    let content = Digest::of_bytes(&bytes).to_string();
                    self.contents.insert(format!("{within}{path}"), content.clone());
                    if self.keeps_files {
                        found.files.push(SourceFile { path, language, content, sha: None, bytes });
                    }
                }
                Err(Some(reason)) => {
                    if language_of(&path).is_some() {
                        self.contents.insert(format!("{within}{path}"), reason.to_string());
                    }
                    self.leave_out(&mut found, path, reason);
                }
                Err(None) => {}
            }
        }
        Ok(found)
    }

    /// Counts a path of a folder that is not read.
    fn leave_out(&mut self, found: &mut RepoFiles, path: String, reason: LeftOut) {
        self.skip(reason.report_key(), 1);
        if self.lists_left_out {
            found.left_out.push((path, reason));
        }
    }
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Chooses the files of a package by their paths.
struct PackageFilter<'a> {
    registry: Registry,
    package: &'a Package,
    exclude: &'a Exclude,
}

impl PackageFilter<'_> {
    /// The path in the package; npm puts a folder around all files.
    fn inner(&self, path: &str) -> String {
        match self.registry {
            Registry::Npm => path.split_once('/').map_or(path, |(_, rest)| rest).to_owned(),
            Registry::Pypi | Registry::Debian => path.to_owned(),
        }
    }

    /// Is this the file that names the licence?
    fn is_metadata(&self, path: &str) -> bool {
        match self.registry {
            Registry::Pypi => path.ends_with(".dist-info/METADATA"),
            Registry::Npm => self.inner(path) == "package.json",
            Registry::Debian => path.starts_with("usr/share/doc/") && path.ends_with("/copyright"),
        }
    }

    fn select(&self, inner: &str) -> Result<Language, LeftOut> {
        if let Some(prefix) = self.package.except.iter().find(|prefix| inner.starts_with(prefix.as_str())) {
            return Err(LeftOut::InExcept(prefix.clone()));
        }
        if !self.package.only.is_empty() && !self.package.only.iter().any(|prefix| inner.starts_with(prefix.as_str())) {
            return Err(LeftOut::NotInOnly);
        }
        if let Some(reason) = self.exclude.reason(inner.rsplit_once("!/").map_or(inner, |(_, nested)| nested)) {
            return Err(reason);
        }
        language_of(inner).ok_or(LeftOut::UnknownLanguage)
    }

    /// Is this a zip file from which a prefix of `only` reads?
    fn is_nested(&self, inner: &str) -> bool {
        self.registry != Registry::Pypi
            && self.package.only.iter().any(|prefix| prefix.split_once("!/").is_some_and(|(outer, _)| outer == inner))
    }
}

/// Collects the files of a package.
struct PackageVisitor<'a> {
    filter: PackageFilter<'a>,
    max_bytes: u64,
    lists_left_out: bool,
    licence: Option<String>,
    found: RepoFiles,
    /// Number of files that are not read, by reason.
    skipped: BTreeMap<String, u64>,
}

impl PackageVisitor<'_> {
    fn list(&mut self, path: String, reason: LeftOut) {
        *self.skipped.entry(reason.report_key()).or_default() += 1;
        if self.lists_left_out {
            self.found.left_out.push((path, reason));
        }
    }
}

impl EntryVisitor for PackageVisitor<'_> {
    fn select(&mut self, path: &str) -> EntrySelection {
        let inner = self.filter.inner(path);
        match self.filter.select(&inner) {
            Ok(_) => EntrySelection::Yes { max_bytes: self.max_bytes },
            Err(reason) if self.filter.is_metadata(path) => {
                self.list(inner, reason);
                EntrySelection::Yes { max_bytes: self.max_bytes }
            }
            Err(_) if self.filter.is_nested(&inner) => EntrySelection::Nested,
            Err(reason) => {
                self.list(inner, reason);
                EntrySelection::No
            }
        }
    }

    fn file(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        if self.filter.is_metadata(&path) {
            self.licence = self.licence.take().or_else(|| licence_of_package(self.filter.registry, &bytes));
        } else if let Some(language) = language_of(&path) {
            let (path, content) = (self.filter.inner(&path), Digest::of_bytes(&bytes).to_string());
            self.found.files.push(SourceFile { path, language, content, sha: None, bytes });
        }
        Ok(())
    }

    fn left_out(&mut self, path: String, reason: LeftOut) {
        // `select` listed a metadata file already.
        if !self.filter.is_metadata(&path) {
            let inner = self.filter.inner(&path);
            self.list(inner, reason);
        }
    }
}
