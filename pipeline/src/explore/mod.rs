//! A page about the corpus: `reports/explore/report.html`, from the current artifacts.

mod corpus;
mod page;
mod statistics;

use std::path::PathBuf;

use ledger::{Store, report_path, write_atomically};

use crate::error::{Context, Result};
use corpus::Corpus;

/// Writes `reports/explore/report.html` and returns its path. Stages that did not run yet are left out of the page.
///
/// # Errors
/// Where no functions are recorded.
pub fn write(store: &Store) -> Result<PathBuf> {
    let corpus = Corpus::read(store)?;
    let path = report_path(store.root(), "explore/report.html");
    let folder = path.parent().context("a report is in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    write_atomically(&path, page::render(&corpus)?.as_bytes())?;
    Ok(path)
}
