//! What the published bundle has and a new one has not: repositories, and functions by language.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bundle::{BundleManifest, manifest::DOCS};
use ledger::table;

use super::Config;
use crate::{Error, Result};

/// Largest number of repositories that a message names.
const NAMED: usize = 10;

/// What a bundle has.
#[derive(Debug)]
pub struct Content {
    /// Number of functions by language.
    functions: BTreeMap<String, u64>,
    repositories: BTreeSet<String>,
}

impl Content {
    /// Reads the content of the bundle in a folder.
    pub fn read(dir: &Path) -> Result<Self> {
        Ok(Self { functions: BundleManifest::read(dir)?.languages, repositories: repositories(dir)? })
    }
}

/// The difference of two bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Number of functions by language, before and now.
    functions: BTreeMap<String, (u64, u64)>,
    /// Number of repositories before.
    repositories: usize,
    /// Repositories without a function now.
    gone: Vec<String>,
}

impl Lost {
    /// Compares the published bundle with a new one.
    pub fn between(published: Content, new: &Content) -> Self {
        let now = |language: &str| new.functions.get(language).copied().unwrap_or_default();
        let functions = published.functions.into_iter().map(|(language, before)| {
            let left = now(&language);
            (language, (before, left))
        });
        let gone = published.repositories.difference(&new.repositories).cloned().collect();
        Self { functions: functions.collect(), repositories: published.repositories.len(), gone }
    }

    /// A line about the repositories that are gone, if there are any.
    pub fn message(&self) -> Option<String> {
        let more = self.gone.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = self.gone[..self.gone.len().min(NAMED)].join(", ");
        (!self.gone.is_empty())
            .then(|| format!("{} of {} repositories have no functions any more: {names}{more}", self.gone.len(), self.repositories))
    }

    /// Refuses a bundle that lost more than the configuration allows.
    pub fn check(&self, config: &Config) -> Result<()> {
        let remedy =
            |key: &str| format!("see `codenets files` and the messages of harvest, or set publish.{key} = 1 to publish without them");
        if let Some(message) = self.message()
            && self.gone.len() as f64 > config.max_lost_repositories * self.repositories as f64
        {
            let (key, most) = ("max-lost-repositories", config.max_lost_repositories);
            return Err(Error::NotPublished(format!("{message}; publish.{key} is {most}: {}", remedy(key))));
        }
        for (language, (before, now)) in &self.functions {
            let lost = before.saturating_sub(*now);
            if lost as f64 > config.max_lost_functions * *before as f64 {
                let (key, most) = ("max-lost-functions", config.max_lost_functions);
                return Err(Error::NotPublished(format!(
                    "{lost} of {before} functions in {language} are gone; publish.{key} is {most}: {}",
                    remedy(key)
                )));
            }
        }
        Ok(())
    }
}

/// Names of the repositories of a bundle.
fn repositories(dir: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for batch in table::read(&dir.join(DOCS), &["repo"])? {
        for name in table::texts(&batch?, "repo")?.iter().flatten() {
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(max_lost_functions: f64, max_lost_repositories: f64) -> Config {
        Config { min_mrr: 0.0, min_share_of_current: 0.0, max_lost_functions, max_lost_repositories, smoke_queries: None, keep: 1 }
    }

    fn lost(functions: (u64, u64), gone: usize) -> Lost {
        let gone = (0..gone).map(|number| format!("team/repository-{number}")).collect();
        Lost { functions: [("go".to_owned(), (5, 7)), ("ruby".to_owned(), functions)].into(), repositories: 12, gone }
    }

    #[test]
    fn more_lost_functions_of_a_language_than_allowed_are_refused() {
        lost((10, 8), 0).check(&config(0.2, 0.0)).unwrap();
        let error = lost((10, 7), 0).check(&config(0.2, 0.0)).unwrap_err().to_string();
        assert!(error.contains("3 of 10 functions in ruby are gone; publish.max-lost-functions is 0.2"), "{error}");
        lost((10, 0), 0).check(&config(1.0, 0.0)).unwrap();
    }

    #[test]
    fn more_lost_repositories_than_allowed_are_refused_and_named() {
        lost((1, 1), 3).check(&config(0.0, 0.25)).unwrap();
        let error = lost((1, 1), 4).check(&config(0.0, 0.25)).unwrap_err().to_string();
        assert!(error.contains("4 of 12 repositories have no functions any more: team/repository-0, "), "{error}");
        assert!(error.contains("publish.max-lost-repositories = 1"), "{error}");
        assert!(lost((1, 1), 12).message().unwrap().ends_with("team/repository-9 and 2 more"));
        assert_eq!(lost((1, 1), 0).message(), None);
    }
}
