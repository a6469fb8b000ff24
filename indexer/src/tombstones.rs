//! Writes `tombstones.parquet` of a bundle.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bundle::tombstones::TOMBSTONES;
use ledger::table::{self, TableWriter, text_field};

use crate::{Result, error::Context};

/// Replaces the file atomically by one with these ids.
pub fn write(folder: &Path, ids: &[String]) -> Result<()> {
    let schema = table::schema(vec![text_field("id", false)]);
    let scratch = tempfile::Builder::new().prefix(".tombstones-").tempfile_in(folder)?.into_temp_path();
    let mut writer = TableWriter::create(&scratch, schema.clone())?;
    if !ids.is_empty() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        writer.write(&RecordBatch::try_new(schema, vec![ids])?)?;
    }
    writer.finish()?;
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o644))?;
    fs::File::open(&scratch)?.sync_all()?;
    let path = folder.join(TOMBSTONES);
    scratch.persist(&path).map_err(|error| error.error).with_context(|| format!("writing {}", path.display()))
}
