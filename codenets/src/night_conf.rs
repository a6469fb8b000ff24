//! What a night changes of a configuration: a release of the encoder in place of a training, and a shorter evaluation.

use std::path::Path;

use anyhow::{Context, Result};
use bundle::{fusion::FUSION, reranking::RERANKER};
use indexer::{Evaluate, Index, evaluate, fusion, index, reranking};
use ledger::{
    ReleaseId, Releases, Stage,
    conf::{Conf, RunSettings},
};
use pipeline::{Harvest, harvest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::Adopt;

use crate::mirrors;

/// Name of the section.
pub const SECTION: &str = "nightly";

/// Section `nightly`: what a night does less than `codenets run`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Largest number of queries of `evaluate`.
    pub max_queries: usize,
    /// Number of nights for which a repository whose folder is gone keeps its functions.
    #[serde(default = "default_grace")]
    pub grace: u32,
    /// Repositories that a night fetches first; null: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<mirrors::Config>,
}

fn default_grace() -> u32 {
    3
}

/// The configuration with a release in place of a training: its encoder is adopted, its fusion and its reranking model are used.
///
/// # Errors
/// There is no such release.
pub fn with_release(conf: Conf, data: &Path, id: &ReleaseId) -> Result<Conf> {
    let releases = Releases::of(data);
    releases.read(id)?;
    let file = |name: &str| Some(releases.dir(id).join(name)).filter(|file| file.is_file());
    let mut section: index::Config = conf.section(Index::NAME)?;
    if let (fusion::Config::Learned(learned), Some(file)) = (&mut section.fusion, file(FUSION)) {
        learned.from = Some(file);
    }
    if let (reranking::Config::Learned(learned), Some(file)) = (&mut section.reranking, file(RERANKER)) {
        learned.from = Some(file);
    }
    let section = serde_json::to_value(section).context("the section `index`")?;
    Ok(conf.with_section(Adopt::NAME, json!({ "from": releases.encoder(id) })).with_section(Index::NAME, section))
}

/// The configuration of a night that does not read some repositories. `file`: the value of `harvest.kept` in JSON.
pub fn with_kept(conf: Conf, file: &Path) -> Result<Conf> {
    let mut harvest: harvest::Config = conf.section(Harvest::NAME)?;
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    harvest.kept = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: run `codenets nightly`", file.display()))?;
    Ok(conf.with_section(Harvest::NAME, serde_json::to_value(harvest)?))
}

/// The configuration of a build that keeps segments of a recorded bundle.
pub fn with_earlier(conf: Conf, key: Option<String>) -> Result<Conf> {
    let section = index::Config { earlier: key, ..conf.section(Index::NAME)? };
    Ok(conf.with_section(Index::NAME, serde_json::to_value(section)?))
}

/// The configuration of a build that is evaluated as a night does.
pub fn as_night(conf: Conf) -> Result<Conf> {
    let own: Config = conf.section(SECTION)?;
    let mut evaluate: evaluate::Config = conf.section(Evaluate::NAME)?;
    evaluate.max_queries = Some(evaluate.max_queries.map_or(own.max_queries, |most| most.min(own.max_queries)));
    let mut settings: RunSettings = conf.section("run")?;
    settings.curve = false;
    let sections = [(Evaluate::NAME, serde_json::to_value(evaluate)?), ("run", serde_json::to_value(settings)?)];
    Ok(sections.into_iter().fold(conf, |conf, (name, section)| conf.with_section(name, section)))
}
