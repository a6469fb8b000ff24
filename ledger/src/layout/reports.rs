//! Reports for people and machines. No other module knows the layout of `reports/`. A report is never part of an artifact.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{durable::write_atomically, error::Result};

/// Path of a report of a data folder: `reports/<name>`.
pub fn report_path(data: &Path, name: &str) -> PathBuf {
    data.join("reports").join(name)
}

/// Writes `reports/<name>.json`: flat keys, each with its unit (`ingest_wall_s`).
pub fn write_report(data: &Path, name: &str, flat: &Map<String, Value>) -> Result<()> {
    write_atomically(&report_path(data, &format!("{name}.json")), &serde_json::to_vec_pretty(flat)?)
}

/// Writes `reports/<name>`: a page or a picture.
pub fn write_report_file(data: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write_atomically(&report_path(data, name), bytes)
}
