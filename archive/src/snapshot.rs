//! What is saved at once: an artifact with all it came from, as one typed record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};
use ledger::{
    ARTIFACT_KINDS, ArtifactId, ArtifactRef, Bundle, Checkout, Checkpoint, Embeddings, Encoder, Folder, Functions, Manifest, Metrics, Raw,
    Recordable, Retracted, Scores, Settings, Store, Syntax, Tokens, Vocabulary, recordable, recordable_json,
};
use serde::{Deserialize, Serialize};

/// Artifacts of one kind, by key.
type ArtifactMap<A> = BTreeMap<String, ArtifactRef<A>>;

recordable! {
    /// The whole context of a build. Of every artifact there is the manifest; the files of those that were asked for.
    #[derive(Debug)]
    pub struct Snapshot: "save-point", 1 {
        pub target: Target,
        /// As each stage was run with; what no stage has, as it was named when this was saved.
        pub config: Settings,
        /// Of each stage's run, `<stage>-<key>`.
        pub commits: BTreeMap<String, Checkout>,
        pub raw: ArtifactMap<Raw>,
        pub functions: ArtifactMap<Functions>,
        pub syntax: ArtifactMap<Syntax>,
        pub vocabulary: ArtifactMap<Vocabulary>,
        pub tokens: ArtifactMap<Tokens>,
        pub checkpoint: ArtifactMap<Checkpoint>,
        pub encoder: ArtifactMap<Encoder>,
        pub embeddings: ArtifactMap<Embeddings>,
        pub bundle: ArtifactMap<Bundle>,
        pub scores: ArtifactMap<Scores>,
        /// What runs kept for themselves: checkpoints that a training goes on from, event files.
        pub runs: BTreeMap<String, Folder>,
        pub metrics: Metrics,
        pub retracted: Retracted,
    }
}

/// Which artifact was asked for, and which of those saved were current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub kind: String,
    pub key: String,
    pub current: BTreeMap<String, String>,
}
recordable_json!(Target, "target", 1);

/// Which files go along with the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    kinds: BTreeSet<String>,
    pub runs: bool,
}

/// Names for several kinds at once.
const GROUPS: [(&str, &[&str]); 5] = [
    ("dataset", &["raw", "functions", "syntax", "tokens"]),
    ("model", &["vocabulary", "checkpoint", "encoder"]),
    ("index", &["embeddings"]),
    ("bundle", &["bundle"]),
    ("scores", &["scores"]),
];
/// What runs kept.
const RUNS: &str = "runs";

impl Selection {
    /// The model and its scores, and what is named besides.
    pub fn of(names: &[String]) -> Result<Self> {
        let mut wanted = Self { kinds: BTreeSet::new(), runs: false };
        for name in ["model", "scores"].into_iter().chain(names.iter().map(String::as_str)) {
            let group = GROUPS.iter().find(|(group, _)| *group == name).map(|(_, kinds)| *kinds);
            match (name, group) {
                ("all", _) => {
                    wanted.kinds.extend(ARTIFACT_KINDS.map(str::to_owned));
                    wanted.runs = true;
                }
                (RUNS, _) => wanted.runs = true,
                (_, Some(kinds)) => wanted.kinds.extend(kinds.iter().map(|&kind| kind.to_owned())),
                (kind, None) if ARTIFACT_KINDS.contains(&kind) => drop(wanted.kinds.insert(kind.to_owned())),
                (other, None) => {
                    let groups = GROUPS.map(|(group, _)| group).join(", ");
                    bail!("{other:?} is nothing to save or restore: {groups}, {RUNS}, all, or a kind ({})", ARTIFACT_KINDS.join(", "))
                }
            }
        }
        Ok(wanted)
    }

    pub fn all() -> Self {
        Self { kinds: ARTIFACT_KINDS.map(str::to_owned).into(), runs: true }
    }

    pub fn has(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// Is this file of a saved tree wanted? Manifests and what is small always are.
    pub fn takes(&self, path: &Path) -> bool {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        match parts.as_slice() {
            [kind, _, sealed, file @ ..] if sealed == "sealed" && ARTIFACT_KINDS.contains(&kind.as_ref()) => {
                self.has(kind) || file.first().is_some_and(|name| name == "manifest.json" && file.len() == 1)
            }
            // The label of the folder and of its runs tells which there were.
            [runs, _, files, ..] if runs == RUNS && files == "files" => self.runs,
            [runs, _, _] if runs == RUNS => self.runs,
            _ => true,
        }
    }
}

impl Snapshot {
    /// Of an artifact of this store and all that it came from.
    pub fn of(store: &Store, target: &ArtifactId, wanted: &Selection, mut config: Settings) -> Result<Self> {
        let closure = store.closure([target.clone()])?;
        config.0.extend(closure.values().map(|manifest| (manifest.stage.clone(), manifest.config.clone())));
        if !closure.contains_key(target) {
            Manifest::read(&store.dir(target))?;
        }
        let taken = Collector { store, closure: &closure, wanted, target };
        let commits = closure
            .values()
            .map(|manifest| (format!("{}-{}", manifest.stage, manifest.key), Checkout::recorded(store.root(), &manifest.host.commit)));
        let current = ARTIFACT_KINDS.iter().filter_map(|&kind| Some((kind.to_owned(), store.current_key(kind)?)));
        let current = current.filter(|(kind, key)| closure.contains_key(&ArtifactId { kind: kind.clone(), key: key.clone() })).collect();
        let scores: ArtifactMap<Scores> = taken.of()?;
        let metrics = scores.values().filter(|scores| scores.has_files).map(|scores| scores.artifact.open().map(|scores| scores.flat));
        let metrics = metrics.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        Ok(Self {
            target: Target { kind: target.kind.clone(), key: target.key.clone(), current },
            config,
            commits: commits.collect(),
            raw: taken.of()?,
            functions: taken.of()?,
            syntax: taken.of()?,
            vocabulary: taken.of()?,
            tokens: taken.of()?,
            checkpoint: taken.of()?,
            encoder: taken.of()?,
            embeddings: taken.of()?,
            bundle: taken.of()?,
            scores,
            runs: if wanted.runs { runs(store)? } else { BTreeMap::new() },
            metrics: Metrics(metrics),
            retracted: Retracted::read(store.root())?.unwrap_or_default(),
        })
    }
}

struct Collector<'a> {
    store: &'a Store,
    closure: &'a BTreeMap<ArtifactId, Manifest>,
    wanted: &'a Selection,
    target: &'a ArtifactId,
}

impl Collector<'_> {
    fn of<A: Recordable>(&self) -> Result<ArtifactMap<A>> {
        let own = self.closure.keys().filter(|id| id.kind == A::KIND);
        own.map(|id| {
            let artifact = self.store.artifact::<A>(id)?;
            let has_files = self.wanted.has(A::KIND) || id == self.target;
            if has_files {
                artifact.open().context("its files were to be saved")?;
            }
            Ok((id.key.clone(), ArtifactRef { artifact, has_files }))
        })
        .collect()
    }
}

fn runs(store: &Store) -> Result<BTreeMap<String, Folder>> {
    let mut runs = BTreeMap::new();
    for entry in fs::read_dir(store.root().join("runs")).into_iter().flatten() {
        let dir = entry?.path();
        let Some(name) = dir.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        if !Folder::files_of(&dir)?.is_empty() {
            runs.insert(name, Folder { dir });
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_always_travel_and_files_when_they_are_asked_for() {
        let model = Selection::of(&[]).unwrap();
        assert!(model.takes(Path::new("syntax/ab/sealed/manifest.json")));
        assert!(!model.takes(Path::new("syntax/ab/sealed/train/0000.parquet")));
        assert!(!model.takes(Path::new("syntax/ab/sealed/deep/manifest.json")));
        assert!(model.takes(Path::new("encoder/ab/sealed/encoder.onnx")));
        assert!(model.takes(Path::new("commits/train-ab/changes.diff")));
        assert!(!model.takes(Path::new("runs/train-ab/files/checkpoints/x")));
        let more = Selection::of(&["dataset".to_owned(), "runs".to_owned()]).unwrap();
        assert!(more.takes(Path::new("syntax/ab/sealed/train/0000.parquet")) && more.takes(Path::new("runs/train-ab/files/x")));
        assert!(!more.takes(Path::new("bundle/ab/sealed/bundle/docs.parquet")));
        assert!(Selection::of(&["bundel".to_owned()]).unwrap_err().to_string().contains("bundle"));
    }
}
