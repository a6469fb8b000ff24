//! Which artifact is meant by `scores`, `bundle:3f2a`, `other/data/bundle/3f2a…` or a published bundle's folder.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ledger::{ARTIFACT_KINDS, ArtifactId, Bundle, Manifest, Progress, Recordable, Store};

/// For help texts.
pub const FORMS: &str = "a kind (its current artifact), kind:key (the key's first digits suffice), or a folder of an artifact or of a published bundle, \
                         also of another data folder";

/// The store and the artifact that are meant.
pub fn resolve(store: &Store, said: &str) -> Result<(Store, ArtifactId)> {
    let here = || Store::at(store.root(), *store.progress(), 1);
    if ARTIFACT_KINDS.contains(&said) {
        let key = store.current_key(said).with_context(|| format!("no {said} is recorded in {}", store.root().display()))?;
        return Ok((here(), ArtifactId { kind: said.to_owned(), key }));
    }
    if let Some((kind, start)) = said.split_once(':').filter(|(kind, _)| ARTIFACT_KINDS.contains(kind)) {
        let fits: Vec<_> =
            store.artifacts()?.into_iter().filter(|id| id.kind == kind && !start.is_empty() && id.key.starts_with(start)).collect();
        return match fits.as_slice() {
            [id] => Ok((here(), id.clone())),
            [] => bail!("no {kind} in {} has a key that begins with {start:?}", store.root().display()),
            several => bail!("{} keys of {kind} begin with {start:?}: {}", several.len(), keys(several)),
        };
    }
    let dir = Path::new(said);
    ensure!(dir.is_dir(), "{said:?} is no artifact: say {FORMS}");
    let dir = dir.canonicalize()?;
    if dir.join("CHECKSUMS").is_file() && dir.parent().and_then(Path::file_name).is_some_and(|name| name == "bundles") {
        return published(&dir, *store.progress());
    }
    let manifest = Manifest::read(&dir)?;
    let root = dir.parent().and_then(Path::parent).context("an artifact lies two folders deep in a data folder")?;
    Ok((Store::at(root, *store.progress(), 1), ArtifactId { kind: manifest.kind, key: manifest.key }))
}

/// `serve/bundles/<utc>-<key>` was made of the bundle with that key.
fn published(dir: &Path, progress: Progress) -> Result<(Store, ArtifactId)> {
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (_, key) = id.rsplit_once('-').with_context(|| format!("{id} is not the name of a published bundle"))?;
    let root = dir.ancestors().nth(3).context("a published bundle lies in serve/bundles of a data folder")?;
    Ok((Store::at(root, progress, 1), ArtifactId { kind: Bundle::KIND.to_owned(), key: key.to_owned() }))
}

fn keys(ids: &[ArtifactId]) -> String {
    ids.iter().map(|id| id.key.as_str()).collect::<Vec<_>>().join(", ")
}

/// What lies furthest down the road.
pub fn latest(store: &Store) -> Result<ArtifactId> {
    let mut kinds = ARTIFACT_KINDS.iter().rev();
    let found = kinds.find_map(|&kind| Some(ArtifactId { kind: kind.to_owned(), key: store.current_key(kind)? }));
    found.with_context(|| format!("nothing is recorded in {} yet: run `make run`", store.root().display()))
}
