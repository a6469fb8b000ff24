//! The smoke test of `publish`: the bundle opens from its own files and answers in every mode.

use std::path::Path;

use bundle::{Bundle, Mode, Query, checksums};
use ledger::ensure;

use crate::{Result, error::Context};

/// Searches a bundle once in each mode.
pub fn test(dir: &Path) -> Result<()> {
    checksums::verify(dir)?;
    let bundle = Bundle::options().open(dir)?;
    for mode in Mode::ALL {
        let query = Query::new("read a file and return its lines").mode(mode).limit(3);
        let hits = bundle.search(&query).with_context(|| format!("smoke test of mode {mode}"))?;
        ensure!(mode == Mode::Bm25 || !hits.is_empty(), "smoke test: the search in mode {mode} found nothing");
    }
    Ok(())
}
