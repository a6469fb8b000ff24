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

/// Second word of that file: the page has no curve.
const WITHOUT_CURVE: &str = "without-curve";

/// Writes the recorded scores to `reports/evaluate.json`, and their page to `reports/evaluate.html` with recall and latency of the vector
/// search on this machine (`measures_curve`). Files that are of these scores already stay as they are. The page is only written where the files of the
/// bundle are available.
pub fn write_reports(store: &Store, scores: &Artifact<Scores>, measures_curve: bool) -> Result<()> {
    let (data, key) = (store.root(), &scores.manifest().key);
    let written = fs::read_to_string(report_path(data, PAGE_KEY)).unwrap_or_default();
    let mut words = written.split_whitespace();
    let is_written = words.next() == Some(key.as_str()) && (!measures_curve || words.next() != Some(WITHOUT_CURVE));
    let exists = |name: &str| report_path(data, name).is_file();
    let recorded = scores.open()?;
    if !is_written || !exists("evaluate.json") {
        let flat = recorded.flat.iter().map(|(key, value)| (key.clone(), Value::from(*value))).collect();
        write_report(data, SCORES, &flat)?;
    }
    let bundle = store.current::<BundleRecord>()?;
    if bundle.is_here() && !(is_written && exists(PAGE)) {
        let page = fs::read_to_string(&recorded.report).with_context(|| format!("reading {}", recorded.report.display()))?;
        let (page, key) = if measures_curve {
            (with_curve(&page, &curve(&Bundle::options().open(bundle.open()?.dir)?)?)?, key.clone())
        } else {
            (page, format!("{key} {WITHOUT_CURVE}"))
        };
        write_report_file(data, PAGE, page.as_bytes())?;
        write_report_file(data, PAGE_KEY, key.as_bytes())?;
    }
    Ok(())
}
