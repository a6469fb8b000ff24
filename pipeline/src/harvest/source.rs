//! Where code comes from: packages, folders, git checkouts, CodeSearchNet trees.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use ledger::{Digest, Language, Progress, Split};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{
    archive::{self, Wanted},
    download::Remote,
    fetch::Registry,
};

/// One source of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Packages of a registry, each a repository of its own.
    Packages {
        registry: Registry,
        /// Passed over, and said so, when the registry's client is not installed.
        #[serde(default)]
        optional: bool,
        packages: Vec<Package>,
    },
    /// A folder or git checkout (then only what git does not ignore, and the commit is recorded).
    Dir {
        path: PathBuf,
        /// Name of the repository; default: the folder's.
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        licence: Option<String>,
        /// Put before `path#L1-L9` in a row's url.
        #[serde(default)]
        url_prefix: String,
        /// Every subfolder is a repository of its own.
        #[serde(default)]
        each_subfolder: bool,
    },
    /// A folder of CodeSearchNet files in any layout that `ingest` reads, taken as it is.
    Csn { path: PathBuf },
    /// The same by URL.
    Urls {
        files: Vec<Remote>,
        /// Files at a time.
        #[serde(default = "four")]
        parallel: usize,
    },
    /// A JSON object `{code: number}` of functions, packed or not, all of one language and split: CoSQA's codebase.
    Snippets {
        path: PathBuf,
        /// Name of the repository; a function's url is `name:number`.
        name: String,
        language: Language,
        split: Split,
    },
    /// Any number of realistic rows, to measure with: records of a CodeSearchNet folder with other names in them.
    Perturbed {
        path: PathBuf,
        #[serde(deserialize_with = "number")]
        rows: u64,
        #[serde(default)]
        seed: u64,
    },
}

fn four() -> usize {
    4
}

/// A number, or a text that is one: what an environment variable gives.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(deserializer)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number"))),
    }
}

impl Source {
    /// How many repositories it holds; a CodeSearchNet folder is taken whole and counts as none.
    pub fn repos(&self) -> Result<u64> {
        Ok(match self {
            Self::Packages { packages, .. } => packages.len() as u64,
            Self::Dir { path, each_subfolder: true, .. } => subfolders(path)?.len() as u64,
            Self::Dir { .. } => 1,
            Self::Csn { .. } | Self::Urls { .. } | Self::Snippets { .. } | Self::Perturbed { .. } => 0,
        })
    }
}

/// A pinned package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    pub name: String,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub sha256: Option<String>,
    /// Path prefixes to keep (all, if empty) and to leave out.
    #[serde(default)]
    pub only: Vec<String>,
    #[serde(default)]
    pub except: Vec<String>,
}

impl Package {
    pub fn cache_name(&self) -> String {
        let version = self.version.as_deref().unwrap_or("any");
        let pin = self.sha256.as_deref().map_or("unpinned", |sha256| &sha256[..sha256.len().min(12)]);
        format!("{}-{version}-{pin}", self.name).replace(['/', ':'], "_")
    }
}

/// A repository as the rows know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repo {
    pub name: String,
    pub url_prefix: String,
    /// Commit, or sha256 of the archive.
    pub sha: String,
    pub licence: String,
}

/// A source file of a repository.
#[derive(Debug)]
pub struct SourceFile {
    pub path: String,
    pub language: Language,
    pub bytes: Vec<u8>,
}

/// Which paths are not code to learn from: tests, vendored, generated and built files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exclude {
    /// Names of folders, at any depth.
    pub folders: Vec<String>,
    /// A file name that contains one of these is left out.
    pub in_file_name: Vec<String>,
}

impl Exclude {
    pub fn keeps(&self, path: &str) -> bool {
        let mut parts = path.rsplit('/');
        let file = parts.next().unwrap_or_default().to_lowercase();
        !self.in_file_name.iter().any(|part| file.contains(part.as_str()))
            && !parts.any(|folder| {
                folder.starts_with('.') && folder.len() > 2 || self.folders.iter().any(|name| folder.eq_ignore_ascii_case(name))
            })
    }
}

/// The language of a path, if it is one of ours.
pub fn language_of(path: &str) -> Option<Language> {
    Language::of_extension(path.rsplit('/').next()?.rsplit_once('.')?.1)
}

/// What reads one repository after the other.
pub struct Reader<'a> {
    pub exclude: &'a Exclude,
    pub max_file_bytes: u64,
    pub cache: &'a Path,
    pub progress: &'a Progress,
    /// Counted reasons for which something was passed over.
    pub skipped: BTreeMap<String, u64>,
}

impl Reader<'_> {
    fn skip(&mut self, reason: impl Into<String>, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason.into()).or_default() += count;
        }
    }

    /// Hands over every repository of a source with its files, in a fixed order.
    pub fn read(&mut self, source: &Source, take: &mut dyn FnMut(&Repo, Vec<SourceFile>) -> Result<()>) -> Result<()> {
        match source {
            Source::Packages { registry, optional, packages } => {
                if *optional && !registry.is_available() {
                    self.progress.message(&format!(
                        "harvest   passes over {} {} packages: their client is not installed",
                        packages.len(),
                        registry.name()
                    ));
                    self.skip(format!("{} packages without client", registry.name()), packages.len() as u64);
                    return Ok(());
                }
                let fetched = registry.fetch(packages, self.cache, self.progress)?;
                for (package, fetched) in packages.iter().zip(fetched) {
                    let (licence, files) = self.package(*registry, package, &fetched.path)?;
                    let version = package.version.clone().or_else(|| fetched.version.clone()).unwrap_or_else(|| "any".to_owned());
                    let kind = if *registry == Registry::Debian { "deb/debian" } else { registry.name() };
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
            Source::Dir { path, name, licence, url_prefix, each_subfolder } => {
                ensure!(path.is_dir(), "{} is not a folder", path.display());
                let folders = if *each_subfolder { subfolders(path)? } else { vec![path.clone()] };
                for folder in folders {
                    let own = folder.canonicalize()?.file_name().map_or("repository".into(), |name| name.to_string_lossy().into_owned());
                    let repo = Repo {
                        name: name.clone().filter(|_| !each_subfolder).unwrap_or(own),
                        url_prefix: url_prefix.clone(),
                        sha: commit_of(&folder)?,
                        licence: licence.clone().or_else(|| licence_of_folder(&folder)).unwrap_or_else(|| "unknown".into()),
                    };
                    let files = self.folder(&folder)?;
                    take(&repo, files)?;
                }
                Ok(())
            }
            Source::Csn { .. } | Source::Urls { .. } | Source::Snippets { .. } | Source::Perturbed { .. } => Ok(()),
        }
    }

    fn package(&mut self, registry: Registry, package: &Package, archive: &Path) -> Result<(String, Vec<SourceFile>)> {
        let inner = |path: &str| {
            if registry == Registry::Npm { path.split_once('/').map_or(path, |(_, rest)| rest).to_owned() } else { path.to_owned() }
        };
        let is_meta = |path: &str| match registry {
            Registry::Pypi => path.ends_with(".dist-info/METADATA"),
            Registry::Npm => inner(path) == "package.json",
            Registry::Debian => path.starts_with("usr/share/doc/") && path.ends_with("/copyright"),
        };
        let keeps = |path: &str| {
            (package.only.is_empty() || package.only.iter().any(|prefix| path.starts_with(prefix.as_str())))
                && !package.except.iter().any(|prefix| path.starts_with(prefix.as_str()))
                && self.exclude.keeps(path.rsplit_once("!/").map_or(path, |(_, inner)| inner))
        };
        let wanted = |path: &str| {
            let own = inner(path);
            if is_meta(path) || language_of(&own).is_some() && keeps(&own) {
                Wanted::Yes { max_bytes: self.max_file_bytes }
            } else if package.only.iter().any(|prefix| prefix.split_once("!/").is_some_and(|(outer, _)| outer == own)) {
                Wanted::Nested
            } else {
                Wanted::No
            }
        };
        let (mut licence, mut files) = (None, Vec::new());
        let too_large = archive::read(registry, archive, &wanted, &mut |path, bytes| {
            if is_meta(&path) {
                licence = licence.take().or_else(|| licence_of(registry, &bytes));
            } else if let Some(language) = language_of(&path) {
                files.push(SourceFile { path: inner(&path), language, bytes });
            }
            Ok(())
        })?;
        self.skip("file too large", too_large);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((licence.unwrap_or_else(|| "unknown".into()), files))
    }

    fn folder(&mut self, folder: &Path) -> Result<Vec<SourceFile>> {
        let mut files = Vec::new();
        for path in paths_below(folder)? {
            let Some(language) = language_of(&path).filter(|_| self.exclude.keeps(&path)) else { continue };
            let full = folder.join(&path);
            if fs::metadata(&full)?.len() > self.max_file_bytes {
                self.skip("file too large", 1);
                continue;
            }
            let bytes = fs::read(&full).with_context(|| format!("reading {}", full.display()))?;
            files.push(SourceFile { path, language, bytes });
        }
        Ok(files)
    }
}

/// Digest of what a source reads outside the store, so that a changed file re-runs the stage.
pub fn external_inputs(source: &Source) -> Result<Option<(String, Digest)>> {
    Ok(match source {
        Source::Packages { optional: false, .. } => None,
        Source::Packages { registry, .. } => Some((format!("client:{}", registry.name()), Digest::of(&registry.is_available())?)),
        Source::Dir { path, .. } => {
            ensure!(path.is_dir(), "source folder {} does not exist: correct harvest.source.path", path.display());
            let paths = paths_below(path)?.into_iter().filter(|path| language_of(path).is_some());
            Some((format!("dir:{}", path.display()), digest_of_files(path, paths)?))
        }
        Source::Snippets { path, .. } => {
            Some((format!("snippets:{}", path.display()), Digest::of_file(path).with_context(|| format!("reading {}", path.display()))?))
        }
        // Pinned by sha256.
        Source::Urls { .. } => None,
        Source::Csn { path } | Source::Perturbed { path, .. } => {
            ensure!(path.is_dir(), "CSN folder {} does not exist: set CSN_DIR or correct harvest.source.path", path.display());
            Some((format!("csn:{}", path.display()), digest_of_files(path, data_files(path)?.0.into_iter())?))
        }
    })
}

fn digest_of_files(root: &Path, paths: impl Iterator<Item = String>) -> Result<Digest> {
    let digests: BTreeMap<String, Digest> =
        paths.map(|path| Ok((path.clone(), Digest::of_file(&root.join(path))?))).collect::<Result<_>>()?;
    Ok(Digest::of(&digests)?)
}

/// Regular files below a folder, relative and sorted: what git does not ignore in a checkout, else
/// all that is not hidden. Links are not followed.
pub fn paths_below(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    match git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])? {
        Some(listed) => paths.extend(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned)),
        None => walk(root, "", &mut paths)?,
    }
    paths.retain(|path| fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_file()));
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Every file below a data folder, and how many links were not followed.
pub fn data_files(root: &Path) -> Result<(Vec<String>, u64)> {
    let mut paths = Vec::new();
    walk(root, "", &mut paths)?;
    let all = paths.len();
    paths.retain(|path| fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_file()));
    let links = (all - paths.len()) as u64;
    paths.sort();
    Ok((paths, links))
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.starts_with('.') {
            walk(root, &path, paths)?;
        } else if kind.is_file() || kind.is_symlink() {
            paths.push(path);
        }
    }
    Ok(())
}

fn subfolders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            folders.push(entry.path());
        }
    }
    folders.sort();
    ensure!(!folders.is_empty(), "{} has no subfolders", root.display());
    Ok(folders)
}

/// What git says of a checkout; nothing outside one. A checkout that git refuses to read is an error: taken
/// for a plain folder it would give ignored files and no commit.
///
/// A repository's own configuration can name programs for git to start: those hooks are switched off.
fn git(folder: &Path, arguments: &[&str]) -> Result<Option<String>> {
    let Ok(full) = folder.canonicalize() else { return Ok(None) };
    if !full.ancestors().any(|above| above.join(".git").exists()) {
        return Ok(None);
    }
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .with_context(|| format!("{} is a git checkout, but git is not here", folder.display()))?;
    ensure!(
        output.status.success(),
        "git does not read the checkout {}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The commit of a checkout; empty outside one, and before the first commit.
fn commit_of(folder: &Path) -> Result<String> {
    let commit = git(folder, &["rev-parse", "--verify", "--quiet", "HEAD"]);
    let without = || git(folder, &["rev-parse", "--git-dir"]).map(|_| None);
    Ok(commit.or_else(|_| without())?.unwrap_or_default().trim().to_owned())
}

fn licence_of(registry: Registry, meta: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(meta);
    let short = |text: &str| {
        Some(text.trim().lines().next()?.chars().take(80).collect::<String>()).filter(|text| !text.is_empty() && text != "UNKNOWN")
    };
    match registry {
        Registry::Pypi => {
            let header = |name: &str| text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(name));
            header("License-Expression: ")
                .and_then(short)
                .or_else(|| header("Classifier: License :: OSI Approved :: ").and_then(short))
                .or_else(|| header("License: ").and_then(short))
        }
        Registry::Npm => {
            let json: serde_json::Value = serde_json::from_str(&text).ok()?;
            let licence = json.get("license")?;
            short(licence.as_str().or_else(|| licence.get("type")?.as_str())?)
        }
        Registry::Debian => text.lines().find_map(|line| line.strip_prefix("License: ")).and_then(short),
    }
}

fn licence_of_folder(folder: &Path) -> Option<String> {
    let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"];
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| line.chars().take(80).collect())
}
