//! Makes releases of the encoder from recorded artifacts.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bundle::{fusion::FUSION, reranking::RERANKER};
use ledger::{ArtifactId, Bundle, Encoder, Recordable, Release, ReleaseId, Releases, Scores, Store, unix_now};

/// End of the name of the score that is shown first: hybrid search over all languages.
pub const SCORE: &str = "mrr@corpus_all_hybrid";

/// The score that is shown first, among scores by the names of `scores.json`.
pub fn score_of(scores: &BTreeMap<String, f64>) -> Option<f64> {
    scores.iter().find(|(name, _)| name.ends_with(SCORE)).map(|(_, score)| *score)
}

/// Makes a release of the recorded encoder, with the fusion and the reranking model of the recorded bundle, and makes it the current one.
/// The encoder is pinned, so that its lineage stays: before the release exists, so that a release that was killed here
/// has its pin. The caller has the lock of runs.
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
    store.pin(&format!("model-{}", release.encoder), &ArtifactId { kind: Encoder::KIND.to_owned(), key: release.encoder.clone() })?;
    Ok(Releases::of(store.root()).create(&release, &files, &[folder.join(FUSION), folder.join(RERANKER)])?)
}
