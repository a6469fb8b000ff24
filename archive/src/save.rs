//! `save`: writes a snapshot to a remote.

use std::collections::BTreeMap;

use ledger::{ArtifactId, Digest, Settings, Store, WorkDir};

use crate::{
    error::Result,
    readers,
    remote::Remote,
    snapshot::{Selection, Snapshot},
    tree::{self, Sent},
};

/// Saves an artifact with its lineage under a name. Objects that the remote has already are not sent again.
///
/// * `selection`: the kinds whose files are saved. Manifests are always saved.
/// * `config`: the resolved configuration, for sections whose stage is not in the lineage.
///
/// Returns the digest of the snapshot, which finds it like its name does, and what was sent.
///
/// # Errors
/// Files that the selection asks for are damaged or not available locally, or the remote cannot be written.
pub fn save(
    store: &Store,
    target: &ArtifactId,
    remote: &Remote,
    name: &str,
    selection: &Selection,
    config: Settings,
) -> Result<(Digest, Sent)> {
    let _lock = readers::lock_shared(store)?;
    let snapshot = Snapshot::of(store, target, selection, config)?;
    let is_of_target = |run: &str| WorkDir::parse(store.root(), run).is_some_and(|run| run.key == target.key);
    let commit = snapshot.commits.iter().find(|(run, _)| is_of_target(run)).map(|(_, checkout)| &checkout.commit);
    let commit = commit.and_then(|commit| Some(format!("{}{}", commit.id.as_ref()?, if commit.dirty { " and changes" } else { "" })));
    let mut about = BTreeMap::from([("artifact".to_owned(), format!("{} {}", target.kind, target.key))]);
    about.extend(commit.map(|commit| ("commit".to_owned(), commit)));
    tree::push(remote, &snapshot, about, name, store.progress())
}
