//! Errors of uploads: reported, but never fatal.

use std::sync::atomic::{AtomicBool, Ordering};

use ledger::{Progress, chain};

use crate::error::Result;

/// Did the server not answer when it was called last?
static IS_DOWN: AtomicBool = AtomicBool::new(false);

/// Did the server not answer this process when it was called last?
pub fn is_down() -> bool {
    IS_DOWN.load(Ordering::Relaxed)
}

/// Reports an error of an upload. That the server does not answer is reported once by each process, until it has answered again.
pub fn report(outcome: &Result<()>, progress: &Progress) {
    let Err(error) = outcome else { return IS_DOWN.store(false, Ordering::Relaxed) };
    if !(error.is_unreachable() && IS_DOWN.swap(true, Ordering::Relaxed)) {
        progress.message(&format!(
            "mlflow    upload failed: {}; what is missing stays in the spool for the next upload, or for `codenets mlflow sync`",
            chain(error)
        ));
    }
}
