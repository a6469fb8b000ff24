//! Releases of the encoder: made from recorded artifacts, and used by a configuration in place of a training.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bundle::{fusion::FUSION, reranking::RERANKER};
use indexer::{Index, fusion, index, reranking};
use ledger::{ArtifactId, Bundle, Encoder, Recordable, Release, ReleaseId, Releases, Scores, Stage, Store, conf::Conf, unix_now};
use serde_json::json;
use trainer::Adopt;

/// Name of the pin that keeps the lineage of a release.
pub fn pin_name(id: &ReleaseId) -> String {
    format!("model-{id}")
}

/// Makes a release of the recorded encoder, with the fusion and the reranking model of the recorded bundle, and makes it the current one.
/// The encoder is pinned, so that its lineage stays. The caller has the lock of runs.
///
/// # Errors
/// No bundle is recorded, or it has another encoder than the recorded one.
pub fn promote(store: &Store) -> Result<ReleaseId> {
    let encoder = store.current::<Encoder>()?;
    let bundle = store.current::<Bundle>()?;
    let of_bundle = bundle.manifest().inputs.get(Encoder::KIND).map(|input| input.digest);
    ensure!(of_bundle == Some(encoder.digest()), "the recorded bundle has another encoder: run `codenets run`");
    let scores = store.current::<Scores>()?.open().map(|scores| scores.flat).unwrap_or_default();
    let files = encoder.manifest().outputs.keys().map(|name| encoder.dir().join(name)).collect::<Vec<_>>();
    let folder = bundle.open()?.dir;
    let release =
        Release { created_unix_s: unix_now(), encoder: encoder.manifest().key.clone(), bundle: bundle.manifest().key.clone(), scores };
    let id = Releases::of(store.root()).create(&release, &files, &[folder.join(FUSION), folder.join(RERANKER)])?;
    store.pin(&pin_name(&id), &ArtifactId { kind: Encoder::KIND.to_owned(), key: release.encoder })?;
    Ok(id)
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
