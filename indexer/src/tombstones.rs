//! Writes `tombstones.parquet` of a bundle.

use std::{fs, path::Path, sync::Arc};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bundle::tombstones::TOMBSTONES;
use ledger::{
    scratch_file,
    table::{self, TableWriter, text_field},
};

use crate::{Result, error::Context};

/// Replaces the file atomically by one with these ids.
pub fn write(folder: &Path, ids: &[String]) -> Result<()> {
    let schema = table::schema(vec![text_field("id", false)]);
    let scratch = scratch_file(".tombstones-", folder)?.into_temp_path();
    let mut writer = TableWriter::create(&scratch, schema.clone())?;
    if !ids.is_empty() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        writer.write(&RecordBatch::try_new(schema, vec![ids])?)?;
    }
    writer.finish()?;
    fs::File::open(&scratch)?.sync_all()?;
    let path = folder.join(TOMBSTONES);
    scratch.persist(&path).map_err(|error| error.error).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_ids_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        for ids in [vec!["b".to_owned(), "a".to_owned()], Vec::new()] {
            write(dir.path(), &ids).unwrap();
            assert_eq!(bundle::tombstones::read(dir.path()).unwrap(), ids);
        }
    }
}
