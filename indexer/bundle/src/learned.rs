//! Learned models: their weights belong to the scores of one encoder.

use std::path::Path;

use ledger::{Digest, ensure};

use crate::Result;

/// Refuses a learned model of another encoder.
pub(crate) fn require_encoder(path: &Path, own: Option<&Digest>, encoder: &Digest, any_encoder: bool) -> Result<()> {
    ensure!(
        any_encoder || own.is_none_or(|own| own == encoder),
        "{}: it was learned with another encoder, whose scores differ: learn it again (from = null), or set any-encoder = true",
        path.display()
    );
    Ok(())
}
