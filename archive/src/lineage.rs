//! `lineage`: from a score, a bundle or a checkpoint back to the digests of the raw files, as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use anyhow::{Result, ensure};
use ledger::{ARTIFACT_KINDS, ArtifactId, Digest, Manifest, Store, rfc3339};
use serde_json::{Value, json};

/// An artifact with all that it came from.
#[derive(Debug)]
pub struct Lineage {
    pub target: ArtifactId,
    pub artifacts: BTreeMap<ArtifactId, Manifest>,
}

/// Files of raw that the text names; the page and the JSON have all.
const NAMED_FILES: usize = 24;

impl Lineage {
    pub fn of(store: &Store, target: &ArtifactId) -> Result<Self> {
        let artifacts = store.closure([target.clone()])?;
        // Says what is wrong with it.
        Manifest::read(&store.dir(target))?;
        ensure!(artifacts.contains_key(target), "{} {} is not recorded", target.kind, target.key);
        Ok(Self { target: target.clone(), artifacts })
    }

    /// The artifacts that one was made of, and what it read outside the store.
    pub fn inputs<'a>(&self, manifest: &'a Manifest) -> (Vec<ArtifactId>, Vec<(&'a str, Digest)>) {
        let inside = manifest.inputs.iter().filter_map(|(kind, input)| Some(ArtifactId { kind: kind.clone(), key: input.key.clone()? }));
        let outside = manifest.inputs.iter().filter(|(_, input)| input.key.is_none()).map(|(name, input)| (name.as_str(), input.digest));
        (inside.collect(), outside.collect())
    }

    /// Longest way from an artifact to one that was made of nothing in the store.
    pub fn depth(&self, id: &ArtifactId) -> usize {
        let Some(manifest) = self.artifacts.get(id) else { return 0 };
        self.inputs(manifest).0.iter().map(|input| self.depth(input) + 1).max().unwrap_or_default()
    }

    /// A tree; what stands above already is not drawn again.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.draw(&self.target, 0, &mut BTreeSet::new(), &mut text);
        text
    }

    fn draw(&self, id: &ArtifactId, depth: usize, seen: &mut BTreeSet<ArtifactId>, text: &mut String) {
        let indent = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        let Some(manifest) = self.artifacts.get(id) else {
            let _ = writeln!(text, "{indent}{} {} (its manifest is not here)", id.kind, id.key);
            return;
        };
        if !seen.insert(id.clone()) {
            let _ = writeln!(text, "{indent}{} {} (above)", id.kind, id.key);
            return;
        }
        let _ = writeln!(text, "{indent}{} {}  {}", id.kind, id.key, facts(manifest));
        let below = "   ".repeat(depth);
        let (inside, outside) = self.inputs(manifest);
        for (name, digest) in outside {
            let _ = writeln!(text, "{below}   reads {name} {}", digest.short());
        }
        if inside.is_empty() {
            for (path, file) in manifest.outputs.iter().take(NAMED_FILES) {
                let _ = writeln!(text, "{below}   {} {} ({} bytes)", file.blake3.short(), path.display(), file.bytes);
            }
            if manifest.outputs.len() > NAMED_FILES {
                let _ = writeln!(text, "{below}   … {} files in all", manifest.outputs.len());
            }
        }
        // The shortest branches first: the long one is what the eye follows.
        let mut inside = inside;
        inside.sort_by_key(|id| self.depth(id));
        for input in inside {
            self.draw(&input, depth + 1, seen, text);
        }
    }

    /// The manifests, in the order of the road.
    pub fn json(&self) -> Result<Value> {
        let mut ids: Vec<_> = self.artifacts.iter().collect();
        ids.sort_by_key(|(id, _)| (ARTIFACT_KINDS.iter().position(|kind| *kind == id.kind), id.key.clone()));
        let manifests = ids.into_iter().map(|(_, manifest)| serde_json::to_value(manifest)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "target": { "kind": self.target.kind, "key": self.target.key }, "artifacts": manifests }))
    }
}

/// One line about a run.
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

/// The commit's first digits, and whether something was changed on top of it.
pub fn commit(manifest: &Manifest) -> String {
    let commit = &manifest.host.commit;
    let id = commit.id.as_deref().map_or("unknown", |id| &id[..id.len().min(12)]);
    match (commit.dirty, commit.diff) {
        (false, _) => id.to_owned(),
        (true, Some(diff)) => format!("{id} + changes {}", diff.short()),
        (true, None) => format!("{id} + changes"),
    }
}
