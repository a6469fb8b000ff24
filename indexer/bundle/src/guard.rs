//! Panics of tantivy and parquet, which read some damaged files without checks.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Once,
};

use crate::{Error, Result};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Calls a function that reads the file or the folder `path` of a bundle. A panic becomes [`Error::Damaged`], and its message is not
/// printed.
pub fn guarded<T, E: From<Error>>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                previous(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    // The bundle is read only: a panic leaves nothing half written.
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let why = text.unwrap_or_default();
        Err(E::from(Error::damaged(path, format!("it cannot be read ({}): run `codenets verify`", why.lines().next().unwrap_or_default()))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_the_folder() {
        let error = guarded(Path::new("bundle/tantivy"), || -> Result<()> { panic!("index out of bounds") }).unwrap_err();
        assert_eq!(error.to_string(), "bundle/tantivy is damaged: it cannot be read (index out of bounds): run `codenets verify`");
        assert!(guarded(Path::new("x"), || Ok::<_, Error>(1)).is_ok());
    }
}
