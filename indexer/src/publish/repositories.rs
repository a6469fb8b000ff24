//! `repositories.json` of a published bundle, from the list of repositories of the recorded raw artifact.
//!
//! The commit of a repository changes every night. It is written when a bundle is published, so that a commit without changed functions
//! builds no new index.

use std::{fs, path::Path};

use bundle::repositories::{REPOSITORIES, Repository, read};
use ledger::{Bundle, Functions, Manifest, Raw, Recordable, Store, Syntax};
use serde::Deserialize;

use crate::{Result, error::Context};

/// File of a raw artifact.
const REPOS: &str = "repos.json";

/// An entry of the file.
#[derive(Deserialize)]
struct Recorded {
    name: String,
    sha: String,
    licence: String,
    #[serde(default)]
    url_template: Option<String>,
}

/// The repositories of the recorded raw artifact; none where the recorded bundle was built from another one, where the artifact has no list,
/// or its files are not available locally.
fn recorded(store: &Store) -> Result<Option<Vec<Repository>>> {
    if !is_lineage(store, &[Raw::KIND, Functions::KIND, Syntax::KIND, Bundle::KIND]) {
        return Ok(None);
    }
    let Some(path) = store.current_manifest(Raw::KIND).map(|(dir, _)| dir.join(REPOS)).filter(|path| path.is_file()) else {
        return Ok(None);
    };
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let damaged = || format!("{} is damaged: run `codenets verify`, then `codenets run`", path.display());
    let recorded: Vec<Recorded> = serde_json::from_slice(&bytes).with_context(damaged)?;
    let repository = |one: Recorded| Repository { name: one.name, commit: one.sha, licence: one.licence, url_template: one.url_template };
    Ok(Some(recorded.into_iter().map(repository).collect()))
}

/// Is each of the recorded artifacts an input of the next one?
fn is_lineage(store: &Store, kinds: &[&str]) -> bool {
    let manifests: Option<Vec<Manifest>> = kinds.iter().map(|kind| Some(store.current_manifest(kind)?.1)).collect();
    manifests.is_some_and(|manifests| {
        manifests.windows(2).all(|pair| {
            let input = pair[1].inputs.get(&pair[0].kind).map(|input| input.digest);
            input.is_some() && input == pair[0].digest().ok()
        })
    })
}

/// Does a published bundle have the recorded repositories?
pub fn are_published(store: &Store, bundle: &Path) -> bool {
    match recorded(store) {
        Ok(Some(recorded)) => read(bundle).is_ok_and(|published| published == recorded),
        // An error is named when a bundle is published.
        Ok(None) | Err(_) => true,
    }
}

/// Writes the file into a bundle that is being published.
pub fn write(store: &Store, bundle: &Path) -> Result<()> {
    if let Some(recorded) = recorded(store)? {
        let path = bundle.join(REPOSITORIES);
        fs::write(&path, serde_json::to_vec_pretty(&recorded)?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
