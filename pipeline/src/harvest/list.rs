//! Lists every file of the sources: read, or left out with the reason.

use std::path::Path;

use ledger::Store;
use rayon::prelude::*;

use super::{
    config::Config, content::content_of, left_out::LeftOut, reader::Reader, repository_names::check_names, source::Source,
    source_file::RepoFiles,
};
use crate::{
    error::Result,
    files::{FileKind, find_files, hidden_folder},
};

/// Files whose content is checked in parallel at a time.
pub const GROUP: usize = 256;

/// A file of a source, and whether stage `harvest` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDecision {
    /// Name of the repository; for a source whose files are copied, the kind of the source.
    pub repo: String,
    /// Path in the repository.
    pub path: String,
    /// Why the file is left out; none where it is read.
    pub left_out: Option<LeftOut>,
}

/// Calls `list` with every file of every source once, in the order of the sources; the files of a repository are sorted by
/// path. Packages that are not in the cache are downloaded, files of a `urls` source are not.
///
/// The content of `.git` folders is not listed, nor is a zip file in a package whose entries are listed.
pub fn list_files(config: &Config, store: &Store, list: &mut dyn FnMut(FileDecision)) -> Result<()> {
    config.check()?;
    check_names(config)?;
    let cache = store.cache_dir();
    let mut reader = Reader::new(config, &cache, store.progress()).listing_left_out();
    for source in config.all_sources() {
        let mut copied = |kind: &str, path: String, left_out| list(FileDecision { repo: kind.to_owned(), path, left_out });
        match source {
            Source::Csn { path } => list_data(path, &mut |path, left_out| copied("csn", path, left_out))?,
            Source::Perturbed { path, .. } => list_data(path, &mut |path, left_out| copied("perturbed", path, left_out))?,
            Source::Urls { files, .. } => files.iter().for_each(|file| copied("urls", file.name.clone(), None)),
            Source::Snippets { path, name, .. } => copied(name, path.display().to_string(), None),
            Source::Packages { .. } | Source::Dir { .. } => reader.read(source, &mut |repo, found| {
                for (path, left_out) in decide(found, config) {
                    list(FileDecision { repo: repo.name.clone(), path, left_out });
                }
                Ok(())
            })?,
        }
    }
    Ok(())
}

/// Every file of a repository with its decision, sorted by path.
fn decide(found: RepoFiles, config: &Config) -> Vec<(String, Option<LeftOut>)> {
    let mut decisions: Vec<_> = found.left_out.into_iter().map(|(path, reason)| (path, Some(reason))).collect();
    for group in found.files.chunks(GROUP) {
        let reasons: Vec<_> = group.par_iter().map(|file| content_of(file, config).err()).collect();
        decisions.extend(group.iter().map(|file| file.path.clone()).zip(reasons));
    }
    decisions.sort_by(|(a, _), (b, _)| a.cmp(b));
    decisions
}

fn list_data(root: &Path, list: &mut dyn FnMut(String, Option<LeftOut>)) -> Result<()> {
    for file in find_files(root, &|_| true)? {
        let left_out = match (file.kind, hidden_folder(&file.path)) {
            (_, Some(hidden)) => Some(LeftOut::HiddenFolder(hidden.to_owned())),
            (FileKind::Link, None) => Some(LeftOut::Link),
            (FileKind::Regular, None) => None,
        };
        list(file.path, left_out);
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{harvest::Harvest, records::each_record};
    use ledger::{Language, Progress};
    use std::{collections::BTreeSet, fs};

    const FUNCTION: &str = "def read(path):\n    '''Reads the whole file.'''\n    return open(path).read()\n";

    pub fn config(source: &Path) -> Config {
        serde_json::from_value(serde_json::json!({
            "source": { "kind": "dir", "path": source },
            "languages": ["python"], "keep-undocumented": false, "dialect": "plain", "min-documentation-tokens": 1,
            "min-lines": 1, "max-file-bytes": 1000, "max-mean-line-bytes": 100, "records-per-file": 10,
            "split": { "valid": 0.0, "test": 0.0, "salt": "" },
            "exclude": { "folders": ["tests"], "in-file-name": [".min."] }
        }))
        .unwrap()
    }

    fn write(root: &Path, path: &str, text: &str) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }

    /// Writes a folder with a file for each decision and returns the decisions, sorted by path.
    fn folder(root: &Path) -> Vec<(&'static str, Option<LeftOut>)> {
        let large = format!("{FUNCTION}{}", "# x\n".repeat(500));
        let minified = format!("x = '{}'\n", "x".repeat(500));
        let files: Vec<(&str, &str, Option<LeftOut>)> = vec![
            (".hidden/a.py", FUNCTION, Some(LeftOut::HiddenFolder(".hidden".to_owned()))),
            ("README", "text", Some(LeftOut::UnknownLanguage)),
            ("a.min.py", FUNCTION, Some(LeftOut::ExcludedName(".min.".to_owned()))),
            ("a.py", FUNCTION, None),
            ("b/a.go", "package b", Some(LeftOut::LanguageNotSelected(Language::Go))),
            ("b/binary.py", "x = '\0'\n", Some(LeftOut::Binary)),
            ("b/c.py", FUNCTION, None),
            ("b/generated.py", "# Code generated. DO NOT EDIT.\n", Some(LeftOut::Generated)),
            ("b/large.py", &large, Some(LeftOut::TooLarge { max_bytes: 1000 })),
            ("b/minified.py", &minified, Some(LeftOut::Minified { max_mean_line_bytes: 100 })),
            ("tests/a.py", FUNCTION, Some(LeftOut::ExcludedFolder("tests".to_owned()))),
        ];
        files.iter().for_each(|(path, text, _)| write(root, path, text));
        std::os::unix::fs::symlink("a.py", root.join("link.py")).unwrap();
        let link = ("link.py", Some(LeftOut::Link));
        let mut expected: Vec<_> = files.into_iter().map(|(path, _, reason)| (path, reason)).chain([link]).collect();
        expected.sort_by_key(|(path, _)| *path);
        expected
    }

    fn listed(config: &Config, data: &Path) -> Vec<FileDecision> {
        let store = Store::at(data, Progress::new(true), 1);
        let mut decisions = Vec::new();
        list_files(config, &store, &mut |decision| decisions.push(decision)).unwrap();
        decisions
    }

    fn decisions(files: &[FileDecision]) -> Vec<(&str, Option<LeftOut>)> {
        files.iter().map(|file| (file.path.as_str(), file.left_out.clone())).collect()
    }

    #[test]
    fn every_file_of_a_folder_is_listed_once_with_its_reason() {
        let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = folder(source.path());
        assert_eq!(decisions(&listed(&config(source.path()), data.path())), expected);
    }

    #[test]
    fn the_files_that_are_not_left_out_are_those_that_harvest_reads() {
        let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        folder(source.path());
        let config = config(source.path());
        let selected = listed(&config, data.path()).into_iter().filter(|file| file.left_out.is_none());
        let selected: BTreeSet<String> = selected.map(|file| file.path).collect();
        let raw = Store::at(data.path(), Progress::new(true), 1).make::<Harvest>(&config).unwrap();
        let mut harvested = BTreeSet::new();
        each_record(raw.dir(), &mut |record| {
            harvested.extend(record.map(|record| record.path));
            Ok(())
        })
        .unwrap();
        assert_eq!(selected, harvested);
        assert_eq!(selected.len(), 2);
    }

    #[test]
    fn files_of_a_checkout_that_git_ignores_are_listed() {
        let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, text) in [(".gitignore", "out/\n"), ("a.py", FUNCTION), ("out/b.py", FUNCTION)] {
            write(source.path(), path, text);
        }
        let git = std::process::Command::new("git").args(["init", "-q"]).current_dir(source.path()).status().unwrap();
        assert!(git.success());
        let expected = [(".gitignore", Some(LeftOut::UnknownLanguage)), ("a.py", None), ("out/b.py", Some(LeftOut::GitIgnored))];
        assert_eq!(decisions(&listed(&config(source.path()), data.path())), expected);
    }

    #[test]
    fn files_that_are_copied_are_listed_by_the_kind_of_their_source() {
        let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(source.path(), "python/train.jsonl", "{}\n");
        let mut config = config(source.path());
        config.source = Some(Source::Csn { path: source.path().to_owned() });
        let expected = FileDecision { repo: "csn".to_owned(), path: "python/train.jsonl".to_owned(), left_out: None };
        assert_eq!(listed(&config, data.path()), [expected]);
    }
}
