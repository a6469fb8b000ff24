//! Section `harvest` of the configuration.

use std::path::{Path, PathBuf};

use ledger::{Language, Split, bail, conf::has_user_info, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::{error::Result, functions::Dialect};

/// Section `harvest`: which source code is read, and which of its functions are written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "HarvestConfig")]
pub struct Config {
    /// One source. Short for a list of one source in `sources`; both may be set.
    #[serde(default)]
    pub source: Option<Source>,
    /// Sources, read in this order.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Languages whose files are read.
    #[schemars(with = "Vec<String>")]
    pub languages: Vec<Language>,
    /// Also write functions without documentation: they are indexed, but not used for training.
    pub keep_undocumented: bool,
    /// Which functions exist, where their documentation is, and their code tokens.
    pub dialect: Dialect,
    /// Smallest number of tokens in the documentation's summary. A function with fewer tokens counts as undocumented.
    pub min_documentation_tokens: usize,
    /// Smallest number of lines of a function.
    pub min_lines: u32,
    /// Largest source file, in bytes. Larger files are left out and counted.
    pub max_file_bytes: u64,
    /// Largest median length of the lines of code of a source file, in bytes. A file with longer lines counts as minified and is left out.
    pub max_mean_line_bytes: usize,
    /// Number of records in one output file.
    pub records_per_file: usize,
    /// Shares of the repositories in the validation and test splits.
    pub split: SplitShares,
    /// Paths that are left out.
    pub exclude: Exclude,
    /// Repositories that are not read: `codenets nightly` keeps their records of an earlier night.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// A repository that is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// Name of the repository.
    pub name: String,
    /// Folder of the raw artifact whose records of the repository are kept; none: there are no records.
    #[serde(default)]
    pub from: Option<PathBuf>,
    /// Folder of the source that the repository was read from.
    #[serde(default)]
    pub source: Option<PathBuf>,
}

/// Shares of the repositories in the validation and test splits. A hash of the repository's name chooses its split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SplitShares {
    /// Share of the validation split, from 0 to 1.
    pub valid: f64,
    /// Share of the test split, from 0 to 1. The rest is the training split.
    pub test: f64,
    /// Text that is hashed before the repository's name. Another salt gives other splits.
    pub salt: String,
}

/// Paths of files that are left out: tests, vendored code, generated code and build outputs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exclude {
    /// Names of folders, at any depth. Upper and lower case are equal.
    pub folders: Vec<String>,
    /// Parts of file names, in lower case. A file whose name has one of these parts, and not inside a word, is left out.
    pub in_file_name: Vec<String>,
}

impl Config {
    /// `source` and then `sources`.
    pub fn all_sources(&self) -> impl Iterator<Item = &Source> {
        self.source.iter().chain(&self.sources)
    }

    /// Folders of the folder sources.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.all_sources().filter_map(|source| match source {
            Source::Dir { path, .. } => Some(path.as_path()),
            _ => None,
        })
    }

    /// Checks what the types cannot: there is a source, and the training split is not empty.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.all_sources().next().is_some(),
            "no sources: set harvest.source or harvest.sources, for example {{ kind = dir, path = \"..\" }}"
        );
        for source in self.all_sources() {
            if let Source::Dir { url_prefix, url_template, .. } = source {
                ensure!(
                    !has_user_info(url_prefix) && !url_template.as_ref().is_some_and(|template| has_user_info(template)),
                    "url-prefix or url-template of a source holds a user or a password, and every hit would show it: remove it from \
                     harvest.sources"
                );
                if let Some(unknown) = url_template.as_ref().and_then(|template| unknown_placeholder(template)) {
                    bail!(
                        "url-template of a source has {{{unknown}}}: write {{repo}}, {{commit}}, {{path}}, {{line}} or {{last_line}} in \
                         harvest.sources"
                    );
                }
            }
        }
        let shares = &self.split;
        ensure!(
            shares.valid >= 0.0 && shares.test >= 0.0 && shares.valid + shares.test < 1.0,
            "harvest.split: valid {} and test {} must leave something to train on: choose shares with a sum below 1",
            shares.valid,
            shares.test
        );
        Ok(())
    }
}

/// The first placeholder of a template that has no value.
fn unknown_placeholder(template: &str) -> Option<&str> {
    let names = template.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name));
    names.into_iter().find(|name| !["repo", "commit", "path", "line", "last_line"].contains(name))
}

impl SplitShares {
    /// The split of a repository. It depends on the name and the salt only, not on other repositories.
    pub fn of(&self, repo: &str) -> Split {
        let hash = blake3::hash(format!("{}{repo}", self.salt).as_bytes());
        let bytes: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        let position = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
        if position < self.test {
            Split::Test
        } else if position < self.test + self.valid {
            Split::Valid
        } else {
            Split::Train
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_the_configured_shares() {
        let shares = SplitShares { valid: 0.1, test: 0.2, salt: String::new() };
        let splits: Vec<Split> = (0..5000).map(|n| shares.of(&format!("owner/repo{n}"))).collect();
        let share = |split| splits.iter().filter(|&&other| other == split).count() as f64 / 5000.0;
        assert!((share(Split::Valid) - 0.1).abs() < 0.02 && (share(Split::Test) - 0.2).abs() < 0.02);
    }

    #[test]
    fn a_repository_always_has_the_same_split() {
        let shares = SplitShares { valid: 0.1, test: 0.2, salt: String::new() };
        assert_eq!(shares.of("a/b"), shares.of("a/b"));
    }

    #[test]
    fn the_schema_lists_each_kind_of_source() {
        let schema = serde_json::to_value(schemars::schema_for!(Source)).unwrap();
        let kinds: Vec<&str> =
            schema["oneOf"].as_array().unwrap().iter().map(|source| source["properties"]["kind"]["const"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["packages", "dir", "csn", "urls", "snippets", "perturbed"]);
        assert!(schema["oneOf"][1]["properties"].get("url-prefix").is_some(), "{schema:#}");
    }
}
