//! Reads the source files of packages and folders, one repository after the other.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use ledger::{Digest, Progress, ensure};

use super::{
    archive,
    config::{Config, Exclude, Kept},
    folder::{Listing, SourceFolder, Subfolders, is_listable, subfolders},
    left_out::{LeftOut, language_of},
    licence::{Statement, licence_of_files},
    package_files::{PackageFilter, PackageVisitor},
    packages,
    repository_names::repository_name,
    revision::{Revision, TreeFile, TreeListing},
    source::{Package, Registry, Source},
    source_file::{FileBytes, RepoFiles, SourceFile},
};
use crate::{
    error::Result,
    repositories::{Repo, licences_by_digest},
};

/// What a folder source gives, by path: digests of the files that are read, reasons of those that are not, commits and licences. Equal
/// contents give equal records.
pub type Contents = BTreeMap<String, String>;

/// Largest number of folders that one message names.
const NAMED: usize = 5;

type Take<'a> = &'a mut dyn FnMut(&Repo, RepoFiles) -> Result<()>;

/// Reads repositories.
pub struct Reader<'a> {
    exclude: &'a Exclude,
    /// Repositories that are not read.
    kept: &'a [Kept],
    max_file_bytes: u64,
    /// Folder of the downloads.
    cache: &'a Path,
    progress: &'a Progress,
    lists_left_out: bool,
    keeps_files: bool,
    /// Licences by the digest of what a repository says about them.
    known_licences: HashMap<String, String>,
    /// Number of files that were left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Of the folder source that was read last.
    pub contents: Contents,
}

/// Number of repositories in a source. A source whose files are copied has none.
pub fn repository_count(source: &Source) -> Result<u64> {
    Ok(match source {
        Source::Packages { packages, .. } => packages.len() as u64,
        Source::Dir { path, each_subfolder: true, .. } if is_listable(path, true) => subfolders(path)?.repositories.len() as u64,
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
            kept: &config.kept,
            max_file_bytes,
            cache,
            progress,
            lists_left_out: false,
            keeps_files: true,
            known_licences: HashMap::new(),
            skipped: BTreeMap::new(),
            contents: Contents::new(),
        }
    }

    /// Reads folders for their contents only: no repository has files, so that one file at a time is in memory.
    pub fn without_files(self) -> Self {
        Self { keeps_files: false, ..self }
    }

    /// Takes licences from an earlier raw artifact, so that their texts are not compared again.
    pub fn with_licences_of(self, raw: Option<&Path>) -> Self {
        Self { known_licences: raw.map(licences_by_digest).unwrap_or_default(), ..self }
    }

    /// Also returns the paths that are not read, with the reasons.
    pub fn listing_left_out(self) -> Self {
        Self { lists_left_out: true, ..self }
    }

    /// Calls `take` with each repository of a source and its files, in a fixed order.
    pub fn read(&mut self, source: &Source, take: Take<'_>) -> Result<()> {
        match source {
            Source::Packages { registry, optional, packages } => self.read_packages(*registry, *optional, packages, take),
            Source::Dir { .. } => self.read_folders(source, take),
            Source::Csn { .. } | Source::Urls { .. } | Source::Snippets { .. } | Source::Perturbed { .. } => Ok(()),
        }
    }

    fn read_folders(&mut self, source: &Source, take: Take<'_>) -> Result<()> {
        let Source::Dir { path, name, licence, url_prefix, url_template, each_subfolder, revision } = source else { return Ok(()) };
        self.contents.clear();
        if self.kept.iter().any(|kept| kept.source.as_ref() == Some(path)) && !is_listable(path, *each_subfolder) {
            return Ok(());
        }
        ensure!(path.is_dir(), "source folder {} does not exist: correct harvest.source.path", path.display());
        for folder in self.repositories(path, *each_subfolder)? {
            let repository = repository_name(&folder, name.as_deref(), *each_subfolder);
            if self.kept.iter().any(|kept| kept.name == repository) {
                continue;
            }
            let within = if *each_subfolder { format!("{}/", file_name(&folder)) } else { String::new() };
            let (commit, statement, files) = match revision {
                Some(revision) => self.revision(&folder, revision, &within)?,
                None => self.folder(&folder, &within)?,
            };
            // No path of a file ends with a slash.
            self.contents.insert(format!("{within}commit/"), commit.clone());
            let licence_digest = statement.as_ref().map(Statement::digest);
            self.contents.insert(format!("{within}licence/"), licence_digest.clone().unwrap_or_default());
            let found = || statement.filter(|_| self.keeps_files).map(|statement| statement.licence(&self.known_licences));
            let repo = Repo {
                name: repository,
                url_prefix: url_prefix.clone(),
                url_template: url_template.clone(),
                sha: commit,
                licence: licence.clone().or_else(found).unwrap_or_else(|| "unknown".into()),
                licence_digest: licence_digest.filter(|_| licence.is_none()),
                source: path.clone(),
            };
            take(&repo, files)?;
        }
        Ok(())
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
            let (licence, files) = self.package(registry, package, &fetched.path)?;
            let version = package.version.clone().or_else(|| fetched.version.clone()).unwrap_or_else(|| "any".to_owned());
            let kind = if registry == Registry::Debian { "deb/debian" } else { registry.name() };
            let repo = Repo {
                name: format!("{}/{}", registry.name(), package.name),
                url_template: None,
                url_prefix: format!("pkg:{kind}/{}@{version}#", package.name),
                sha: fetched.sha256,
                licence,
                licence_digest: None,
                source: PathBuf::new(),
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

    /// Reads a folder: its commit, its licence and its files. `within`: text before their paths in the contents of the source.
    fn folder(&mut self, root: &Path, within: &str) -> Result<(String, Option<Statement>, RepoFiles)> {
        let folder = SourceFolder::open(root)?;
        if let Some(checkout) = folder.enclosing_checkout() {
            self.progress.message(&format!(
                "harvest   reads {} as a plain folder, without commit and .gitignore: its checkout is {}",
                root.display(),
                checkout.display()
            ));
        }
        let licence = licence_of_files(&folder.names(), &|name, max_bytes| folder.read(name, max_bytes).ok());
        Ok((folder.commit().to_owned(), licence, self.files_of_folder(root, &folder, within)?))
    }

    /// Reads a commit: its id, its licence and its files, whose bytes stay in the repository.
    fn revision(&mut self, root: &Path, revision: &str, within: &str) -> Result<(String, Option<Statement>, RepoFiles)> {
        let revision = Arc::new(Revision::open(root, revision)?);
        self.contents.insert(format!("{within}tree/"), revision.tree());
        let files = revision.root_files();
        let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let read = |name: &str, max_bytes| revision.bytes(files.iter().find(|file| file.path == name)?.id, max_bytes);
        let licence = licence_of_files(&names, &read);
        let mut found = RepoFiles::default();
        if self.keeps_files {
            self.files_of_revision(&revision, &mut found)?;
        }
        Ok((revision.commit(), licence, found))
    }

    fn files_of_revision(&mut self, revision: &Arc<Revision>, found: &mut RepoFiles) -> Result<()> {
        let TreeListing { files, left_out } = revision.list()?;
        for (path, reason) in left_out {
            self.leave_out(found, path, reason);
        }
        let (repository, max_bytes) = (revision.repository(), self.max_file_bytes);
        for TreeFile { path, id } in files {
            let language = self.exclude.select(&path).and_then(|language| match revision.refusal(&repository, id, max_bytes) {
                Some(reason) => Err(reason),
                None => Ok(language),
            });
            match language {
                Ok(language) => {
                    let bytes = FileBytes::Object { revision: revision.clone(), id, max_bytes };
                    found.files.push(SourceFile { path, language, content: id.to_string(), bytes });
                }
                Err(reason) => self.leave_out(found, path, reason),
            }
        }
        Ok(())
    }

    fn files_of_folder(&mut self, root: &Path, folder: &SourceFolder, within: &str) -> Result<RepoFiles> {
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
                        found.files.push(SourceFile { path, language, content, bytes: FileBytes::Read(bytes) });
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
