//! Parquet files that are put together from row groups of other files, byte for byte.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use parquet::{
    column::writer::ColumnCloseResult,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
        properties::WriterProperties,
        writer::SerializedFileWriter,
    },
};

use super::table::CREATED_BY;
use crate::{
    ensure,
    error::{Context, Error, Result},
};

/// A file whose row groups are copied.
pub struct RowGroups {
    file: File,
    metadata: ParquetMetaData,
}

impl RowGroups {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("reading", path))?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&file).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { file, metadata })
    }

    /// The row groups that hold these rows; none where one of them holds other rows too.
    pub fn of_rows(&self, rows: Range<u64>) -> Option<Range<usize>> {
        let mut starts = vec![0];
        for group in self.metadata.row_groups() {
            starts.push(starts[starts.len() - 1] + u64::try_from(group.num_rows()).ok()?);
        }
        Some(starts.binary_search(&rows.start).ok()?..starts.binary_search(&rows.end).ok()?)
    }

    /// The numbers of all row groups.
    pub fn all(&self) -> Range<usize> {
        0..self.metadata.num_row_groups()
    }
}

/// Writes a file of row groups, in order.
///
/// # Errors
/// There are no parts, or they have different columns.
pub fn write<'a>(path: &Path, parts: impl IntoIterator<Item = (&'a RowGroups, Range<usize>)>) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut writer: Option<SerializedFileWriter<File>> = None;
    for (part, groups) in parts {
        let of_part = part.metadata.file_metadata();
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                // The metadata hold the types of Arrow.
                let properties = WriterProperties::builder()
                    .set_created_by(CREATED_BY.to_owned())
                    .set_key_value_metadata(of_part.key_value_metadata().cloned())
                    .build();
                let file = File::create(path).map_err(Error::io("creating", path))?;
                let schema = of_part.schema_descr().root_schema_ptr();
                writer.insert(SerializedFileWriter::new(file, schema, Arc::new(properties)).with_context(context)?)
            }
        };
        ensure!(
            writer.schema_descr().root_schema() == of_part.schema_descr().root_schema(),
            "{}: the parts have different columns",
            path.display()
        );
        for group in groups {
            append(writer, part, group).with_context(context)?;
        }
    }
    writer.with_context(|| format!("{} has no parts", path.display()))?.close().with_context(context)?;
    Ok(())
}

fn append(writer: &mut SerializedFileWriter<File>, part: &RowGroups, group: usize) -> parquet::errors::Result<()> {
    let (metadata, index) = (part.metadata.row_group(group), part.metadata.page_index());
    let mut target = writer.next_row_group()?;
    for (number, column) in metadata.columns().iter().enumerate() {
        let closed = ColumnCloseResult {
            bytes_written: column.compressed_size().cast_unsigned(),
            rows_written: metadata.num_rows().cast_unsigned(),
            metadata: column.clone(),
            bloom_filter: None,
            column_index: index.and_then(|index| index.column_index(group, number)).cloned(),
            offset_index: index.and_then(|index| index.offset_index(group, number)).cloned(),
        };
        target.append_column(&part.file, closed)?;
    }
    target.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, StringArray};

    use super::*;
    use crate::tables::table::{TableWriter, read, row_count, schema, text_field, texts};

    fn part(path: &Path, rows: Range<usize>) -> RowGroups {
        let schema = schema(vec![text_field("id", false)]);
        let mut writer = TableWriter::create(path, schema.clone()).unwrap().with_row_group_bytes(1);
        for row in rows {
            writer
                .write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec![format!("row {row}")]))]).unwrap())
                .unwrap();
        }
        writer.finish().unwrap();
        RowGroups::open(path).unwrap()
    }

    #[test]
    fn a_file_has_the_chosen_row_groups_of_its_parts_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (part(&dir.path().join("a"), 0..3), part(&dir.path().join("b"), 3..5));
        let target = dir.path().join("c");
        write(&target, [(&b, b.all()), (&a, a.of_rows(1..3).unwrap())]).unwrap();
        let found: Vec<String> = read(&target, &["id"])
            .unwrap()
            .flat_map(|batch| texts(&batch.unwrap(), "id").unwrap().iter().flatten().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert_eq!((found, row_count(&target).unwrap()), (["row 3", "row 4", "row 1", "row 2"].map(str::to_owned).to_vec(), 4));
        // A copy of all row groups in their order has the same bytes.
        let again = dir.path().join("d");
        let whole = RowGroups::open(&target).unwrap();
        write(&again, [(&whole, whole.all())]).unwrap();
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&target).unwrap());
        assert!(write(&again, []).is_err());
    }

    #[test]
    fn rows_that_share_a_row_group_with_others_have_none_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema(vec![text_field("id", false)]);
        let path = dir.path().join("a");
        let mut writer = TableWriter::create(&path, schema.clone()).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["a", "b", "c"]))]).unwrap()).unwrap();
        writer.finish().unwrap();
        let groups = RowGroups::open(&path).unwrap();
        assert_eq!((groups.of_rows(0..3), groups.of_rows(0..2), groups.of_rows(3..4)), (Some(0..1), None, None));
    }
}
