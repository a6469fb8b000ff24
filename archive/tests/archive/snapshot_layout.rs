//! Snapshots keep the layout of codenets 0.1, where the record had a typed field for each artifact kind.

use std::{collections::BTreeMap, fs, path::Path};

use archive::{
    remote::Remote,
    restore::restore,
    snapshot::{Selection, Snapshot, Target},
    tree,
};
use ledger::{
    Artifact, ArtifactId, ArtifactRef, BoxError, Bundle, Checkout, Checkpoint, Content, Embeddings, Encoder, Files, Folder, Functions,
    Metrics, Progress, Raw, Recordable, Retracted, Run, Scores, Settings, Stage, Store, Syntax, Tokens, Vocabulary, recordable,
};
use tempfile::TempDir;

use crate::toy;

type Of<A> = BTreeMap<String, ArtifactRef<A>>;

recordable! {
    /// The record as codenets 0.1 defined it.
    struct OldSnapshot: "save-point", 1 {
        target: Target,
        config: Settings,
        commits: BTreeMap<String, Checkout>,
        raw: Of<Raw>,
        functions: Of<Functions>,
        syntax: Of<Syntax>,
        vocabulary: Of<Vocabulary>,
        tokens: Of<Tokens>,
        checkpoint: Of<Checkpoint>,
        encoder: Of<Encoder>,
        embeddings: Of<Embeddings>,
        bundle: Of<Bundle>,
        scores: Of<Scores>,
        runs: BTreeMap<String, Folder>,
        metrics: Metrics,
        retracted: Retracted,
    }
}

/// Writes one raw file.
struct Harvest;

impl Stage for Harvest {
    const NAME: &'static str = "harvest";
    const ABOUT: &'static str = "Write one raw file";
    const REVISION: u32 = 1;
    type Config = ();
    type Inputs = ();
    type Output = Raw;
    type Report = toy::NoReport;
    type Error = BoxError;

    fn run((): &(), (): &(), run: &Run<'_>) -> Result<toy::NoReport, BoxError> {
        fs::write(run.out.join("a.jsonl"), "{}\n")?;
        Ok(toy::NoReport)
    }
}

/// A store with one raw artifact and a work directory.
fn store() -> (TempDir, Store, Artifact<Raw>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("data"), Progress::new(true), 1);
    let raw = store.make::<Harvest>(&()).unwrap();
    let work = ledger::WorkDir::of(store.root(), "harvest", &raw.manifest().key).path;
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("state.json"), "1").unwrap();
    (dir, store, raw)
}

fn id(raw: &Artifact<Raw>) -> ArtifactId {
    ArtifactId { kind: "raw".to_owned(), key: raw.manifest().key.clone() }
}

fn new_snapshot(store: &Store, raw: &Artifact<Raw>) -> Snapshot {
    Snapshot::of(store, &id(raw), &Selection::all(store.kinds()), Settings(BTreeMap::new())).unwrap()
}

fn old_snapshot(store: &Store, raw: &Artifact<Raw>) -> OldSnapshot {
    let Snapshot { target, config, commits, runs, metrics, retracted, .. } = new_snapshot(store, raw);
    let artifact = ArtifactRef { artifact: store.artifact::<Raw>(&id(raw)).unwrap(), has_files: true };
    OldSnapshot {
        target,
        config,
        commits,
        raw: Of::from([(raw.manifest().key.clone(), artifact)]),
        functions: Of::new(),
        syntax: Of::new(),
        vocabulary: Of::new(),
        tokens: Of::new(),
        checkpoint: Of::new(),
        encoder: Of::new(),
        embeddings: Of::new(),
        bundle: Of::new(),
        scores: Of::new(),
        runs,
        metrics,
        retracted,
    }
}

/// Path and bytes of each file of a record.
fn bytes<R: Recordable>(record: &R) -> BTreeMap<String, Vec<u8>> {
    let content = |content: &Content| match content {
        Content::Bytes(bytes) => bytes.clone(),
        Content::File(path, _) => fs::read(path).unwrap(),
    };
    Files::of(record).unwrap().iter().map(|(path, one)| (path.display().to_string(), content(one))).collect()
}

#[test]
fn a_snapshot_has_the_files_and_bytes_of_the_typed_record() {
    let (_dir, store, raw) = store();
    let files = bytes(&new_snapshot(&store, &raw));
    assert!(files.contains_key("scores/record.json") && files.keys().any(|path| path.ends_with("sealed/a.jsonl")));
    assert_eq!(files, bytes(&old_snapshot(&store, &raw)));
}

#[test]
fn a_typed_record_is_restored() {
    let (dir, store, raw) = store();
    let remote = Remote::open(dir.path().join("remote").to_str().unwrap(), true).unwrap();
    tree::push(&remote, &old_snapshot(&store, &raw), BTreeMap::new(), "latest", store.progress()).unwrap();
    let other = Store::at(dir.path().join("other"), Progress::new(true), 1);
    let restored = restore(&other, &remote, "latest", &Selection::all(other.kinds())).unwrap();
    assert_eq!((restored.artifacts, restored.runs), (1, 1));
    assert_eq!(other.current_key("raw"), Some(raw.manifest().key.clone()));
    assert!(other.verify().unwrap().is_empty());
}

#[test]
fn a_file_that_its_manifest_does_not_record_is_refused() {
    let (dir, store, raw) = store();
    let remote = Remote::open(dir.path().join("remote").to_str().unwrap(), true).unwrap();
    let (_, mut list) = {
        tree::push(&remote, &new_snapshot(&store, &raw), BTreeMap::new(), "latest", store.progress()).unwrap();
        tree::find(&remote, "latest").unwrap()
    };
    // A list that names other bytes for the raw file: those of the manifest's own record.
    let other = list.files[Path::new("record.json")].clone();
    let path = list.files.keys().find(|path| path.ends_with("sealed/a.jsonl")).unwrap().clone();
    list.files.insert(path, other);
    let text = serde_json::to_vec_pretty(&list).unwrap();
    let digest = ledger::Digest::of_bytes(&text).to_string();
    remote.put(&format!("records/{digest}.json"), text).unwrap();
    let target = Store::at(dir.path().join("other"), Progress::new(true), 1);
    let error = restore(&target, &remote, &digest, &Selection::all(target.kinds())).unwrap_err().to_string();
    assert!(error.contains("not the file that its manifest records"), "{error}");
    assert_eq!(target.current_key("raw"), None);
}
