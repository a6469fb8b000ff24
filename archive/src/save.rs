//! `save`: one artifact with all it came from, to one address.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use ledger::{ArtifactId, Digest, Settings, Store};

use crate::{
    remote::Remote,
    snapshot::{Selection, Snapshot},
    tree::{self, Sent},
};

/// Saves, and gives the digest that finds it again.
pub fn save(
    store: &Store,
    target: &ArtifactId,
    remote: &Remote,
    name: &str,
    wanted: &Selection,
    config: Settings,
) -> Result<(Digest, Sent)> {
    let _kept = reading(store)?;
    let point = Snapshot::of(store, target, wanted, config)?;
    let manifest = point.commits.iter().find(|(run, _)| run.ends_with(&target.key)).map(|(_, checkout)| &checkout.commit);
    let commit = manifest.and_then(|commit| Some(format!("{}{}", commit.id.as_ref()?, if commit.dirty { " and changes" } else { "" })));
    let mut about = BTreeMap::from([("artifact".to_owned(), format!("{} {}", target.kind, target.key))]);
    about.extend(commit.map(|commit| ("commit".to_owned(), commit)));
    tree::push(remote, &point, about, name, store.progress())
}

/// ArtifactRef while the files of a store are read: `gc` waits for it.
pub fn reading(store: &Store) -> Result<Option<fs::File>> {
    let path = store.root().join(READERS);
    // A folder that may only be read is not cleaned either.
    let Ok(file) = fs::File::create(&path).or_else(|_| fs::File::open(&path)) else { return Ok(None) };
    file.lock_shared().with_context(|| format!("locking {}", path.display()))?;
    Ok(Some(file))
}

/// Locked by all that read, or by the one that removes.
pub const READERS: &str = ".readers";
