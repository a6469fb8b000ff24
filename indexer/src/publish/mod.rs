//! `publish`: gates, then an atomic flip. Also rollback, prune and verification of what is served.
//!
//! ```text
//! serve/bundles/<utc>-<key>/   hard links of the sealed bundle, scores.json, CHECKSUMS, manifest.json
//! serve/current                -> bundles/<id>, by rename(2)
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use ledger::{
    ARTIFACT_KINDS, ArtifactId, Bundle, Recordable, Scores, Store, fault, fsync_dir, fsync_tree, open_to_all, publish_link, unix_now,
    utc_stamp, write_atomically,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    bundle::{Mode, OpenBundle, Query},
    encoder::Provider,
    index::format::{BundleManifest, MANIFEST, verify_checksums, write_checksums},
    retract,
};

/// Section `publish`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub min_mrr: f64,
    pub min_share_of_current: f64,
    pub keep: usize,
}

/// The measure that gates, behind the name of the split: hybrid, all languages, whole split.
const GATE: &str = "_mrr@corpus_all_hybrid";
/// Begins the name of a folder that is not published yet.
const SCRATCH: &str = ".publishing-";
/// Holds the key of a bundle that was rolled back: it is not served again.
const HELD_BACK: &str = "held-back";

/// The folder that a frontend opens.
pub fn served(data: &Path) -> PathBuf {
    data.join("serve").join("current")
}

fn bundles(data: &Path) -> PathBuf {
    data.join("serve").join("bundles")
}

/// Published ids, oldest first: they begin with their time.
fn published(data: &Path) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    if let Ok(entries) = fs::read_dir(bundles(data)) {
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                ids.push(name);
            }
        }
    }
    ids.sort();
    Ok(ids)
}

/// Folders of all published bundles.
pub fn published_folders(data: &Path) -> Result<Vec<PathBuf>> {
    Ok(published(data)?.into_iter().map(|id| bundles(data).join(id)).collect())
}

fn current_id(data: &Path) -> Option<String> {
    Some(fs::read_link(served(data)).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// Is the bundle of the ledger the one that is served?
pub fn is_current(store: &Store) -> bool {
    let key = store.current_manifest(Bundle::KIND).map(|(_, manifest)| manifest.key);
    current_id(store.root()).zip(key).is_some_and(|(id, key)| id.ends_with(&key))
}

/// Publishes the ledger's bundle if it passes the gates; says so if it is served already.
pub fn publish(store: &Store, config: &Config) -> Result<String> {
    let _held = store.lock()?;
    let bundle = store.current::<Bundle>()?;
    let scores = store.current::<Scores>()?;
    let scored = scores.manifest().inputs.get(Bundle::KIND).map(|input| input.digest);
    ensure!(scored == Some(bundle.digest()), "the scores are of another bundle: run `make evaluate` first");
    retract::enforce(store.root())?;
    if is_current(store) {
        let id = current_id(store.root()).unwrap_or_default();
        store.progress().message(&format!("publish   fresh ({id})"));
        return Ok(id);
    }
    let held = store.root().join("serve").join(HELD_BACK);
    if fs::read_to_string(&held).is_ok_and(|key| key.trim() == bundle.manifest().key) {
        let id = current_id(store.root()).unwrap_or_default();
        store.progress().message(&format!(
            "publish   {} was rolled back and stays so: {id} is served (remove {} to publish it)",
            bundle.manifest().key,
            held.display()
        ));
        return Ok(id);
    }
    let measured = scores.open()?;
    gate(store.root(), config, &measured)?;

    let root = bundles(store.root());
    fs::create_dir_all(&root)?;
    let id = next_id(&published(store.root())?, &bundle.manifest().key);
    for entry in fs::read_dir(&root)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(SCRATCH)) {
        // Debris of a killed run: the lock is ours.
        fs::remove_dir_all(entry.path())?;
    }
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&root)?;
    let source = bundle.open()?.dir;
    verify_checksums(&source)?;
    link_tree(&source, scratch.path())?;
    // These two differ from the sealed bundle: written anew, never through a hard link.
    for name in [MANIFEST, crate::index::format::CHECKSUMS] {
        fs::remove_file(scratch.path().join(name))?;
    }
    let mut manifest = BundleManifest::read(&source)?;
    manifest.published = Some(facts(store, &id, &measured)?);
    fs::write(scratch.path().join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    fs::copy(&measured.scores, scratch.path().join("scores.json"))?;
    retract::apply(store.root(), scratch.path())?;
    write_checksums(scratch.path())?;
    smoke(scratch.path())?;
    fsync_tree(scratch.path())?;
    let target = root.join(&id);
    let kept = scratch.keep();
    open_to_all(&kept)?;
    fault::point("rename of the published folder");
    fs::rename(&kept, &target).with_context(|| format!("publishing {}", target.display()))?;
    fsync_dir(&root)?;
    publish_link(&served(store.root()), &Path::new("bundles").join(&id))?;
    let _ = fs::remove_file(&held);
    fault::point("pruning");
    prune(store, config.keep)?;
    store.progress().message(&format!("publish   {id} is served at {}", served(store.root()).display()));
    Ok(id)
}

/// A worse build never publishes. Scores are compared only under one name: same split, same protocol.
fn gate(data: &Path, config: &Config, scores: &Scores) -> Result<()> {
    let (name, &score) = scores.flat.iter().find(|(name, _)| name.ends_with(GATE)).context("scores.json has no hybrid mrr@corpus")?;
    ensure!(score >= config.min_mrr, "not published: {name} is {score:.4}, publish.min-mrr is {:.4}", config.min_mrr);
    if config.min_share_of_current <= 0.0 || !served(data).exists() {
        return Ok(());
    }
    let remedy = "set publish.min-share-of-current = 0 to publish without comparing";
    let path = served(data).join("scores.json");
    let bytes = fs::read(&path).with_context(|| format!("not published: {} is not readable: {remedy}", path.display()))?;
    let before: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("not published: {} is damaged: {remedy}", path.display()))?;
    let before =
        before.get(name).and_then(Value::as_f64).with_context(|| format!("not published: the served bundle has no {name}: {remedy}"))?;
    let least = before * config.min_share_of_current;
    ensure!(
        score >= least,
        "not published: {name} fell from {before:.4} to {score:.4}, less than publish.min-share-of-current allows ({least:.4})"
    );
    Ok(())
}

/// What only publishing knows: where it all came from, how good it is, how long it took.
fn facts(store: &Store, id: &str, scores: &Scores) -> Result<Value> {
    let mut stages = serde_json::Map::new();
    let mut commit = Value::Null;
    // The bundle's own ancestors, which need not be what CURRENT names now.
    let scored = ArtifactId { kind: Scores::KIND.to_owned(), key: store.current::<Scores>()?.manifest().key.clone() };
    let lineage = store.closure([scored])?;
    for kind in ARTIFACT_KINDS {
        if let Some((_, manifest)) = lineage.iter().find(|(id, _)| id.kind == kind) {
            commit = serde_json::to_value(&manifest.host.commit)?;
            stages.insert(
                manifest.stage.clone(),
                json!({
                    "key": manifest.key, "digest": manifest.digest()?, "wall_s": manifest.host.wall_s, "rows_in": manifest.rows.read,
                    "rows_out": manifest.rows.written, "rows_rejected": manifest.rows.rejected,
                }),
            );
        }
    }
    Ok(
        json!({ "id": id, "tool": format!("codenets {}", env!("CARGO_PKG_VERSION")), "commit": commit, "stages": stages, "scores": scores.flat }),
    )
}

/// The bundle opens from its own files and answers in every mode.
fn smoke(dir: &Path) -> Result<()> {
    verify_checksums(dir)?;
    let bundle = OpenBundle::open(dir, Provider::Cpu, 1)?;
    for mode in Mode::ALL {
        let query = Query { text: "read a file and return its lines".to_owned(), mode, limit: 3, ..Query::default() };
        let hits = bundle.search(&query).with_context(|| format!("smoke query in mode {}", mode.name()))?;
        ensure!(mode == Mode::Bm25 || !hits.is_empty(), "the smoke query found nothing in mode {}", mode.name());
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Points `current` at the bundle published before it, and holds the one it leaves back.
pub fn rollback(store: &Store) -> Result<String> {
    let _held = store.lock()?;
    let data = store.root();
    retract::enforce(data)?;
    let ids = published(data)?;
    let current = current_id(data).context("nothing is published yet")?;
    let place = ids.iter().position(|id| *id == current).with_context(|| format!("current names {current}, which is gone"))?;
    let Some(before) = place.checked_sub(1).map(|place| ids[place].clone()) else { bail!("no bundle was published before {current}") };
    verify_checksums(&bundles(data).join(&before))?;
    let key = current.rsplit_once('-').map_or(current.as_str(), |(_, key)| key);
    write_atomically(&data.join("serve").join(HELD_BACK), key.as_bytes())?;
    publish_link(&served(data), &Path::new("bundles").join(&before))?;
    Ok(before)
}

/// Hashes the served bundle again; nothing to do where nothing is served.
pub fn verify(data: &Path) -> Result<()> {
    if served(data).exists() { verify_checksums(&served(data).canonicalize()?) } else { Ok(()) }
}

/// Removes all but the newest `keep` bundles, never the one that is served nor one that is pinned.
pub fn prune(store: &Store, keep: usize) -> Result<Vec<String>> {
    let data = store.root();
    let ids = published(data)?;
    let current = current_id(data);
    let pinned = store.closure(store.pins()?.into_values())?.into_keys();
    let pinned: Vec<String> = pinned.filter(|id| id.kind == Bundle::KIND).map(|id| id.key).collect();
    let is_kept = |id: &String| Some(id) == current.as_ref() || pinned.iter().any(|key| id.ends_with(key));
    let old = ids.len().saturating_sub(keep.max(1));
    let mut removed = Vec::new();
    for id in ids.into_iter().take(old).filter(|id| !is_kept(id)) {
        fs::remove_dir_all(bundles(data).join(&id)).with_context(|| format!("removing {id}"))?;
        removed.push(id);
    }
    Ok(removed)
}

/// `<utc>-<key>`, behind all that are there: their order is that of their times, also when the clock went back.
fn next_id(published: &[String], key: &str) -> String {
    let last = published.last().and_then(|id| id.split_once('-')).map_or("", |(stamp, _)| stamp);
    // The first second from now on whose stamp sorts behind the last one.
    let (mut low, mut high) = (unix_now(), unix_now() + (1 << 38));
    while low < high {
        let middle = low + (high - low) / 2;
        if utc_stamp(middle).as_str() <= last { low = middle + 1 } else { high = middle }
    }
    format!("{}-{key}", utc_stamp(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_behind_all_others_whatever_the_clock_says() {
        let key = "0123456789ab";
        let first = next_id(&[], key);
        assert!(first.ends_with(&format!("-{key}")) && first.len() == 29, "{first}");
        assert_eq!(next_id(&["20991231T235959Z-aa".to_owned()], key), format!("21000101T000000Z-{key}"));
        let second = next_id(std::slice::from_ref(&first), key);
        assert!(second > first);
    }
}
