//! `retract`: deletes functions from every published bundle at once, without building a bundle.
//!
//! `serve/retracted` lists the deleted ids; `tombstones.parquet` of each published bundle lists those that the bundle contains. That
//! file and `CHECKSUMS` are the only files of a published bundle that ever change: by rename, and in every published bundle, so that a
//! rollback restores no function. Bundles that are published later leave the listed functions out too. The next `publish`, `rollback`
//! or `retract` completes a retract that was interrupted between the files.

use std::{collections::BTreeSet, fs, path::Path};

use bundle::{
    BundleManifest,
    lexical::{LEXICAL, Lexical},
    tombstones::{self, TOMBSTONES},
};
use ledger::{BundleId, Retracted, Serve, Store, ensure};

use crate::{Error, Result, error::Context, index::checksums};

/// Adds the ids of a file (one a line) to the list of deleted ids, or with `only` replaces the list, and updates every published bundle.
/// Returns the number of listed ids, and how many of them the published bundle contains.
///
/// # Errors
/// An id that is neither listed nor in a published bundle, and a bundle that cannot be read; then nothing is changed.
pub fn retract(store: &Store, ids: &Path, only: bool) -> Result<(usize, usize)> {
    let _lock = store.lock()?;
    let data = store.root();
    let serve = Serve::of(data);
    serve.recover()?;
    let text = fs::read_to_string(ids).with_context(|| format!("reading {}", ids.display()))?;
    let (new, before) = (Retracted::of_lines(&text).0, Retracted::read(data)?.unwrap_or_default().0);
    let published = serve.ids()?;
    ensure!(!published.is_empty(), "nothing is published in {}: run `codenets run`", data.display());
    let mut unknown: Vec<String> = new.difference(&before).cloned().collect();
    for id in &published {
        // A damaged bundle is set aside below.
        let Ok(rows) = open(&serve.bundle(id)).and_then(|lexical| Ok(lexical.rows_of_ids(&unknown)?)) else { continue };
        unknown = unknown.into_iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(id, _)| id).collect();
    }
    ensure!(unknown.is_empty(), "no published bundle holds {unknown:?}: take ids from `codenets search --json`");
    let all = Retracted(if only { new } else { before.union(&new).cloned().collect() });
    all.write(data)?;
    let all = all.0;
    if let Some(error) = enforce(store)? {
        return Err(error)
            .context("the ids are listed, and the published bundle still shows them: run `codenets rollback` or publish another bundle");
    }
    let Some(current) = serve.current_id() else { return Ok((all.len(), 0)) };
    // A new link, so that readers that watch it open the bundle again.
    serve.set_current(&current)?;
    Ok((all.len(), contained(&serve.bundle(&current), &all)?.len()))
}

/// Updates the tombstones of every published bundle to the list, and completes an interrupted update. The caller holds the lock of the
/// store. Does nothing where nothing was ever retracted. A damaged bundle is set aside, unless it is the published one.
///
/// Returns the error of the published bundle, if there is one: another bundle can replace it.
pub fn enforce(store: &Store) -> Result<Option<Error>> {
    let Some(Retracted(all)) = Retracted::read(store.root())? else { return Ok(None) };
    let serve = Serve::of(store.root());
    let current = serve.current_id();
    let mut failed = None;
    for id in serve.ids()? {
        match enforce_on(&serve.bundle(&id), &all) {
            Ok(()) => {}
            Err(error) if current.as_ref() == Some(&id) => {
                store.progress().message(&format!("serve     the published bundle {id} is damaged: {}", ledger::chain(&error)));
                failed = Some(error);
            }
            Err(error) => set_aside(store, &serve, &id, &error),
        }
    }
    Ok(failed)
}

fn enforce_on(folder: &Path, all: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        // A file system may have a hidden folder in every folder (`.snapshot`).
        if entry.file_name().to_string_lossy().starts_with('.') && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    let deleted = contained(folder, all)?;
    // A damaged file is written again from the list of deleted ids.
    if tombstones::read(folder).ok().as_ref() != Some(&deleted) {
        crate::tombstones::write(folder, &deleted)?;
    }
    // Only the line of this file: damage of any other file must stay visible.
    checksums::renew(folder, TOMBSTONES)
}

/// Sets a damaged bundle aside, with a message.
pub fn set_aside(store: &Store, serve: &Serve, id: &BundleId, error: &dyn std::error::Error) {
    let why = ledger::chain(error);
    let outcome = match serve.set_aside(id) {
        Ok(folder) => format!("renamed to {}; delete that folder when nobody needs it", folder.display()),
        Err(error) => format!("not used, and not renamed ({})", ledger::chain(&error)),
    };
    store.progress().message(&format!("serve     bundle {id} is damaged ({why}): {outcome}"));
}

/// Writes the tombstones of a bundle that is about to be published. The caller writes `CHECKSUMS`.
pub fn apply(data: &Path, folder: &Path) -> Result<()> {
    let all = Retracted::read(data)?.unwrap_or_default().0;
    if !all.is_empty() {
        crate::tombstones::write(folder, &contained(folder, &all)?)?;
    }
    Ok(())
}

fn open(folder: &Path) -> Result<Lexical> {
    let open = || -> Result<Lexical> { Ok(Lexical::open(&folder.join(LEXICAL), BundleManifest::read(folder)?.lexical.settings())?) };
    open().with_context(|| format!("reading bundle {}", folder.display()))
}

/// The ids that a bundle contains, sorted.
fn contained(folder: &Path, ids: &BTreeSet<String>) -> Result<Vec<String>> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    let rows = open(folder)?.rows_of_ids(&ids)?;
    Ok(ids.into_iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(id, _)| id).collect())
}
