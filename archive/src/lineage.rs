//! The lineage of an artifact: the artifacts that it was made from, back to the digests of the raw files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use ledger::{ArtifactId, Digest, Manifest, Store, ensure, rfc3339};
use serde_json::{Value, json};

use crate::error::Result;

/// An artifact with its lineage.
#[derive(Debug)]
pub struct Lineage {
    pub target: ArtifactId,
    /// The target and the artifacts that it was made from, as far as they are in the store.
    pub artifacts: BTreeMap<ArtifactId, Manifest>,
    /// Artifact kinds in the order in which they are made.
    kinds: Vec<&'static str>,
}

/// Files of an artifact that the text lists at most. The page and the JSON list all.
const LISTED_FILES: usize = 24;

impl Lineage {
    /// Reads the lineage of an artifact.
    ///
    /// # Errors
    /// The artifact is not recorded, or a manifest of the lineage is damaged.
    pub fn of(store: &Store, target: &ArtifactId) -> Result<Self> {
        let artifacts = store.closure([target.clone()])?;
        // The error names what is missing.
        Manifest::read(&store.dir(target))?;
        ensure!(artifacts.contains_key(target), "{} {} is not recorded", target.kind, target.key);
        Ok(Self { target: target.clone(), artifacts, kinds: store.kinds().to_vec() })
    }

    /// The artifacts that an artifact was made from, and its external inputs: name and digest.
    pub fn inputs<'a>(&self, manifest: &'a Manifest) -> (Vec<ArtifactId>, Vec<(&'a str, Digest)>) {
        let artifacts = manifest.inputs.iter().filter_map(|(kind, input)| Some(ArtifactId { kind: kind.clone(), key: input.key.clone()? }));
        let external = manifest.inputs.iter().filter(|(_, input)| input.key.is_none()).map(|(name, input)| (name.as_str(), input.digest));
        (artifacts.collect(), external.collect())
    }

    /// Length of the longest path from an artifact to one that was made from no other artifact.
    pub fn depth(&self, id: &ArtifactId) -> usize {
        self.depth_below(id, &mut Vec::new())
    }

    /// `above`: the artifacts on the path to this one. A manifest that someone made may name one of them as its input.
    fn depth_below(&self, id: &ArtifactId, above: &mut Vec<ArtifactId>) -> usize {
        let Some(manifest) = self.artifacts.get(id).filter(|_| !above.contains(id)) else { return 0 };
        above.push(id.clone());
        let depth = self.inputs(manifest).0.iter().map(|input| self.depth_below(input, above) + 1).max().unwrap_or_default();
        above.pop();
        depth
    }

    /// The lineage as a tree. An artifact that occurs again is not drawn a second time.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.draw(&self.target, 0, &mut BTreeSet::new(), &mut text);
        text
    }

    fn draw(&self, id: &ArtifactId, depth: usize, seen: &mut BTreeSet<ArtifactId>, text: &mut String) {
        let indent = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        let Some(manifest) = self.artifacts.get(id) else {
            let _ = writeln!(text, "{indent}{} {} (not available locally)", id.kind, id.key);
            return;
        };
        if !seen.insert(id.clone()) {
            let _ = writeln!(text, "{indent}{} {} (above)", id.kind, id.key);
            return;
        }
        let _ = writeln!(text, "{indent}{} {}  {}", id.kind, id.key, facts(manifest));
        let below = "   ".repeat(depth);
        let (mut artifacts, external) = self.inputs(manifest);
        for (name, digest) in external {
            let _ = writeln!(text, "{below}   reads {name} {}", digest.short());
        }
        if artifacts.is_empty() {
            for (path, file) in manifest.outputs.iter().take(LISTED_FILES) {
                let _ = writeln!(text, "{below}   {} {} ({} bytes)", file.blake3.short(), path.display(), file.bytes);
            }
            if manifest.outputs.len() > LISTED_FILES {
                let _ = writeln!(text, "{below}   … {} files in all", manifest.outputs.len());
            }
        }
        // The shortest branches first, so that the longest one ends the text.
        artifacts.sort_by_key(|id| self.depth(id));
        for input in artifacts {
            self.draw(&input, depth + 1, seen, text);
        }
    }

    /// The target and all manifests, in the order in which kinds are made.
    pub fn json(&self) -> Result<Value> {
        let mut ids: Vec<_> = self.artifacts.iter().collect();
        ids.sort_by_key(|(id, _)| (self.kinds.iter().position(|kind| *kind == id.kind), id.key.clone()));
        let manifests = ids.into_iter().map(|(_, manifest)| serde_json::to_value(manifest)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "target": { "kind": self.target.kind, "key": self.target.key }, "artifacts": manifests }))
    }
}

/// One line about the run of a stage: revision, rows, size, time, commit, digest of the output.
pub fn facts(manifest: &Manifest) -> String {
    let digest = manifest.digest().map(|digest| digest.short()).unwrap_or_default();
    let commit = commit(manifest);
    format!(
        "{} r{}, {} rows, {:.1} MiB, {}, commit {commit}, bytes {digest}",
        manifest.stage,
        manifest.revision,
        manifest.rows.written,
        manifest.bytes_out() as f64 / (1 << 20) as f64,
        rfc3339(manifest.host.finished_unix_s),
    )
}

/// The first digits of the commit that a stage ran from, and the changes of a dirty checkout.
pub fn commit(manifest: &Manifest) -> String {
    let commit = &manifest.host.commit;
    let id = commit.id.as_deref().map_or("unknown", |id| id.get(..12).unwrap_or(id));
    match (commit.dirty, commit.diff) {
        (false, _) => id.to_owned(),
        (true, Some(diff)) => format!("{id} + changes {}", diff.short()),
        (true, None) => format!("{id} + changes"),
    }
}
