//! Looks at the repositories of all sources before a night reads them: which can be read, and why the others cannot.

use std::path::{Path, PathBuf};

use super::{
    checkout::git_dir,
    config::Config,
    folder::{SourceFolder, subfolders},
    left_out::LeftOut,
    repository_names::repository_name,
    revision::{Revision, TreeFile},
    source::Source,
};
use crate::{
    error::Result,
    repositories::{self, FILES},
};

/// A repository of a folder source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Folder of the source.
    pub source: PathBuf,
    pub name: String,
    /// Why it cannot be read now; none where it can.
    pub unreadable: Option<String>,
}

/// A source whose folder cannot be listed, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSource {
    pub source: PathBuf,
    pub reason: String,
}

/// A repository that a raw artifact has records of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRepository {
    pub name: String,
    /// Folder of its source; empty for a package.
    pub source: PathBuf,
}

/// The repositories of a raw artifact.
pub fn recorded_repositories(raw: &Path) -> Result<Vec<RecordedRepository>> {
    let entries = repositories::read(raw)?.into_iter();
    Ok(entries.map(|entry| RecordedRepository { name: entry.repo.name, source: entry.repo.source }).collect())
}

/// Does a raw artifact list its source files, so that its records can be kept?
pub fn lists_files(raw: &Path) -> bool {
    raw.join(FILES).is_file()
}

/// The repositories of the folder sources, in the order of the sources.
pub fn survey(config: &Config) -> (Vec<Surveyed>, Vec<UnreadableSource>) {
    let (mut repositories, mut sources) = (Vec::new(), Vec::new());
    for source in config.all_sources() {
        let Source::Dir { path, name, each_subfolder, revision, .. } = source else { continue };
        let folders = match path.is_dir() {
            false => Err("the folder does not exist".to_owned()),
            true if !each_subfolder => Ok(vec![path.clone()]),
            true => subfolders(path).map(|found| found.repositories).map_err(|error| ledger::chain(&error)),
        };
        match folders {
            Err(reason) => sources.push(UnreadableSource { source: path.clone(), reason }),
            Ok(folders) => repositories.extend(folders.iter().map(|folder| Surveyed {
                source: path.clone(),
                name: repository_name(folder, name.as_deref(), *each_subfolder),
                unreadable: unreadable(folder, revision.as_deref(), config),
            })),
        }
    }
    (repositories, sources)
}

/// Why a repository cannot be read now.
fn unreadable(folder: &Path, revision: Option<&str>, config: &Config) -> Option<String> {
    let opened = match revision {
        Some(revision) => check_revision(folder, revision, config),
        None => check_folder(folder),
    };
    opened.err().map(|error| ledger::chain(&error))
}

/// Are all objects there that a night would read?
fn check_revision(folder: &Path, revision: &str, config: &Config) -> Result<()> {
    let revision = Revision::open(folder, revision)?;
    let repository = revision.repository();
    for TreeFile { path, id } in revision.list()?.files {
        let is_read = config.exclude.select(&path).is_ok_and(|language| config.languages.contains(&language));
        let refusal = is_read.then(|| revision.refusal(&repository, id, config.max_file_bytes)).flatten();
        ledger::ensure!(refusal != Some(LeftOut::Unreadable), "object {id} of {path} is missing or damaged: fetch it, or clone again");
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<()> {
    let opened = SourceFolder::open(folder)?;
    let dot_git = folder.join(".git");
    if dot_git.symlink_metadata().is_err() {
        return Ok(());
    }
    let lock = git_dir(folder, &dot_git)?.join("index.lock");
    ledger::ensure!(!lock.exists(), "another git process works in it: wait for its end, or delete {} if there is none", lock.display());
    let is_empty = opened.commit().is_empty() && opened.names() == [".git"];
    ledger::ensure!(!is_empty, "it has no commit and no files: finish `git clone`, or remove the folder");
    Ok(())
}
