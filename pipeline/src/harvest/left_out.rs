//! Reasons for which a file of a source is not read, and the rules that find them in a path.

use std::fmt;

use ledger::{Language, Refusal};

use super::config::Exclude;

/// Why a file of a source is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// A folder of the path is one of `harvest.exclude.folders`.
    ExcludedFolder(String),
    /// A folder of the path starts with a dot.
    HiddenFolder(String),
    /// The file name contains one of `harvest.exclude.in-file-name`.
    ExcludedName(String),
    /// The path has none of the prefixes of the package's `only`.
    NotInOnly,
    /// The path has this prefix of the package's `except`.
    InExcept(String),
    /// Git ignores the file or folder.
    GitIgnored,
    /// A git repository inside the repository: a clone or a submodule.
    NestedRepository,
    /// A virtual environment of Python: installed packages.
    VirtualEnvironment,
    /// A file in the folder of a source with `each-subfolder`, in none of its repositories.
    OutsideRepositories,
    /// A symbolic link: links are not followed.
    Link,
    /// A path that leads out of the archive or the folder.
    UnsafePath,
    /// A pipe, a socket or a device.
    NotRegular,
    /// The system does not read the file or the folder.
    Unreadable,
    /// The name is not UTF-8.
    NameNotUtf8,
    /// The file extension belongs to no supported language.
    UnknownLanguage,
    /// The language is not in `harvest.languages`.
    LanguageNotSelected(Language),
    /// The file has more bytes than `harvest.max-file-bytes`.
    TooLarge { max_bytes: u64 },
    /// The lines of code are longer than `harvest.max-mean-line-bytes` on average (the median).
    Minified { max_mean_line_bytes: usize },
    /// The first lines say that a program generated the file.
    Generated,
    /// The file contains NUL bytes.
    Binary,
    /// The parser reached its memory limit.
    NotParsed,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExcludedFolder(name) => write!(f, "excluded folder {name} (harvest.exclude.folders)"),
            Self::HiddenFolder(name) => write!(f, "hidden folder {name}"),
            Self::ExcludedName(part) => write!(f, "excluded file name: it contains {part} (harvest.exclude.in-file-name)"),
            Self::NotInOnly => write!(f, "no prefix of the package's `only` matches"),
            Self::InExcept(prefix) => write!(f, "below {prefix}, a prefix of the package's `except`"),
            Self::GitIgnored => write!(f, "ignored by git"),
            Self::NestedRepository => {
                write!(f, "in a git repository inside the repository (a clone or a submodule): make it a source of its own")
            }
            Self::VirtualEnvironment => write!(f, "in a virtual environment of Python"),
            Self::OutsideRepositories => write!(f, "in no repository: the source has each-subfolder = true"),
            Self::Link => write!(f, "symbolic link"),
            Self::UnsafePath => write!(f, "path leads out of the archive or the folder"),
            Self::NotRegular => write!(f, "no regular file"),
            Self::Unreadable => write!(f, "not readable"),
            Self::NameNotUtf8 => write!(f, "name is not UTF-8"),
            Self::UnknownLanguage => write!(f, "unknown language: no supported language has this file extension"),
            Self::LanguageNotSelected(language) => write!(f, "language {language} is not selected (harvest.languages)"),
            Self::TooLarge { max_bytes } => write!(f, "larger than {max_bytes} bytes (harvest.max-file-bytes)"),
            Self::Minified { max_mean_line_bytes } => {
                write!(f, "minified: lines are longer than {max_mean_line_bytes} bytes on average (harvest.max-mean-line-bytes)")
            }
            Self::Generated => write!(f, "generated: the first lines say so"),
            Self::Binary => write!(f, "binary: it contains NUL bytes"),
            Self::NotParsed => write!(f, "not parsed: the text has too many readings"),
        }
    }
}

impl LeftOut {
    /// Why a file was not read; none where it does not exist.
    pub fn of_refusal(refusal: &Refusal, max_bytes: u64) -> Option<Self> {
        Some(match refusal {
            Refusal::Missing => return None,
            Refusal::Link => Self::Link,
            Refusal::Outside => Self::UnsafePath,
            Refusal::NotRegular => Self::NotRegular,
            Refusal::TooLarge { .. } => Self::TooLarge { max_bytes },
            Refusal::Unreadable(_) => Self::Unreadable,
        })
    }

    /// Key in the report's `skipped`.
    pub fn report_key(&self) -> String {
        let key = match self {
            Self::ExcludedFolder(name) => return format!("excluded folder {}", name.to_ascii_lowercase()),
            Self::ExcludedName(part) => return format!("excluded file name {part}"),
            Self::LanguageNotSelected(language) => return format!("language {language} not selected"),
            Self::HiddenFolder(_) => "hidden folder",
            Self::NotInOnly | Self::InExcept(_) => "path of a package not selected",
            Self::GitIgnored => "ignored by git",
            Self::NestedRepository => "git repository inside a repository",
            Self::VirtualEnvironment => "virtual environment",
            Self::OutsideRepositories => "in no repository",
            Self::UnknownLanguage => "unknown language",
            Self::TooLarge { .. } => "file too large",
            Self::Minified { .. } => "file minified",
            Self::Generated => "file generated",
            Self::Binary => "file binary",
            Self::NotParsed => "file not parsed",
            Self::Link => "link not followed",
            Self::UnsafePath => "path leads out of the source",
            Self::NotRegular => "no regular file",
            Self::Unreadable => "not readable",
            Self::NameNotUtf8 => "name is not UTF-8",
        };
        key.to_owned()
    }
}

impl Exclude {
    /// Why this path is left out; none where it is read.
    pub fn reason(&self, path: &str) -> Option<LeftOut> {
        let mut parts = path.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let folder = parts.rev().find_map(|folder| {
            if folder.starts_with('.') && folder.len() > 2 {
                return Some(LeftOut::HiddenFolder(folder.to_owned()));
            }
            let is_excluded = self.folders.iter().any(|name| folder.eq_ignore_ascii_case(name));
            is_excluded.then(|| LeftOut::ExcludedFolder(folder.to_owned()))
        });
        folder.or_else(|| self.in_file_name.iter().find(|part| has_part(file, part)).cloned().map(LeftOut::ExcludedName))
    }

    /// The language of a file that is read, or the reason why its path is left out.
    pub fn select(&self, path: &str) -> Result<Language, LeftOut> {
        match self.reason(path) {
            Some(reason) => Err(reason),
            None => language_of(path).ok_or(LeftOut::UnknownLanguage),
        }
    }
}

/// Has a file name this part, not inside a word? `test` is in `FooTest.java` and `test_a.py`, and not in `latest.py`.
fn has_part(file: &str, part: &str) -> bool {
    let (lower, part) = (file.to_ascii_lowercase(), part.to_ascii_lowercase());
    lower.match_indices(&part).any(|(start, _)| is_boundary(file, start) && is_boundary(file, start + part.len()))
}

/// Is there a boundary of a word at a byte of a name? Not between two letters, except from a small to a capital one.
fn is_boundary(name: &str, at: usize) -> bool {
    let (before, after) = (name[..at].chars().next_back(), name[at..].chars().next());
    match (before, after) {
        (Some(before), Some(after)) if before.is_uppercase() && after.is_uppercase() => {
            // The last capital of several belongs to the next word: `HTTP|Test`.
            name[at..].chars().nth(1).is_some_and(char::is_lowercase)
        }
        (Some(before), Some(after)) => !before.is_alphabetic() || !after.is_alphabetic() || before.is_lowercase() && after.is_uppercase(),
        _ => true,
    }
}

/// The supported language that a file extension belongs to, in small or capital letters.
pub fn language_of(path: &str) -> Option<Language> {
    Language::of_extension(&path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclude() -> Exclude {
        Exclude { folders: vec!["tests".to_owned()], in_file_name: vec![".min.".to_owned()] }
    }

    #[test]
    fn a_part_of_a_name_is_not_inside_a_word() {
        for name in ["test_a.py", "a_test.go", "FooTest.java", "testUtils.js", "HTTPTest.java", "TEST.PY", "a.test.js"] {
            assert!(has_part(name, "test"), "{name}");
        }
        for name in ["latest_prices.py", "attestation.py", "protest.rb", "fastestRoute.js", "testimony.php"] {
            assert!(!has_part(name, "test"), "{name}");
        }
        assert!(has_part("user.spec.js", "spec.") && has_part("UserSpec.js", "spec.") && has_part("a.min.js", ".min."));
        assert!(has_part("a_pb2.py", "_pb2") && !has_part("aerospec.py", "spec."));
    }

    #[test]
    fn an_extension_may_be_in_capital_letters() {
        assert_eq!((language_of("src/MAIN.PY"), language_of("a.Js")), (Some(Language::Python), Some(Language::Javascript)));
    }

    #[test]
    fn a_path_is_left_out_by_its_outermost_excluded_folder() {
        assert_eq!(exclude().reason("src/Tests/.cache/a.py"), Some(LeftOut::ExcludedFolder("Tests".to_owned())));
        assert_eq!(exclude().reason(".cache/tests/a.py"), Some(LeftOut::HiddenFolder(".cache".to_owned())));
        assert_eq!(exclude().reason("latests/a.py"), None);
    }

    #[test]
    fn a_path_is_left_out_by_a_part_of_its_file_name() {
        assert_eq!(exclude().reason("src/A.MIN.js"), Some(LeftOut::ExcludedName(".min.".to_owned())));
        assert_eq!(exclude().reason("src.min.d/a.js"), None);
    }

    #[test]
    fn a_path_without_a_known_extension_has_no_language() {
        assert_eq!(exclude().select("src/README"), Err(LeftOut::UnknownLanguage));
        assert_eq!(exclude().select("src/a.py"), Ok(Language::Python));
    }
}
