//! `tombstones.parquet`: ids of functions that were deleted from a bundle after it was built.

use std::path::Path;

use ledger::table;

use crate::{Error, Result, lexical::Lexical};

/// Name of the file in a bundle.
pub const TOMBSTONES: &str = "tombstones.parquet";

/// Largest number of deleted ids: a small file can claim any number of rows.
const MAX_IDS: u64 = 10_000_000;

/// The deleted ids of a bundle, in the order of the file.
pub fn read(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(TOMBSTONES);
    let rows = table::row_count(&path)?;
    if rows > MAX_IDS {
        return Err(Error::damaged(path, format!("it has {rows} rows, the limit is {MAX_IDS}")));
    }
    let mut ids = Vec::new();
    for batch in table::read(&dir.join(TOMBSTONES), &["id"])? {
        ids.extend(table::texts(&batch?, "id")?.iter().flatten().map(str::to_owned));
    }
    Ok(ids)
}

/// By row: is the row not deleted? None where no row is deleted.
pub(crate) fn live_rows(dir: &Path, lexical: &Lexical) -> Result<Option<Vec<bool>>> {
    let deleted = read(dir)?;
    if deleted.is_empty() {
        return Ok(None);
    }
    let mut live = vec![true; usize::try_from(lexical.rows())?];
    for row in lexical.rows_of_ids(&deleted)?.into_iter().flatten() {
        // Row numbers are checked when the lexical index is opened.
        if let Some(live) = live.get_mut(row as usize) {
            *live = false;
        }
    }
    Ok(Some(live))
}
