//! Functions that were deleted: by their content, their id, their file or their repository.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::serve::Serve;
use crate::{
    durable::write_atomically,
    error::{Error, Result},
    recordable_json,
    text::words,
};

/// Functions that no published bundle may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retraction {
    /// `<id>`: the function with this id, and those with its content as soon as the content is known. Lists of version 0.2.0 have only
    /// such lines.
    Function(String),
    /// `content<tab><digest>`: every function with this content, wherever it is.
    Content(String),
    /// `id<tab><id>`: the function with this id only.
    Id(String),
    /// `path<tab><repository><tab><path>`: every function of a file.
    File { repo: String, path: String },
    /// `repo<tab><repository>`: every function of a repository.
    Repository(String),
}

impl Retraction {
    /// Reads a line of the list.
    pub fn of_line(line: &str) -> Self {
        match line.split_once('\t') {
            Some(("content", digest)) => Self::Content(digest.to_owned()),
            Some(("id", id)) => Self::Id(id.to_owned()),
            Some(("repo", repo)) => Self::Repository(repo.to_owned()),
            Some(("path", file)) => {
                let (repo, path) = file.split_once('\t').unwrap_or((file, ""));
                Self::File { repo: repo.to_owned(), path: path.to_owned() }
            }
            _ => Self::Function(line.to_owned()),
        }
    }
}

impl fmt::Display for Retraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(id) => f.write_str(id),
            Self::Content(digest) => write!(f, "content\t{digest}"),
            Self::Id(id) => write!(f, "id\t{id}"),
            Self::File { repo, path } => write!(f, "path\t{repo}\t{path}"),
            Self::Repository(repo) => write!(f, "repo\t{repo}"),
        }
    }
}

/// The list of deleted functions: `serve/retracted` of a data folder, a [`Retraction`] in each line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retracted(pub BTreeSet<String>);
recordable_json!(Retracted, "retracted", 1);

impl Retracted {
    /// Reads a text with one retraction in each line.
    pub fn of_lines(text: &str) -> Self {
        Self(words::without_mark(text).lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The list of a data folder; none where nothing was retracted.
    pub fn read(data: &Path) -> Result<Option<Self>> {
        let path = Self::path(data);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self::of_lines(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("reading", &path)(error)),
        }
    }

    /// Writes the list of a data folder.
    pub fn write(&self, data: &Path) -> Result<()> {
        let lines: String = self.0.iter().map(|line| format!("{line}\n")).collect();
        write_atomically(&Self::path(data), lines.as_bytes())
    }

    /// What the lines delete.
    pub fn retractions(&self) -> impl Iterator<Item = Retraction> + '_ {
        self.0.iter().map(|line| Retraction::of_line(line))
    }

    /// The ids of the lines that are an id only.
    pub fn functions(&self) -> BTreeSet<String> {
        self.retractions().filter_map(|retraction| if let Retraction::Function(id) = retraction { Some(id) } else { None }).collect()
    }

    fn path(data: &Path) -> PathBuf {
        Serve::of(data).retracted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_have_a_byte_order_mark_and_windows_line_ends() {
        assert_eq!(Retracted::of_lines("\u{feff}ab12\r\n\r\n repo\to/r \r\n").0.into_iter().collect::<Vec<_>>(), ["ab12", "repo\to/r"]);
    }

    #[test]
    fn a_line_is_a_retraction_and_back() {
        for line in ["0123456789abcdef0123456789abcdef", "content\tab12", "id\tab12", "repo\to/r", "path\to/r\tsrc/a b.py"] {
            assert_eq!(Retraction::of_line(line).to_string(), line);
        }
        assert_eq!(Retraction::of_line("path\to/r\ta.py"), Retraction::File { repo: "o/r".to_owned(), path: "a.py".to_owned() });
    }
}
