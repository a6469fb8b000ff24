//! Recursive listings of folders.

use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::error::{Context, Result};

/// What a path below a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Link,
}

/// A regular file or a link below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Relative to the folder, with `/` between the parts.
    pub path: String,
    pub kind: FileKind,
}

/// Is this the name of a hidden folder? [`find_files`] leaves hidden folders out.
pub fn is_hidden(folder: &str) -> bool {
    folder.starts_with('.')
}

/// The outermost hidden folder of a path.
pub fn hidden_folder(path: &str) -> Option<&str> {
    let (folders, _) = path.rsplit_once('/')?;
    folders.split('/').find(|folder| is_hidden(folder))
}

/// Regular files and links below `root`, sorted by path. Links are not followed. `enters` chooses the folders by name.
pub fn find_files(root: &Path, enters: &dyn Fn(&str) -> bool) -> Result<Vec<FoundFile>> {
    let name = |entry: &DirEntry| entry.file_name().to_string_lossy().into_owned();
    let walk = WalkDir::new(root).min_depth(1).into_iter();
    let mut found = Vec::new();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !entry.file_type().is_dir() || enters(&name(entry))) {
        let entry = entry.with_context(|| format!("listing {}", root.display()))?;
        let kind = match entry.file_type() {
            kind if kind.is_symlink() => FileKind::Link,
            kind if kind.is_file() => FileKind::Regular,
            _ => continue,
        };
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        found.push(FoundFile { path: parts.join("/"), kind });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Regular files below a data folder, relative and sorted, and the number of links, which are not followed. Hidden
/// folders are left out.
pub fn data_files(root: &Path) -> Result<(Vec<String>, u64)> {
    let found = find_files(root, &|folder| !is_hidden(folder))?;
    let links = found.iter().filter(|file| file.kind == FileKind::Link).count() as u64;
    Ok((found.into_iter().filter(|file| file.kind == FileKind::Regular).map(|file| file.path).collect(), links))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn data_files_are_sorted_and_links_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a", ".hidden", "b/c"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["a/x", "a.txt", ".config", ".hidden/x", "b/c/y"] {
            fs::write(dir.path().join(file), "1").unwrap();
        }
        std::os::unix::fs::symlink("a.txt", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("folder")).unwrap();
        let (files, links) = data_files(dir.path()).unwrap();
        assert_eq!(files, [".config", "a.txt", "a/x", "b/c/y"]);
        assert_eq!(links, 2);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let error = data_files(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
