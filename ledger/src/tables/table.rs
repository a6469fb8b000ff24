//! Parquet tables: one way to write them, and typed columns by name.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray,
        UInt32Array,
    },
    compute::{cast, filter_record_batch, is_null},
    datatypes::{DataType, Field, Schema, SchemaRef},
    row::{Row, RowConverter, SortField},
};
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
    },
    schema::types::ColumnPath,
};

use crate::{
    digest::Digest,
    ensure,
    error::{Context, Error, Result},
};

/// Program that writes the files, in their metadata.
pub(crate) const CREATED_BY: &str = "codenets";
/// Rows of a record batch: what a stage has in memory for each thread.
pub const BATCH_ROWS: usize = 1024;
/// Rows and bytes of a row group. The writer keeps one row group in memory.
const ROW_GROUP_ROWS: usize = 8192;
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Column with the digest of what other columns of a row are computed from: a later run takes them from a row with this digest.
pub const DIGEST: &str = "digest";

/// Half of a digest.
pub type RowDigest = [u8; 16];

/// Columns whose values rarely repeat: a dictionary for them costs time and saves no space.
const OF_MANY_VALUES: [&str; 10] =
    [DIGEST, "id", "code", "docstring", "url", "name_words", "code_words", "doc_words", "query_words", "signature"];

/// Writes one Parquet file. The same batches give the same bytes.
pub struct TableWriter {
    writer: ArrowWriter<File>,
    path: PathBuf,
    row_group_bytes: usize,
}

impl TableWriter {
    /// Creates or replaces a file.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(CREATED_BY.to_owned());
        for column in schema.fields().iter().filter(|field| OF_MANY_VALUES.contains(&field.name().as_str())) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(column.name().as_str()), false);
        }
        for column in schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::FixedSizeList(..))) {
            let numbers = ColumnPath::new(vec![column.name().clone(), "list".to_owned(), "item".to_owned()]);
            properties = properties.set_column_dictionary_enabled(numbers, false);
        }
        let file = File::create(path).map_err(Error::io("creating", path))?;
        let writer = ArrowWriter::try_new(file, schema, Some(properties.build()))?;
        Ok(Self { writer, path: path.to_owned(), row_group_bytes: ROW_GROUP_BYTES })
    }

    /// Row groups of at most so many bytes, for a caller with many writers.
    pub fn with_row_group_bytes(self, row_group_bytes: usize) -> Self {
        Self { row_group_bytes, ..self }
    }

    /// Adds the rows of a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let context = || format!("writing {}", self.path.display());
        self.writer.write(batch).with_context(context)?;
        if self.writer.in_progress_size() > self.row_group_bytes {
            self.writer.flush().with_context(context)?;
        }
        Ok(())
    }

    /// Writes the footer.
    pub fn finish(self) -> Result<()> {
        let Self { writer, path, .. } = self;
        writer.close().with_context(|| format!("closing {}", path.display()))?;
        Ok(())
    }
}

/// Reads the named columns in batches of [`BATCH_ROWS`] rows. An empty `columns` means all.
pub fn read(path: &Path, columns: &[&str]) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    read_batches(path, columns, BATCH_ROWS)
}

/// [`read`] with another number of rows in a batch.
pub fn read_batches(path: &Path, columns: &[&str], rows: usize) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let context = format!("reading {}", path.display());
    let file = File::open(path).map_err(Error::io("reading", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).with_context(|| context.clone())?;
    let mask = if columns.is_empty() {
        ProjectionMask::all()
    } else {
        for column in columns {
            builder.schema().index_of(column).with_context(|| format!("{context}: no column `{column}`"))?;
        }
        ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied())
    };
    let reader = builder.with_projection(mask).with_batch_size(rows).build().with_context(|| context.clone())?;
    Ok(reader.map(move |batch| batch.with_context(|| context.clone())))
}

/// [`read`] without the rows that duplicate another row: those with a value in the column `duplicate_of`.
pub fn read_unique(path: &Path, columns: &[&str]) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let batches = read(path, &[columns, &["duplicate_of"]].concat())?;
    Ok(batches.map(|batch| {
        let batch = batch?;
        let unique = is_null(column(&batch, "duplicate_of")?).context("reading the column `duplicate_of`")?;
        filter_record_batch(&batch, &unique).context("leaving out duplicates")
    }))
}

/// Names of the top-level columns.
pub fn column_names(path: &Path) -> Result<Vec<String>> {
    let file = File::open(path).map_err(Error::io("reading", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).with_context(|| format!("reading {}", path.display()))?;
    Ok(builder.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Number of rows, from the footer.
pub fn row_count(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(Error::io("reading", path))?;
    let reader = SerializedFileReader::new(file).with_context(|| format!("reading {}", path.display()))?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or_default())
}

/// A text field.
pub fn text_field(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// A field of u32.
pub fn u32_field(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::UInt32, nullable)
}

/// A field of lists of texts.
pub fn texts_field(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false))), false)
}

/// A field of lists of token ids.
pub fn ids_field(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, false))), false)
}

/// A field of vectors with `dim` f32.
pub fn vector_field(name: &str, dim: usize) -> Field {
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    Field::new(name, DataType::FixedSizeList(item, i32::try_from(dim).unwrap_or(i32::MAX)), false)
}

/// A schema of fields.
pub fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).with_context(|| format!("no column `{name}`"))
}

/// A text column. `LargeUtf8` and `Utf8View` of other writers are cast.
pub fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let array = cast(column(batch, name)?, &DataType::Utf8).with_context(|| format!("column `{name}` is not text"))?;
    array.as_any().downcast_ref::<StringArray>().cloned().with_context(|| format!("column `{name}` is not text"))
}

/// A column of u32.
pub fn u32s(batch: &RecordBatch, name: &str) -> Result<UInt32Array> {
    let array = column(batch, name)?.as_any().downcast_ref::<UInt32Array>().cloned();
    array.with_context(|| format!("column `{name}` is not u32"))
}

/// A column of booleans.
pub fn booleans(batch: &RecordBatch, name: &str) -> Result<BooleanArray> {
    let array = column(batch, name)?.as_any().downcast_ref::<BooleanArray>().cloned();
    array.with_context(|| format!("column `{name}` is not boolean"))
}

/// A column of lists.
pub struct Lists<T> {
    lists: ListArray,
    values: T,
}

/// A column of lists of texts.
pub fn text_lists(batch: &RecordBatch, name: &str) -> Result<Lists<StringArray>> {
    lists(batch, name, &DataType::Utf8)
}

/// A column of lists of token ids.
pub fn id_lists(batch: &RecordBatch, name: &str) -> Result<Lists<UInt32Array>> {
    lists(batch, name, &DataType::UInt32)
}

fn lists<T: Array + Clone + 'static>(batch: &RecordBatch, name: &str, item: &DataType) -> Result<Lists<T>> {
    let wanted = || format!("column `{name}` is not a list of {item}");
    let lists = cast(column(batch, name)?, &DataType::new_list(item.clone(), true)).with_context(wanted)?;
    let lists = lists.as_any().downcast_ref::<ListArray>().cloned().with_context(wanted)?;
    let values = cast(lists.values(), item).with_context(wanted)?;
    let values = values.as_any().downcast_ref::<T>().cloned().with_context(wanted)?;
    Ok(Lists { lists, values })
}

impl<T> Lists<T> {
    /// Is the list of a row null?
    pub fn is_null(&self, row: usize) -> bool {
        self.lists.is_null(row)
    }

    /// Number of items in the list of a row.
    pub fn len(&self, row: usize) -> usize {
        self.range(row).len()
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.lists.value_offsets();
        let at = |index: usize| usize::try_from(offsets[index]).unwrap_or_default();
        at(row)..at(row + 1)
    }
}

impl Lists<StringArray> {
    /// The texts of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = &str> {
        self.range(row).map(|index| self.values.value(index))
    }
}

impl Lists<UInt32Array> {
    /// The ids of a row.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.values.values()[self.range(row)]
    }
}

/// A column of vectors: the numbers of all rows in order, and the width of a vector.
pub fn vectors(batch: &RecordBatch, name: &str) -> Result<(Float32Array, usize)> {
    let wanted = || format!("column `{name}` does not hold vectors of f32");
    let list = column(batch, name)?.as_any().downcast_ref::<FixedSizeListArray>().with_context(wanted)?;
    let width = usize::try_from(list.value_length()).ok().with_context(wanted)?;
    Ok((list.values().as_any().downcast_ref::<Float32Array>().cloned().with_context(wanted)?, width))
}

/// Field of the column [`DIGEST`].
pub fn digest_field() -> Field {
    Field::new(DIGEST, DataType::FixedSizeBinary(size_of::<RowDigest>() as i32), false)
}

/// The column [`DIGEST`].
pub fn digest_column(digests: &[RowDigest]) -> Result<ArrayRef> {
    Ok(Arc::new(FixedSizeBinaryArray::try_new(size_of::<RowDigest>() as i32, digests.as_flattened().to_vec().into(), None)?))
}

/// The column [`DIGEST`] of all rows of a file.
pub fn digests(path: &Path) -> Result<Vec<RowDigest>> {
    let mut digests = Vec::new();
    for batch in read(path, &[DIGEST])? {
        let batch = batch?;
        let wanted = || format!("column `{DIGEST}` of {} does not hold digests", path.display());
        let column = column(&batch, DIGEST)?.as_any().downcast_ref::<FixedSizeBinaryArray>().with_context(wanted)?;
        digests.extend(column.iter().flatten().filter_map(|digest| RowDigest::try_from(digest).ok()));
        ensure!(column.null_count() == 0 && column.value_length() == size_of::<RowDigest>() as i32, "{}", wanted());
    }
    Ok(digests)
}

/// 128 bits of a digest of each row of a batch, over `salt` and the named columns. Equal rows have equal digests while the types of the
/// columns and the version of Arrow are the same.
pub fn row_digests(batch: &RecordBatch, columns: &[&str], salt: &str) -> Result<Vec<RowDigest>> {
    let arrays = columns.iter().map(|name| column(batch, name).cloned()).collect::<Result<Vec<ArrayRef>>>()?;
    let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let rows = RowConverter::new(fields).and_then(|converter| converter.convert_columns(&arrays)).context("digesting rows")?;
    let salted = |row: Row<'_>| Digest::of_bytes(&[salt.as_bytes(), row.as_ref()].concat()).half();
    Ok(rows.iter().map(salted).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringBuilder};

    use super::*;

    #[test]
    fn row_groups_end_where_they_have_enough_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema(vec![text_field("id", false)]);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec!["a", "b"]))]).unwrap();
        let groups = |name: &str, bytes: Option<usize>| {
            let path = dir.path().join(name);
            let mut writer = TableWriter::create(&path, schema.clone()).unwrap();
            if let Some(bytes) = bytes {
                writer = writer.with_row_group_bytes(bytes);
            }
            (0..3).for_each(|_| writer.write(&batch).unwrap());
            writer.finish().unwrap();
            SerializedFileReader::new(File::open(&path).unwrap()).unwrap().num_row_groups()
        };
        assert_eq!((groups("one", None), groups("three", Some(1))), (1, 3));
    }

    #[test]
    fn columns_whose_values_rarely_repeat_have_no_dictionary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let schema = schema(vec![text_field("id", false), text_field("repo", false), vector_field("embedding", 2)]);
        let text = || Arc::new(StringArray::from(vec!["a", "a"]));
        let item = Arc::new(Field::new_list_field(DataType::Float32, false));
        let numbers = Arc::new(Float32Array::from(vec![1.0, 0.0, 1.0, 0.0]));
        let vectors = FixedSizeListArray::try_new(item, 2, numbers, None).unwrap();
        let mut writer = TableWriter::create(&path, schema.clone()).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![text(), text(), Arc::new(vectors)]).unwrap()).unwrap();
        writer.finish().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let columns = reader.metadata().row_group(0).columns();
        assert_eq!(columns.iter().map(|column| column.dictionary_page_offset().is_some()).collect::<Vec<_>>(), [false, true, false]);
    }

    /// `parse`, `embed` and `index` record digests of rows: where this changes, for example with a version of Arrow, raise their REVISION.
    #[test]
    fn the_digest_of_a_row_is_the_same_in_every_version() {
        let schema = schema(vec![text_field("x", false), text_field("y", true)]);
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["def f"])), Arc::new(StringArray::from(vec![None::<&str>]))];
        let digest = row_digests(&RecordBatch::try_new(schema, columns).unwrap(), &["x", "y"], "salt").unwrap()[0];
        assert_eq!(format!("{:032x}", u128::from_be_bytes(digest)), "18053f2e1189b668fce4ddef229003d5");
    }

    #[test]
    fn lists_of_ids_are_read_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.parquet");
        let schema = schema(vec![ids_field("ids")]);
        let rows: [&[u32]; 3] = [&[1, 2], &[], &[3]];
        let mut lists = arrow::array::ListBuilder::new(arrow::array::UInt32Builder::new());
        rows.iter().for_each(|row| lists.append_value(row.iter().map(|&id| Some(id))));
        let column = cast(&lists.finish(), schema.field(0).data_type()).unwrap();
        let mut writer = TableWriter::create(&path, schema.clone()).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap();
        writer.finish().unwrap();
        assert_eq!(row_count(&path).unwrap(), 3);
        let batch = read(&path, &["ids"]).unwrap().next().unwrap().unwrap();
        let ids = id_lists(&batch, "ids").unwrap();
        assert_eq!([0, 1, 2].map(|row| ids.row(row)), rows);
    }

    #[test]
    fn digests_of_rows_tell_values_columns_lists_and_salts_apart() {
        let mut words = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false));
        [&["a", "b"][..], &["ab"], &["a", "b"], &["a", "b"]].into_iter().for_each(|list| words.append_value(list.iter().map(Some)));
        let schema = schema(vec![text_field("x", false), text_field("y", true), texts_field("words")]);
        let x = Arc::new(StringArray::from(vec!["p", "p", "p", "pq"]));
        let y = Arc::new(StringArray::from(vec![Some("q"), Some("q"), Some("q"), None]));
        let batch = RecordBatch::try_new(schema, vec![x, y, Arc::new(words.finish())]).unwrap();
        let digests = |columns: &[&str], salt: &str| row_digests(&batch, columns, salt).unwrap();
        let all = digests(&["x", "y", "words"], "");
        assert!(all[0] == all[2] && all[0] != all[1] && all[0] != all[3]);
        assert!(all[0] != digests(&["y", "x", "words"], "")[0] && all[0] != digests(&["x", "y", "words"], "s")[0]);
        assert!(row_digests(&batch, &["z"], "").is_err());
    }
}
