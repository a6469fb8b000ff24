//! `repositories.json` of a published bundle: commit and licence of each repository, and the links to its files.

use std::{collections::BTreeMap, fs, path::Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::Context};

/// Name of the file in a bundle.
pub const REPOSITORIES: &str = "repositories.json";
/// Largest file: some hundred thousand repositories.
const MAX_BYTES: u64 = 64 << 20;
/// Characters of a path that stand for themselves in a URL: those that RFC 3986 leaves unreserved, and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A repository of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    pub name: String,
    /// Commit of a checkout, or sha256 of a package; empty for a plain folder.
    pub commit: String,
    pub licence: String,
    /// Link to a line, with `{repo}`, `{commit}`, `{path}`, `{line}` and `{last_line}`; none: the url of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_template: Option<String>,
}

/// The repositories of a bundle, by name.
#[derive(Debug, Default)]
pub struct Repositories(BTreeMap<String, Repository>);

/// Reads the file; empty where the bundle has none.
///
/// # Errors
/// The file is damaged or too large.
pub fn read(dir: &Path) -> Result<Vec<Repository>> {
    let path = dir.join(REPOSITORIES);
    let Ok(meta) = fs::metadata(&path) else { return Ok(Vec::new()) };
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(Error::damaged(path, format!("it is no file of at most {MAX_BYTES} bytes")));
    }
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, error.to_string()))
}

impl Repositories {
    /// Opens the file of a bundle.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        Ok(Self(read(dir)?.into_iter().map(|one| (one.name.clone(), one)).collect()))
    }

    /// A repository by its name.
    pub fn get(&self, name: &str) -> Option<&Repository> {
        self.0.get(name)
    }

    /// The link to a function, where its repository has a template. `lines`: first and last line, `10-20`, or empty.
    pub fn url(&self, repo: &str, path: &str, lines: &str) -> Option<String> {
        let repository = self.get(repo)?;
        let (first, last) = lines.split_once('-').unwrap_or((lines, lines));
        let line = |line: &str| if line.is_empty() { "1".to_owned() } else { line.to_owned() };
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let values = [
            ("repo", escaped(repo)),
            ("commit", escaped(&repository.commit)),
            ("path", escaped(path)),
            ("line", line(first)),
            ("last_line", line(last)),
        ];
        Some(filled(repository.url_template.as_ref()?, &values))
    }
}

/// The template with its values; a value is not searched for placeholders.
fn filled(template: &str, values: &[(&str, String)]) -> String {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        text += before;
        let found = after.split_once('}').and_then(|(name, tail)| Some((&values.iter().find(|(known, _)| *known == name)?.1, tail)));
        (text, rest) = match found {
            Some((value, tail)) => (text + value, tail),
            None => (text + "{", after),
        };
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_the_values_of_its_function_and_escapes_them() {
        let template = "https://git.example.org/{repo}/blob/{commit}/{path}#L{line}-L{last_line}{other}";
        let one =
            Repository { name: "team/api".into(), commit: "c0ffee".into(), licence: "MIT".into(), url_template: Some(template.into()) };
        let repositories = Repositories([("team/api".to_owned(), one)].into());
        let url = repositories.url("team/api", "src/a {line}#é.py", "10-20").unwrap();
        assert_eq!(url, "https://git.example.org/team/api/blob/c0ffee/src/a%20%7Bline%7D%23%C3%A9.py#L10-L20{other}");
        assert!(repositories.url("team/api", "a.py", "").unwrap().ends_with("/a.py#L1-L1{other}"));
        assert_eq!(repositories.url("other", "a.py", "1-2"), None);
    }

    #[test]
    fn a_file_that_is_damaged_is_an_error_and_one_that_is_missing_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join(REPOSITORIES), "[{}]").unwrap();
        assert!(matches!(read(dir.path()), Err(Error::Damaged { file, .. }) if file.ends_with(REPOSITORIES)));
    }
}
