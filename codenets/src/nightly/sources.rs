//! The repositories that a night does not read: their functions of an earlier night are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use ledger::{Raw, Recordable, Stage, Store, conf::Conf, rfc3339, write_report_file};
use pipeline::{
    Harvest,
    harvest::{self, Kept, RecordedRepository, Surveyed, UnreadableSource},
};
use serde::{Deserialize, Serialize};

/// File with the repositories of the last night that were not read, in the form of `harvest.kept`.
const KEPT: &str = "kept.json";

/// Start of every warning about a repository.
pub const WARNING: &str = "repository ";

/// A repository that was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRepository {
    pub name: String,
    /// Why it was not read; none where its folder is gone.
    pub unreadable: Option<String>,
    /// Does the bundle have its functions of an earlier night?
    pub has_functions: bool,
    /// Second of the first night that did not read it.
    pub since_unix_s: u64,
    /// Nights that did not read it.
    pub nights: u32,
}

/// What a night does about repositories that it cannot read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The value of `harvest.kept`.
    pub kept: Vec<Kept>,
    pub repositories: Vec<KeptRepository>,
    /// Repositories that are gone, and whose functions leave the bundle.
    pub removed: Vec<String>,
}

/// What is known of the nights before.
pub struct Before<'a> {
    /// Folder of the recorded raw artifact, and its repositories.
    pub raw: Option<(PathBuf, Vec<RecordedRepository>)>,
    /// `harvest.kept` of that artifact.
    pub kept: Vec<Kept>,
    /// Repositories that the last night did not read.
    pub repositories: &'a [KeptRepository],
}

impl Plan {
    /// Surveys the sources of the configuration. `grace`: nights after which a repository whose folder is gone leaves the bundle.
    pub fn make(conf: &Conf, store: &Store, last: &[KeptRepository], now_unix_s: u64, grace: u32) -> Result<Self> {
        let config: harvest::Config = conf.section(Harvest::NAME)?;
        let recorded = store.current_manifest(Raw::KIND);
        let kept = recorded.as_ref().and_then(|(_, manifest)| serde_json::from_value(manifest.config.get("kept")?.clone()).ok());
        let raw = match recorded {
            Some((dir, _)) => Some((dir.clone(), harvest::recorded_repositories(&dir)?)),
            None => None,
        };
        let sources: BTreeSet<PathBuf> = config.folders().map(Path::to_owned).collect();
        let (found, unreadable) = harvest::survey(&config);
        let is_readable = found.iter().any(|one| one.unreadable.is_none()) || config.all_sources().count() > config.folders().count();
        ensure!(is_readable, "no repository can be read: {}", reasons(&found, &unreadable));
        let before = Before { raw, kept: kept.unwrap_or_default(), repositories: last };
        Ok(plan(&found, &unreadable, &sources, &before, now_unix_s, grace))
    }

    /// Writes `harvest.kept` for the stages of the night; none where every repository is read.
    pub fn write(&self, data: &Path) -> Result<Option<PathBuf>> {
        write_report_file(data, KEPT, &serde_json::to_vec_pretty(&self.kept)?)?;
        Ok((!self.kept.is_empty()).then(|| ledger::report_path(data, KEPT)))
    }

    /// One sentence for each repository that is not read or was removed.
    pub fn warnings(&self, grace: u32) -> Vec<String> {
        let kept = self.repositories.iter().map(|one| one.text(grace));
        let removed = self.removed.iter().map(|name| format!("{WARNING}{name} is gone: its functions are removed"));
        kept.chain(removed).collect()
    }
}

impl KeptRepository {
    fn text(&self, grace: u32) -> String {
        let Self { name, unreadable, has_functions, since_unix_s, nights } = self;
        let since = rfc3339(*since_unix_s);
        let word = |count: u32| if count == 1 { "1 night".to_owned() } else { format!("{count} nights") };
        let (nights, grace) = (word(*nights), word(grace));
        match unreadable {
            Some(reason) if *has_functions => {
                format!("{WARNING}{name} cannot be read: {reason}; its functions are those of before {since} ({nights})")
            }
            Some(reason) => format!("{WARNING}{name} cannot be read and has no functions: {reason}"),
            None => {
                format!(
                    "{WARNING}{name} is gone since {since} ({nights}): its functions are kept for {grace}; `codenets nightly --accept-removed` removes them"
                )
            }
        }
    }
}

/// Why the first repositories or sources cannot be read.
fn reasons(found: &[Surveyed], unreadable: &[UnreadableSource]) -> String {
    let sources = unreadable.iter().map(|one| format!("{}: {}", one.source.display(), one.reason));
    let repositories = found.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.unreadable.as_ref()?)));
    sources.chain(repositories).take(3).collect::<Vec<_>>().join("; ")
}

/// Decides about each repository that is recorded or found. `sources`: folders of the configuration.
fn plan(
    found: &[Surveyed],
    unreadable: &[UnreadableSource],
    sources: &BTreeSet<PathBuf>,
    before: &Before<'_>,
    now_unix_s: u64,
    grace: u32,
) -> Plan {
    let mut plan = Plan::default();
    let found: BTreeMap<&str, &Surveyed> = found.iter().map(|one| (one.name.as_str(), one)).collect();
    let recorded = before.raw.iter().flat_map(|(_, repositories)| repositories).filter(|one| sources.contains(&one.source));
    let recorded: BTreeMap<&str, &RecordedRepository> = recorded.map(|one| (one.name.as_str(), one)).collect();
    let names: BTreeSet<&str> = found.keys().chain(recorded.keys()).copied().collect();
    for name in names {
        let source_of = |one: &RecordedRepository| unreadable.iter().find(|source| source.source == one.source);
        let reason = match (found.get(name), recorded.get(name).and_then(|one| source_of(one))) {
            (Some(Surveyed { unreadable: None, .. }), _) => continue,
            (Some(one), _) => one.unreadable.clone(),
            (None, Some(source)) => Some(format!("{}: {}", source.source.display(), source.reason)),
            (None, None) => None,
        };
        let last = before.repositories.iter().find(|one| one.name == name);
        // A folder that is gone has its own nights of grace.
        let nights = last.filter(|one| one.unreadable.is_some() == reason.is_some()).map_or(1, |one| one.nights + 1);
        if reason.is_none() && nights > grace {
            plan.removed.push(name.to_owned());
            continue;
        }
        let source = found.get(name).map(|one| one.source.clone()).or_else(|| recorded.get(name).map(|one| one.source.clone()));
        // The records stay in the artifact that read the repository last, so that the key of the next nights is the same.
        let earlier = before.kept.iter().find(|one| one.name == name).and_then(|one| one.from.clone()).filter(|dir| dir.is_dir());
        let raw = before.raw.as_ref().filter(|_| recorded.contains_key(name)).map(|(dir, _)| dir.clone());
        let from = earlier.or(raw).filter(|dir| harvest::lists_files(dir));
        let has_functions = from.is_some();
        plan.kept.push(Kept { name: name.to_owned(), from, source });
        plan.repositories.push(KeptRepository {
            name: name.to_owned(),
            unreadable: reason,
            has_functions,
            since_unix_s: last.map_or(now_unix_s, |one| one.since_unix_s),
            nights,
        });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surveyed(name: &str, unreadable: Option<&str>) -> Surveyed {
        Surveyed { source: "/srv".into(), name: name.to_owned(), unreadable: unreadable.map(str::to_owned) }
    }

    fn recorded(name: &str) -> RecordedRepository {
        RecordedRepository { name: name.to_owned(), source: "/srv".into() }
    }

    /// A raw artifact that lists its files.
    fn raw() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("files.json"), "").unwrap();
        dir
    }

    fn planned(found: &[Surveyed], raw: &Path, names: &[&str], last: &[KeptRepository], kept: &[Kept]) -> Plan {
        let raw = Some((raw.to_owned(), names.iter().map(|name| recorded(name)).collect()));
        let before = Before { raw, kept: kept.to_vec(), repositories: last };
        plan(found, &[], &[PathBuf::from("/srv")].into(), &before, 1000, 2)
    }

    #[test]
    fn a_repository_that_cannot_be_read_keeps_the_records_that_were_read_last() {
        let (first, second) = (raw(), raw());
        let found = [surveyed("api", Some("locked")), surveyed("web", None)];
        let one = planned(&found, first.path(), &["api", "web"], &[], &[]);
        assert_eq!(one.kept.len(), 1);
        assert_eq!(one.kept[0].from.as_deref(), Some(first.path()));
        let two = planned(&found, second.path(), &["api", "web"], &one.repositories, &one.kept);
        assert_eq!((two.kept, two.repositories[0].nights), (one.kept, 2));
        let text = two.repositories[0].text(2);
        assert_eq!(text, "repository api cannot be read: locked; its functions are those of before 1970-01-01T00:16:40Z (2 nights)");
    }

    #[test]
    fn a_repository_that_is_gone_is_kept_for_the_nights_of_grace() {
        let dir = raw();
        let mut last = Vec::new();
        for nights in 1..=2 {
            let kept = planned(&[], dir.path(), &["api"], &last, &[]);
            assert_eq!((kept.repositories[0].nights, kept.removed.len()), (nights, 0));
            last = kept.repositories;
        }
        let gone = planned(&[], dir.path(), &["api"], &last, &[]);
        assert_eq!(gone, Plan { removed: vec!["api".to_owned()], ..Plan::default() });
        let back = planned(&[surveyed("api", None)], dir.path(), &["api"], &last, &[]);
        assert_eq!(back, Plan::default());
    }

    #[test]
    fn a_repository_that_was_never_read_is_named_and_has_no_records() {
        let dir = raw();
        let new = planned(&[surveyed("api", Some("half cloned"))], dir.path(), &[], &[], &[]);
        assert_eq!((new.kept[0].from.clone(), new.repositories[0].has_functions), (None, false));
        assert!(new.warnings(2)[0].ends_with("has no functions: half cloned"), "{:?}", new.warnings(2));
    }

    #[test]
    fn the_repositories_of_a_source_that_cannot_be_listed_are_kept_and_those_of_a_removed_source_are_not() {
        let dir = raw();
        let before = Before { raw: Some((dir.path().to_owned(), vec![recorded("api")])), kept: Vec::new(), repositories: &[] };
        let source = UnreadableSource { source: "/srv".into(), reason: "the folder does not exist".to_owned() };
        let kept = plan(&[], &[source], &[PathBuf::from("/srv")].into(), &before, 0, 0);
        assert_eq!(kept.repositories[0].unreadable.as_deref(), Some("/srv: the folder does not exist"));
        assert_eq!(plan(&[], &[], &[PathBuf::from("/other")].into(), &before, 0, 0), Plan::default());
    }
}
