//! The part of a published manifest that only publishing knows: id, commit, stages, scores.

use ledger::{Artifact, ArtifactId, BundleId, PublishedStage, Recordable, Scores, Store};
use serde_json::{Map, Value, json};

use crate::Result;

/// `published` of the manifest: where the bundle comes from, how good it is, how long its stages took.
pub fn published(store: &Store, id: &BundleId, scores: &Artifact<Scores>, measured: &Scores) -> Result<Value> {
    let mut stages = Map::new();
    let mut commit = Value::Null;
    // The ancestors of this bundle, which can differ from the current artifacts.
    let scored = ArtifactId { kind: Scores::KIND.to_owned(), key: scores.manifest().key.clone() };
    let lineage = store.closure([scored])?;
    for kind in store.kinds() {
        if let Some((_, manifest)) = lineage.iter().find(|(id, _)| id.kind == *kind) {
            commit = serde_json::to_value(&manifest.host.commit)?;
            let stage = PublishedStage {
                key: manifest.key.clone(),
                digest: manifest.digest()?,
                wall_s: manifest.host.wall_s,
                rows_in: manifest.rows.read,
                rows_out: manifest.rows.written,
                rows_rejected: manifest.rows.rejected,
            };
            stages.insert(manifest.stage.clone(), serde_json::to_value(stage)?);
        }
    }
    let tool = format!("codenets {}", env!("CARGO_PKG_VERSION"));
    Ok(json!({ "id": id.as_str(), "tool": tool, "commit": commit, "stages": stages, "scores": measured.flat }))
}
