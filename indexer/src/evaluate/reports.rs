//! The scores in `reports/`, for people and scripts.

use std::fs;

use bundle::Bundle;
use ledger::{Artifact, Bundle as BundleRecord, Scores, Store, report_path, write_report, write_report_file};
use serde_json::Value;

use super::{curve::curve, page::with_curve};
use crate::{Result, error::Context};

/// Scores as JSON, below `reports/` without the extension.
const SCORES: &str = "evaluate";
/// The page with the curve of recall and latency.
pub const PAGE: &str = "evaluate.html";
/// Key of the scores that the page shows.
const PAGE_KEY: &str = "evaluate.key";

/// Writes the recorded scores to `reports/evaluate.json`, and their page to `reports/evaluate.html` with recall and latency of the vector
/// search on this machine. Files that are of these scores already stay as they are. The page is only written where the files of the
/// bundle are available.
pub fn write_reports(store: &Store, scores: &Artifact<Scores>) -> Result<()> {
    let (data, key) = (store.root(), &scores.manifest().key);
    let is_written = fs::read_to_string(report_path(data, PAGE_KEY)).is_ok_and(|written| written.trim() == key);
    let exists = |name: &str| report_path(data, name).is_file();
    let recorded = scores.open()?;
    if !is_written || !exists("evaluate.json") {
        let flat = recorded.flat.iter().map(|(key, value)| (key.clone(), Value::from(*value))).collect();
        write_report(data, SCORES, &flat)?;
    }
    let bundle = store.current::<BundleRecord>()?;
    if bundle.is_here() && !(is_written && exists(PAGE)) {
        let page = fs::read_to_string(&recorded.report).with_context(|| format!("reading {}", recorded.report.display()))?;
        let bundle = Bundle::options().open(bundle.open()?.dir)?;
        write_report_file(data, PAGE, with_curve(&page, &curve(&bundle)?)?.as_bytes())?;
        write_report_file(data, PAGE_KEY, key.as_bytes())?;
    }
    Ok(())
}
