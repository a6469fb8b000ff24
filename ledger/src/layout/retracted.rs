//! Ids of deleted functions.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::serve::Serve;
use crate::{
    durable::write_atomically,
    error::{Error, Result},
    recordable_json,
};

/// Ids of functions that no published bundle may show: `serve/retracted` of a data folder, one in each line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retracted(pub BTreeSet<String>);
recordable_json!(Retracted, "retracted", 1);

impl Retracted {
    /// Reads a text with one id in each line.
    pub fn of_lines(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The ids of a data folder; none where nothing was retracted.
    pub fn read(data: &Path) -> Result<Option<Self>> {
        let path = Self::path(data);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self::of_lines(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("reading", &path)(error)),
        }
    }

    /// Writes the ids of a data folder.
    pub fn write(&self, data: &Path) -> Result<()> {
        let lines: String = self.0.iter().map(|id| format!("{id}\n")).collect();
        write_atomically(&Self::path(data), lines.as_bytes())
    }

    fn path(data: &Path) -> PathBuf {
        Serve::of(data).retracted()
    }
}
