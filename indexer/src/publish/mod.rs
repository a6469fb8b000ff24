//! Stage `publish`: gates, then an atomic change of the published bundle. Also rollback, prune and verify. `ledger::Serve` owns the
//! layout of the folder.

mod facts;
mod gate;
mod lost;
mod maintain;
mod repositories;
mod smoke;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bundle::{
    BundleManifest,
    checksums::{self, CHECKSUMS},
    manifest::MANIFEST,
};
use ledger::{
    AnyStage, Artifact, Bundle, BundleId, Freshness, Recordable, RerunOutcome, Scores, Serve, StageStatus, Store, UNPUBLISHED, conf::Conf,
    ensure, fault, fsync_tree, scratch_folder, unix_now,
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use walkdir::WalkDir;

use self::lost::{Content, Lost};
pub use self::maintain::{deleted_next, prune_published, rollback, verify};
use crate::{Result, error::Context, index, retract};

/// Section `publish`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Smallest mrr@corpus of hybrid search over all languages with which a bundle is published.
    pub min_mrr: f64,
    /// Smallest share of the published bundle's mrr@corpus with which a bundle is published; 0: bundles are not compared.
    pub min_share_of_current: f64,
    /// Largest share of a language's functions in the published bundle that a new bundle may be without; 1: any.
    #[serde(default = "any")]
    pub max_lost_functions: f64,
    /// Largest share of the repositories in the published bundle that a new bundle may be without; 1: any.
    #[serde(default = "any")]
    pub max_lost_repositories: f64,
    /// File of queries with known answers, one a line: `{"query": text, "files": [path, …], "repo": name}` (`repo` is optional). A bundle that
    /// finds none of the files of a query in ten hits is not published. Null: no queries.
    #[serde(default)]
    pub smoke_queries: Option<PathBuf>,
    /// Published bundles that are kept for a rollback; the current one and pinned ones always stay.
    pub keep: usize,
}

/// Restored configurations may have no such key.
fn any() -> f64 {
    1.0
}

impl Config {
    /// The configuration with every gate off: for a bundle that a person publishes although a gate refused it.
    #[must_use]
    pub fn without_gates(self) -> Self {
        Self { min_mrr: 0.0, min_share_of_current: 0.0, smoke_queries: None, ..self }.accepting_lost()
    }

    /// The configuration without the gates on functions and repositories that are gone.
    #[must_use]
    pub fn accepting_lost(self) -> Self {
        Self { max_lost_functions: 1.0, max_lost_repositories: 1.0, ..self }
    }
}

/// The stage. It writes no artifact: it makes the recorded bundle the published one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publish;

/// Name of the stage and of its section.
pub const NAME: &str = "publish";
const INPUTS: [&str; 2] = [Bundle::KIND, Scores::KIND];

impl AnyStage for Publish {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "Publish the bundle if it passes the gates"
    }

    fn kind(&self) -> Option<&'static str> {
        None
    }

    fn is_enabled(&self, _conf: &Conf) -> ledger::Result<bool> {
        Ok(true)
    }

    fn schema(&self) -> Schema {
        schemars::schema_for!(Config)
    }

    fn config(&self, conf: &Conf) -> ledger::Result<Value> {
        Ok(serde_json::to_value(conf.section::<Config>(NAME)?)?)
    }

    fn freshness(&self, store: &Store, _conf: &Conf) -> ledger::Result<Freshness> {
        Ok(match INPUTS.into_iter().find(|kind| store.current_manifest(kind).is_none()) {
            Some(input) => Freshness::Waiting { input: input.to_owned() },
            None if is_current(store) => Freshness::UpToDate,
            None => Freshness::Missing,
        })
    }

    fn status(&self, store: &Store, conf: &Conf, before: &[StageStatus]) -> ledger::Result<StageStatus> {
        // Read here too, so that a mistake in the section is reported before the stages run.
        conf.section::<Config>(NAME)?;
        let is_here = store.current::<Bundle>().map_or(true, |bundle| bundle.is_here());
        let state = PublishState::of(before.iter().any(|stage| stage.will_run), is_current(store), is_here);
        Ok(StageStatus::without_artifact(NAME, "current", &INPUTS, state.words(), state.will_run()))
    }

    fn prepare(&self, _store: &Store, _conf: &Conf) -> ledger::Result<()> {
        Ok(())
    }

    fn run(&self, store: &Store, conf: &Conf) -> ledger::Result<()> {
        publish(store, &conf.section(NAME)?, false)
            .map_err(|error| ledger::Error::Stage { name: NAME.to_owned(), source: error.into() })?;
        Ok(())
    }

    fn rerun(&self, _store: &Store, _conf: &Conf) -> ledger::Result<RerunOutcome> {
        Ok(RerunOutcome::NotRecorded)
    }
}

/// Why `publish` would run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishState {
    /// A stage before it will run.
    Pending,
    /// The recorded bundle is the published one.
    Published,
    /// The files of the recorded bundle were not restored.
    NotHere,
    /// Another bundle is published, or none.
    Stale,
}

impl PublishState {
    fn of(is_pending: bool, is_published: bool, is_here: bool) -> Self {
        match (is_pending, is_published, is_here) {
            (true, ..) => Self::Pending,
            (false, true, _) => Self::Published,
            (false, false, false) => Self::NotHere,
            (false, false, true) => Self::Stale,
        }
    }

    fn will_run(self) -> bool {
        matches!(self, Self::Pending | Self::Stale)
    }

    /// State and reason for tables.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pending => ("after", "stages before it will run first"),
            Self::Published => (Freshness::UpToDate.word(), Freshness::UpToDate.word()),
            Self::NotHere => {
                ("not available locally", "the bundle's files were not restored: run `codenets restore --with bundle` to publish it here")
            }
            Self::Stale => ("stale", "the recorded bundle is not the published one"),
        }
    }
}

/// Is the recorded bundle the published one, with the recorded commits, licences and links of its repositories?
pub fn is_current(store: &Store) -> bool {
    let key = store.current_manifest(Bundle::KIND).map(|(_, manifest)| manifest.key);
    let serve = Serve::of(store.root());
    serve.current_id().zip(key).is_some_and(|(id, key)| id.key() == key) && repositories::are_published(store, &serve.current())
}

/// Publishes the recorded bundle if it passes the gates, and returns the id of the bundle that is published then.
///
/// Nothing changes where the recorded bundle is published already, or where it was rolled back. `again`: publishes it also where it is
/// published already, because the published copy is damaged.
///
/// # Errors
/// [`Error::NotPublished`](crate::Error::NotPublished) where the scores do not pass the gates; the published bundle then stays.
pub fn publish(store: &Store, config: &Config, again: bool) -> Result<Option<BundleId>> {
    let _lock = store.lock()?;
    let bundle = store.current::<Bundle>()?;
    let scores = store.current::<Scores>()?;
    let scored = scores.manifest().inputs.get(Bundle::KIND).map(|input| input.digest);
    ensure!(scored == Some(bundle.digest()), "the recorded scores are of another bundle: run `codenets run --only evaluate`");
    let serve = Serve::of(store.root());
    serve.recover()?;
    retract::enforce(store)?;
    let current = serve.current_id();
    if is_current(store) && !again {
        let id = current.as_ref().map(ToString::to_string).unwrap_or_default();
        store.progress().message(&format!("publish   {} ({id})", Freshness::UpToDate.word()));
        return Ok(current);
    }
    let key = &bundle.manifest().key;
    if serve.held_back().as_ref() == Some(key) {
        ensure!(
            !again,
            "the published bundle is damaged, and the recorded one was rolled back: run `codenets rollback`, or delete {} to publish {key}",
            serve.held_back_file().display()
        );
        let published = current.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        store.progress().message(&format!(
            "publish   {key} was rolled back and is not published again: {published} is published (delete {} to publish {key})",
            serve.held_back_file().display()
        ));
        return Ok(current);
    }
    let measured = scores.open()?;
    // A complete bundle is better than a damaged one, whose scores may be what is damaged.
    let is_comparable = !again || gate::has_scores(&serve);
    let share = if is_comparable { config.min_share_of_current } else { 0.0 };
    if let Some(comparison) = gate::check(store.root(), &serve, &Config { min_share_of_current: share, ..config.clone() }, &measured)? {
        store.progress().message(&format!("publish   {comparison}"));
    }
    compare_with_published(store, &serve, config, &bundle)?;
    let id = BundleId::next(&serve.ids()?, key, unix_now());
    let folder = build(store, config, &serve, &bundle, &scores, &id)?;
    serve.publish(&folder, &id)?;
    // The bundle is published either way.
    let _ = serve.set_held_back(None);
    fault::point("pruning");
    maintain::prune(store, config.keep)?;
    store.progress().message(&format!("publish   {id} is published at {}", serve.current().display()));
    Ok(Some(id))
}

/// Says which repositories are gone, and refuses a bundle that lost too much.
fn compare_with_published(store: &Store, serve: &Serve, config: &Config, bundle: &Artifact<Bundle>) -> Result<()> {
    if !serve.current().exists() || (config.max_lost_functions >= 1.0 && config.max_lost_repositories >= 1.0) {
        return Ok(());
    }
    let new = Content::read(&bundle.open()?.dir)?;
    let published = match Content::read(&serve.current()) {
        Ok(published) => published,
        // A complete bundle is better than a damaged one.
        Err(error) => {
            let why = ledger::chain(&error);
            store.progress().message(&format!("publish   compares with no bundle: the published one is damaged: {why}"));
            return Ok(());
        }
    };
    let lost = Lost::between(published, &new);
    if let Some(message) = lost.message() {
        store.progress().message(&format!("publish   {message}"));
    }
    lost.check(config)
}

/// Builds the folder that is published: hard links of the recorded bundle, its scores, and a manifest with its id. Returns its path.
fn build(
    store: &Store,
    config: &Config,
    serve: &Serve,
    bundle: &Artifact<Bundle>,
    scores: &Artifact<Scores>,
    id: &BundleId,
) -> Result<PathBuf> {
    let root = serve.bundles();
    fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let scratch = scratch_folder(UNPUBLISHED, &root)?;
    let source = bundle.open()?.dir;
    checksums::verify(&source)?;
    link_tree(&source, scratch.path())?;
    // These two differ from the recorded bundle: they are new files, because writing through a hard link would change the artifact.
    for name in [MANIFEST, CHECKSUMS] {
        fs::remove_file(scratch.path().join(name))?;
    }
    let mut manifest = BundleManifest::read(&source)?;
    let measured = scores.open()?;
    manifest.published = Some(facts::published(store, id, scores, &measured)?);
    fs::write(scratch.path().join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    fs::copy(&measured.scores, scratch.path().join(Scores::FILE))?;
    repositories::write(store, scratch.path())?;
    retract::apply(store.root(), scratch.path())?;
    index::checksums::write(scratch.path())?;
    inference::load_installed()?;
    smoke::test(scratch.path(), config.smoke_queries.as_deref())?;
    fsync_tree(scratch.path())?;
    Ok(scratch.keep())
}

/// Links every file of a folder into another one; copies where the file system has no hard links.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_runs_where_a_stage_before_it_runs_or_another_bundle_is_published() {
        assert_eq!(PublishState::of(true, true, true), PublishState::Pending);
        assert_eq!(PublishState::of(false, true, false), PublishState::Published);
        assert_eq!(PublishState::of(false, false, true), PublishState::Stale);
        assert!(PublishState::Pending.will_run() && PublishState::Stale.will_run() && !PublishState::Published.will_run());
    }

    #[test]
    fn a_bundle_without_files_is_not_published_and_the_reason_names_the_command() {
        let state = PublishState::of(false, false, false);
        assert!(!state.will_run() && state.words().1.contains("codenets restore --with bundle"));
    }

    #[test]
    fn the_stage_has_no_artifact_and_its_configuration_is_its_section() {
        assert_eq!(AnyStage::kind(&Publish), None);
        let words: Vec<&str> = [PublishState::Pending, PublishState::Published, PublishState::NotHere, PublishState::Stale]
            .map(|state| state.words().0)
            .to_vec();
        assert_eq!(words, ["after", "up to date", "not available locally", "stale"]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.conf");
        fs::write(&path, "publish { min-mrr = 0.5, min-share-of-current = 0.9, keep = 3 }").unwrap();
        let conf = Conf::load(&path, &[NAME]).unwrap();
        let config = AnyStage::config(&Publish, &conf).unwrap();
        assert_eq!((&config["min-mrr"], &config["keep"], &config["max-lost-functions"]), (&0.5.into(), &3.into(), &1.0.into()));
    }
}
