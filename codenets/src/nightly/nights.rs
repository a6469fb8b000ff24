//! The records of the nights of a data folder: `reports/nights.jsonl`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use ledger::{append_event, report_path, write_report_file};

use super::night::Night;

/// File with one record a night.
const NIGHTS: &str = "nights.jsonl";
/// File with the night that is running.
const STARTED: &str = "night-started.json";
const KILLED: &str = "its process was killed, the machine stopped, or the disk was full";

/// The nights of a data folder, oldest first.
pub struct Nights(pub Vec<Night>);

impl Nights {
    fn path(data: &Path) -> PathBuf {
        report_path(data, NIGHTS)
    }

    /// Lines of another version are left out.
    pub fn read(data: &Path) -> Self {
        let text = fs::read_to_string(Self::path(data)).unwrap_or_default();
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    pub fn add(data: &Path, night: &Night) -> Result<()> {
        append_event(&Self::path(data), &serde_json::to_value(night)?)?;
        Ok(fs::remove_file(report_path(data, STARTED))?)
    }

    /// Records that a night begins. Returns, and records, the night before where it did not end.
    pub fn start(data: &Path, night: &Night) -> Result<Option<Night>> {
        let file = report_path(data, STARTED);
        let unfinished = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Night>(&bytes).ok());
        let unfinished = unfinished.map(|night| Night { why: Some(KILLED.to_owned()), ..night });
        if let Some(night) = &unfinished {
            append_event(&Self::path(data), &serde_json::to_value(night)?)?;
        }
        write_report_file(data, STARTED, &serde_json::to_vec(night)?)?;
        Ok(unfinished)
    }
}
