//! Rollback, prune and verify.

use std::{collections::BTreeSet, path::Path};

use bundle::checksums;
use ledger::{Bundle, BundleId, Recordable, Serve, Store};

use crate::{Result, error::Context, retract};

/// Publishes the previous bundle again, and holds the current one back: `publish` does not publish it again.
///
/// # Errors
/// Nothing is published, or nothing was published before the current bundle, or the previous bundle is damaged.
pub fn rollback(store: &Store) -> Result<BundleId> {
    let _lock = store.lock()?;
    let data = store.root();
    let serve = Serve::of(data);
    serve.recover()?;
    retract::enforce(store)?;
    let ids = serve.ids()?;
    let current = serve.current_id().with_context(|| format!("nothing is published in {}: run `codenets run`", data.display()))?;
    let index = ids.iter().position(|id| *id == current);
    let index =
        index.with_context(|| format!("{} names {current}, which does not exist: run `codenets run`", serve.current().display()))?;
    // A build that was published twice is one build: it is what is rolled back.
    let before = ids[..index].iter().rev().filter(|id| id.key() != current.key());
    let previous = before.into_iter().find(|id| is_intact(store, &serve, id));
    let previous = previous.with_context(|| format!("no other intact bundle was published before {current}"))?.clone();
    serve.set_held_back(Some(current.key()))?;
    serve.set_current(&previous)?;
    Ok(previous)
}

/// Is a bundle that is not published undamaged? Sets it aside where it is not.
fn is_intact(store: &Store, serve: &Serve, id: &BundleId) -> bool {
    let verified = checksums::verify(&serve.bundle(id));
    verified.map_err(|error| retract::set_aside(store, serve, id, &error)).is_ok()
}

/// Hashes every file of the published bundle and compares it with `CHECKSUMS`; does nothing where nothing is published.
pub fn verify(data: &Path) -> Result<()> {
    let current = Serve::of(data).current();
    if current.exists() {
        let dir = current.canonicalize().with_context(|| format!("reading {}", current.display()))?;
        checksums::verify(&dir)?;
    }
    Ok(())
}

/// Deletes all published bundles but the newest `keep`, the current one and pinned ones; returns the deleted ids. Holds the lock of the
/// store.
pub fn prune_published(store: &Store, keep: usize) -> Result<Vec<BundleId>> {
    let _lock = store.lock()?;
    prune(store, keep)
}

/// [`prune_published`] for a caller that holds the lock of the store.
pub(super) fn prune(store: &Store, keep: usize) -> Result<Vec<BundleId>> {
    let serve = Serve::of(store.root());
    let current = serve.current_id();
    let mut old = beyond(store, keep.max(1))?;
    old.retain(|id| Some(id) != current.as_ref());
    old.iter().try_for_each(|id| serve.delete(id))?;
    Ok(old)
}

/// The published bundle that the next publication deletes, if there is one.
pub fn deleted_next(store: &Store, keep: usize) -> Result<Option<BundleId>> {
    // The next bundle takes one of the places.
    Ok(beyond(store, keep.max(1) - 1)?.pop())
}

/// The published bundles but the newest `keep` and pinned ones, oldest first.
fn beyond(store: &Store, keep: usize) -> Result<Vec<BundleId>> {
    let ids = Serve::of(store.root()).ids()?;
    let pinned = store.closure(store.pins()?.into_values())?.into_keys();
    let pinned: BTreeSet<String> = pinned.filter(|id| id.kind == Bundle::KIND).map(|id| id.key).collect();
    let old = ids.len().saturating_sub(keep);
    Ok(ids.into_iter().take(old).filter(|id| !pinned.contains(id.key())).collect())
}
