//! `retract`: functions taken out of all that is served, at once and without building anything again.
//!
//! `serve/retracted` lists their ids, a line each; `tombstones.parquet` of each published bundle names those that it holds. It and
//! `CHECKSUMS` are the only files of a published bundle that ever change: by rename, and in every bundle that is kept, so that
//! a rollback brings nothing back. What is published later is held to the list too. A run that is killed
//! between these files is mended by the next `publish`, `rollback` or `retract`.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use ledger::{
    Retracted, Store, publish_link,
    table::{self, TableWriter, text_field},
};

use crate::{
    index::format::{BundleManifest, renew_checksum},
    lexical::Lexical,
    publish,
};

pub const TOMBSTONES: &str = "tombstones.parquet";

/// Adds the ids of a file (a line each) to the list, or with `only` makes them the list, and holds all published bundles to it. Gives
/// how many ids the list has, and how many rows of the served bundle they name.
///
/// # Errors
/// An id that is neither listed nor in a published bundle, and a bundle that cannot be read; then nothing is changed.
pub fn retract(store: &Store, ids: &Path, only: bool) -> Result<(usize, usize)> {
    let _held = store.lock()?;
    let data = store.root();
    let text = fs::read_to_string(ids).with_context(|| format!("reading {}", ids.display()))?;
    let (new, before) = (Retracted::of_lines(&text).0, Retracted::read(data)?.unwrap_or_default().0);
    let folders = publish::published_folders(data)?;
    ensure!(!folders.is_empty(), "nothing is published in {}: run `make run` first", data.display());
    let mut unknown: Vec<String> = new.difference(&before).cloned().collect();
    for folder in &folders {
        let rows = open(folder)?.rows_of_ids(&unknown)?;
        unknown = unknown.into_iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(id, _)| id).collect();
    }
    ensure!(unknown.is_empty(), "no published bundle holds {unknown:?}: ids are those that `search --json` gives");
    let all = Retracted(if only { new } else { before.union(&new).cloned().collect() });
    all.write(data)?;
    let all = all.0;
    enforce(data)?;
    let Ok(served) = publish::served(data).canonicalize() else { return Ok((all.len(), 0)) };
    // A new link, so that who watches it opens the bundle again.
    if let Some(name) = served.file_name() {
        publish_link(&publish::served(data), &Path::new("bundles").join(name))?;
    }
    Ok((all.len(), own(&served, &all)?.len()))
}

/// Holds every published bundle to the list, and mends one that a killed run left between its two files; who calls it holds the
/// lock. Nothing to do where nothing was ever retracted.
pub fn enforce(data: &Path) -> Result<()> {
    let Some(Retracted(all)) = Retracted::read(data)? else { return Ok(()) };
    for folder in publish::published_folders(data)? {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_file(entry.path())?;
            }
        }
        let own = own(&folder, &all)?;
        if tombstones(&folder)? != own {
            write_tombstones(&folder, &own)?;
        }
        // That line alone: what else was damaged must be seen.
        renew_checksum(&folder, TOMBSTONES)?;
    }
    Ok(())
}

/// Holds a bundle that is about to be published to the list; `CHECKSUMS` is its maker's to write.
pub fn apply(data: &Path, folder: &Path) -> Result<()> {
    let all = Retracted::read(data)?.unwrap_or_default().0;
    if !all.is_empty() {
        write_tombstones(folder, &own(folder, &all)?)?;
    }
    Ok(())
}

fn open(folder: &Path) -> Result<Lexical> {
    let open = || Lexical::open(&folder.join("tantivy"), BundleManifest::read(folder)?.lexical.settings());
    open().with_context(|| format!("nothing can be retracted from {}: remove that folder, if it is not the one served", folder.display()))
}

/// The ids in `tombstones.parquet`, in their order.
pub fn tombstones(folder: &Path) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for batch in table::read(&folder.join(TOMBSTONES), &["id"])? {
        ids.extend(table::texts(&batch?, "id")?.iter().flatten().map(str::to_owned));
    }
    Ok(ids)
}

/// Those of the ids that a bundle holds.
fn own(folder: &Path, all: &BTreeSet<String>) -> Result<Vec<String>> {
    let ids: Vec<String> = all.iter().cloned().collect();
    let rows = open(folder)?.rows_of_ids(&ids)?;
    Ok(ids.into_iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(id, _)| id).collect())
}

/// `tombstones.parquet` with these ids, whole or not at all.
pub fn write_tombstones(folder: &Path, ids: &[String]) -> Result<()> {
    let schema = table::schema(vec![text_field("id", false)]);
    let scratch = tempfile::Builder::new().prefix(".tombstones-").tempfile_in(folder)?.into_temp_path();
    let mut writer = TableWriter::create(&scratch, schema.clone())?;
    if !ids.is_empty() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        writer.write(&RecordBatch::try_new(schema, vec![ids])?)?;
    }
    writer.finish()?;
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o644))?;
    }
    fs::File::open(&scratch)?.sync_all()?;
    scratch.persist(folder.join(TOMBSTONES)).with_context(|| format!("writing {}", folder.join(TOMBSTONES).display()))
}
