//! Finds the artifact that a user names: `scores`, `bundle:3f2a`, `other/data/bundle/3f2a…` or the folder of a published bundle.

use std::path::Path;

use ledger::{ArtifactId, Bundle, BundleId, Manifest, Recordable, Serve, Store, bail, ensure};

use crate::error::{Context, Result};

/// The forms of a name, for help texts.
pub const FORMS: &str = "a kind (its current artifact), kind:key (the first digits of the key suffice), or the folder of an artifact or of \
                         a published bundle, also in another data folder";

/// The store and the artifact that `name` denotes. The store is another one than `store` where `name` is a folder of another data folder.
///
/// # Errors
/// `name` has none of the [`FORMS`], no such artifact is recorded, or several keys begin with the given digits.
pub fn resolve(store: &Store, name: &str) -> Result<(Store, ArtifactId)> {
    let here = || store.sibling(store.root());
    if store.kinds().contains(&name) {
        let key =
            store.current_key(name).with_context(|| format!("no {name} is recorded in {}: run `codenets run`", store.root().display()))?;
        return Ok((here(), ArtifactId { kind: name.to_owned(), key }));
    }
    if let Some((kind, digits)) = name.split_once(':').filter(|(kind, _)| store.kinds().contains(kind)) {
        return Ok((here(), by_digits(store, kind, digits)?));
    }
    let dir = Path::new(name);
    ensure!(dir.is_dir(), "{name:?} is not an artifact: use {FORMS}");
    let dir = dir.canonicalize().with_context(|| format!("reading {}", dir.display()))?;
    if let Some(found) = published(store, &dir) {
        return Ok(found);
    }
    let manifest = Manifest::read(&dir)?;
    let root = dir.parent().and_then(Path::parent).with_context(|| format!("{} is not in a data folder", dir.display()))?;
    Ok((store.sibling(root), ArtifactId { kind: manifest.kind, key: manifest.key }))
}

/// The one artifact of a kind whose key begins with `digits`.
fn by_digits(store: &Store, kind: &str, digits: &str) -> Result<ArtifactId> {
    let begins = |id: &ArtifactId| id.kind == kind && !digits.is_empty() && id.key.starts_with(digits);
    let found: Vec<_> = store.artifacts()?.into_iter().filter(begins).collect();
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => bail!("no key of {kind} in {} begins with {digits:?}", store.root().display()),
        several => {
            let keys: Vec<&str> = several.iter().map(|id| id.key.as_str()).collect();
            bail!("{} keys of {kind} begin with {digits:?}: {}; give more digits", several.len(), keys.join(", "))
        }
    }
}

/// The bundle artifact that a published bundle is a copy of; none where the folder is not a published bundle.
fn published(store: &Store, dir: &Path) -> Option<(Store, ArtifactId)> {
    let root = dir.ancestors().nth(3)?;
    let id = BundleId::parse(&dir.file_name()?.to_string_lossy())?;
    let is_published = Serve::of(root).bundle(&id) == dir && dir.join("CHECKSUMS").is_file();
    is_published.then(|| (store.sibling(root), ArtifactId { kind: Bundle::KIND.to_owned(), key: id.key().to_owned() }))
}

/// The current artifact of the last kind that has one, in the order in which kinds are made.
///
/// # Errors
/// Nothing is recorded.
pub fn latest(store: &Store) -> Result<ArtifactId> {
    let mut kinds = store.kinds().iter().rev();
    let found = kinds.find_map(|&kind| Some(ArtifactId { kind: kind.to_owned(), key: store.current_key(kind)? }));
    found.with_context(|| format!("nothing is recorded in {}: run `codenets run`", store.root().display()))
}
