//! Sources of the configuration: packages, folders, git checkouts, CodeSearchNet files.

use std::path::PathBuf;

use ledger::{Language, Split, conf::SecretUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// One source of code or records. `kind` chooses which.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Packages of a registry. Each package is a repository.
    Packages {
        /// Registry, and with it the client program that downloads the packages.
        registry: Registry,
        /// Leave the packages out, with a message, where the client program is not installed.
        #[serde(default)]
        optional: bool,
        /// The packages.
        packages: Vec<Package>,
    },
    /// A folder or a git checkout. Of a checkout, files that git ignores are left out, and the commit is recorded.
    Dir {
        /// The folder.
        path: PathBuf,
        /// Name of the repository. Default: the name of the folder. With `each-subfolder`: the text before the name of each subfolder,
        /// `name/subfolder`.
        #[serde(default)]
        name: Option<String>,
        /// Licence of the code. Default: the first line of the folder's licence file.
        #[serde(default)]
        licence: Option<String>,
        /// Text before `path#L1-L9` in the url of a row.
        #[serde(default)]
        url_prefix: String,
        /// Link to a line of a file, for hits: `https://host/{repo}/blob/{commit}/{path}#L{line}`; also `{last_line}`. Default: the url of
        /// the row.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url_template: Option<String>,
        /// Read each subfolder as a repository.
        #[serde(default)]
        each_subfolder: bool,
        /// Read this commit of each repository from git's objects instead of the working tree: `HEAD`, a branch, a tag or the id of a
        /// commit. A checkout that changes meanwhile changes nothing, and bare repositories are read too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
    },
    /// A folder of CodeSearchNet files, in any layout that `ingest` reads. The files are copied as they are.
    Csn {
        /// The folder.
        path: PathBuf,
    },
    /// CodeSearchNet files, downloaded by URL and copied as they are.
    Urls {
        /// The files.
        files: Vec<Remote>,
        /// Number of files that are downloaded at the same time.
        #[serde(default = "default_parallel")]
        parallel: usize,
    },
    /// Functions of one language and split, as a JSON object `{code: number}` with or without gzip. This is the form of
    /// CoSQA's codebase.
    Snippets {
        /// The file.
        path: PathBuf,
        /// Name of the repository. The url of a function is `name:number`.
        name: String,
        /// Language of the functions.
        #[schemars(with = "String")]
        language: Language,
        /// Split of the functions.
        #[schemars(with = "String")]
        split: Split,
    },
    /// Records of a CodeSearchNet folder with other names in their code: any number of realistic rows for measurements.
    Perturbed {
        /// The folder.
        path: PathBuf,
        /// Number of rows that are written. A text that is a number is accepted too.
        #[serde(deserialize_with = "number")]
        #[schemars(with = "Number")]
        rows: u64,
        /// Seed of the random generator.
        #[serde(default)]
        seed: u64,
    },
}

fn default_parallel() -> usize {
    4
}

/// A number, or a text that is a number: the value of an environment variable is a text.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Number {
    Number(u64),
    Text(String),
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number"))),
    }
}

/// A package registry, and the client program that downloads from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Registry {
    /// Pure-Python wheels, downloaded by pip.
    Pypi,
    /// Tarballs, downloaded by npm.
    Npm,
    /// Source and library packages, downloaded by apt-get.
    Debian,
}

impl Registry {
    /// Name in configurations and in names of repositories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
            Self::Debian => "debian",
        }
    }
}

/// A package, pinned by version and sha256.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    /// Name in the registry.
    pub name: String,
    /// Version. Default: the version that the client chooses.
    #[serde(default)]
    pub version: Option<String>,
    /// Sha256 of the package file, in lower-case hex.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Prefixes of the paths that are read. Empty: all paths. `outer.zip!/inner` reads from a zip in the package.
    #[serde(default)]
    pub only: Vec<String>,
    /// Prefixes of the paths that are left out.
    #[serde(default)]
    pub except: Vec<String>,
}

impl Package {
    /// File name of the package in the cache.
    pub fn cache_name(&self) -> String {
        let version = self.version.as_deref().unwrap_or("any");
        let pin = self.sha256.as_deref().map_or("unpinned", |sha256| sha256.get(..12).unwrap_or("invalid"));
        format!("{}-{version}-{pin}", self.name).replace(['/', ':'], "_")
    }
}

/// A file with its URLs, pinned by sha256.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Remote {
    /// Name of the file in the artifact. Its extension names the format of the file.
    pub name: String,
    /// Sha256 of the file, in lower-case hex.
    pub sha256: String,
    /// Size of the file, where it is known: progress shows it, and a mirror that sends more is refused.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// URLs, tried in this order. Their user info and query strings are secret: `"https://host/file?token="${?TOKEN}`.
    pub mirrors: Vec<SecretUrl>,
}
