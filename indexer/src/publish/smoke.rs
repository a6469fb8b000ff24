//! The smoke test of `publish`: the bundle opens from its own files, answers in every mode, and finds what the user's queries expect.

use std::path::Path;

use bundle::{Bundle, Mode, Query, checksums};
use ledger::ensure;
use serde::Deserialize;

use crate::{
    Error, Result,
    error::Context,
    evaluate::{judge::files_of, judgment_files},
};

/// Hits among which an expected file must be.
const HITS: usize = 10;
/// Failed queries that the message names.
const NAMED: usize = 5;

/// A query with known answers: a line of `publish.smoke-queries`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmokeQuery {
    query: String,
    /// Paths, or ends of paths; one of them is enough.
    files: Vec<String>,
    /// Name of the repository that is searched; none: all.
    repo: Option<String>,
}

/// Searches a bundle once in each mode, and with the queries of a file.
///
/// # Errors
/// [`Error::NotPublished`] where a query finds none of its files; the bundle or the file cannot be read.
pub fn test(dir: &Path, queries: Option<&Path>) -> Result<()> {
    checksums::verify(dir)?;
    let bundle = Bundle::options().open(dir)?;
    for mode in Mode::ALL {
        let query = Query::new("read a file and return its lines").mode(mode).limit(3);
        let hits = bundle.search(&query).with_context(|| format!("smoke test of mode {mode}"))?;
        ensure!(mode == Mode::Bm25 || !hits.is_empty(), "smoke test: the search in mode {mode} found nothing");
    }
    queries.map_or(Ok(()), |path| test_queries(&bundle, path))
}

fn test_queries(bundle: &Bundle, path: &Path) -> Result<()> {
    let queries: Vec<SmokeQuery> = judgment_files::lines(path, "{\"query\", \"files\", \"repo\"}").context("publish.smoke-queries")?;
    ensure!(!queries.is_empty(), "publish.smoke-queries: {} has no queries", path.display());
    let mut failed = Vec::new();
    for SmokeQuery { query, files, repo } in &queries {
        let search = Query::new(query).limit(HITS);
        let hits = bundle.search(&repo.as_ref().map_or(search.clone(), |repo| search.repo(repo)))?;
        if !hits.iter().any(|hit| files_of(&hit.path, files).next().is_some()) {
            failed.push(format!("{query:?} finds none of {}", files.join(", ")));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let more = if failed.len() > NAMED { format!(" and {} more", failed.len() - NAMED) } else { String::new() };
    Err(Error::NotPublished(format!(
        "{} of {} queries of {} find no expected file in {HITS} hits: {}{more}; correct the file, or set publish.smoke-queries = null",
        failed.len(),
        queries.len(),
        path.display(),
        failed[..failed.len().min(NAMED)].join("; ")
    )))
}
