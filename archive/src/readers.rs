//! `.readers`: a file that `save` locks shared while it reads artifacts, and `gc` locks exclusively while it deletes them.

use std::fs::File;

use ledger::{Store, open_lock};

use crate::error::{Context, Result};

const READERS: &str = ".readers";

/// Locks the store against deletion until the file is dropped. None where the data folder is read-only: nothing is deleted there.
pub fn lock_shared(store: &Store) -> Result<Option<File>> {
    let path = store.root().join(READERS);
    let Ok(file) = open_lock(&path).or_else(|_| File::open(&path)) else { return Ok(None) };
    file.lock_shared().with_context(|| format!("locking {}", path.display()))?;
    Ok(Some(file))
}

/// Waits until no `save` reads, and locks them out until the file is dropped.
pub fn lock_exclusive(store: &Store) -> Result<File> {
    let path = store.root().join(READERS);
    let file = open_lock(&path).with_context(|| format!("opening {}: is it a link?", path.display()))?;
    if file.try_lock().is_err() {
        store.progress().message("waiting for `codenets save` to finish reading");
        file.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}
