//! The table of sketches next to a shard: what duplicates are found by, so that a later run reads and sketches new rows only.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, RecordBatch, UInt64Array,
    },
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Shards, ensure,
    table::{self, RowDigest, TableWriter},
};

use super::{
    bag::{Bag, LowBits, Sketch},
    buckets::ShardKey,
    row_id::RowId,
};
use crate::error::{Context, Result};

/// Rows of a batch, and bytes of a row group: many tables are open at a time.
const BATCH_ROWS: usize = 128;
const ROW_GROUP_BYTES: usize = 1 << 20;
const COLUMNS: [&str; 7] = ["member", "alias", "derived", "sequence", "bits", "bands", "bag"];

/// Name of the table of a shard, relative to the artifact.
pub fn table_name(shard: ShardKey) -> String {
    format!("sketches/{}", Shards::name(shard.0, shard.1))
}

/// What is compared of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSketch {
    /// Equal for aliases: [`RowId::of_alias`].
    pub alias: Option<RowId>,
    /// Were its tokens or documentation derived?
    pub derived: bool,
    pub bag: Bag,
    pub sketch: Sketch,
}

/// Writes the table of a shard.
pub struct SketchWriter {
    writer: TableWriter,
    pending: Vec<(RowDigest, RowSketch)>,
}

impl SketchWriter {
    pub fn create(path: &Path, bands: usize) -> Result<Self> {
        let writer = TableWriter::create(path, schema(bands)?)?.with_row_group_bytes(ROW_GROUP_BYTES);
        Ok(Self { writer, pending: Vec::new() })
    }

    /// Adds a row of a member.
    pub fn push(&mut self, member: RowDigest, row: RowSketch) -> Result<()> {
        self.pending.push((member, row));
        if self.pending.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if let Some((_, first)) = self.pending.first() {
            self.writer.write(&batch(&self.pending, first.sketch.bands.len())?)?;
        }
        self.pending.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        Ok(self.writer.finish()?)
    }
}

fn schema(bands: usize) -> Result<SchemaRef> {
    let bytes = |name: &str, width: usize, nullable: bool| -> Result<Field> {
        Ok(Field::new(name, DataType::FixedSizeBinary(i32::try_from(width)?), nullable))
    };
    Ok(table::schema(vec![
        bytes("member", 16, false)?,
        bytes("alias", 16, true)?,
        Field::new("derived", DataType::Boolean, false),
        Field::new("sequence", DataType::UInt64, false),
        bytes("bits", 32, false)?,
        bytes("bands", 4 * bands, false)?,
        Field::new("bag", DataType::Binary, false),
    ]))
}

fn batch(rows: &[(RowDigest, RowSketch)], bands: usize) -> Result<RecordBatch> {
    let mut alias = FixedSizeBinaryBuilder::new(16);
    let (mut bits, mut keys) = (FixedSizeBinaryBuilder::new(32), FixedSizeBinaryBuilder::new(i32::try_from(4 * bands)?));
    let (mut bags, mut bytes) = (BinaryBuilder::new(), Vec::new());
    for (_, row) in rows {
        match &row.alias {
            Some(id) => alias.append_value(id.bytes())?,
            None => alias.append_null(),
        }
        bits.append_value(row.sketch.bits.0.map(u64::to_le_bytes).as_flattened())?;
        keys.append_value(row.sketch.bands.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>())?;
        bytes.clear();
        row.bag.write(&mut bytes);
        bags.append_value(&bytes);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|(member, _)| member))?),
        Arc::new(alias.finish()),
        Arc::new(rows.iter().map(|(_, row)| Some(row.derived)).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|(_, row)| Some(row.sketch.sequence)).collect::<UInt64Array>()),
        Arc::new(bits.finish()),
        Arc::new(keys.finish()),
        Arc::new(bags.finish()),
    ];
    Ok(RecordBatch::try_new(schema(bands)?, columns)?)
}

/// Members of a table: digest and number of rows, in their order.
pub fn members_of(path: &Path) -> Result<Vec<(RowDigest, u32)>> {
    let mut members: Vec<(RowDigest, u32)> = Vec::new();
    for batch in table::read(path, &["member"])? {
        let batch = batch?;
        for member in fixed::<16>(&batch, "member")?.into_iter().flatten() {
            match members.last_mut() {
                Some((last, rows)) if *last == member => *rows += 1,
                _ => members.push((member, 1)),
            }
        }
    }
    Ok(members)
}

/// Reads a table from its first to its last row.
pub struct SketchReader {
    batches: Box<dyn Iterator<Item = ledger::Result<RecordBatch>>>,
    rows: std::vec::IntoIter<RowSketch>,
    /// Number of the next row.
    next: u32,
    /// First row and number of rows of each member.
    members: HashMap<RowDigest, (u32, u32)>,
}

impl SketchReader {
    /// `members`: those of [`members_of`].
    pub fn open(path: &Path, members: &[(RowDigest, u32)]) -> Result<Self> {
        let batches = Box::new(table::read_batches(path, &COLUMNS, BATCH_ROWS)?);
        let mut first = 0;
        let place = |(member, rows): &(RowDigest, u32)| {
            first += rows;
            (*member, (first - rows, *rows))
        };
        Ok(Self { batches, rows: Vec::new().into_iter(), next: 0, members: members.iter().map(place).collect() })
    }

    /// The rows of a member; none where the table does not have it, or has it before rows that were read.
    pub fn member(&mut self, digest: &RowDigest) -> Result<Option<Vec<RowSketch>>> {
        let Some((first, rows)) = self.members.get(digest).copied().filter(|(first, _)| *first >= self.next) else { return Ok(None) };
        while self.next < first {
            self.row()?;
        }
        (0..rows).map(|_| self.row()).collect::<Result<Vec<_>>>().map(Some)
    }

    /// The next row.
    pub fn row(&mut self) -> Result<RowSketch> {
        while self.rows.len() == 0 {
            let batch = self.batches.next().context("a table of sketches is cut short: run `codenets verify`")??;
            self.rows = rows_of(&batch)?.into_iter();
        }
        self.next += 1;
        self.rows.next().context("a batch without rows")
    }
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<RowSketch>> {
    let (aliases, bits) = (fixed::<16>(batch, "alias")?, fixed::<32>(batch, "bits")?);
    let (derived, sequences) = (table::booleans(batch, "derived")?, array::<UInt64Array>(batch, "sequence")?);
    let (bands, bags) = (array::<FixedSizeBinaryArray>(batch, "bands")?, array::<BinaryArray>(batch, "bag")?);
    let row = |row: usize| -> Result<RowSketch> {
        let bits = bits[row].context("a sketch without bits")?;
        let bits = LowBits([0, 1, 2, 3].map(|plane| u64::from_le_bytes(std::array::from_fn(|byte| bits[8 * plane + byte]))));
        let bands = bands.value(row).as_chunks().0.iter().map(|key| u32::from_le_bytes(*key)).collect();
        Ok(RowSketch {
            alias: aliases[row].map(RowId::of_bytes),
            derived: derived.value(row),
            bag: Bag::read(bags.value(row)),
            sketch: Sketch { sequence: sequences.value(row), bits, bands },
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

fn array<'a, A: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<A>());
    column.with_context(|| format!("a table of sketches has another column `{name}`: run `codenets verify`"))
}

/// Values of a column of so many bytes each.
fn fixed<const WIDTH: usize>(batch: &RecordBatch, name: &str) -> Result<Vec<Option<[u8; WIDTH]>>> {
    let column = array::<FixedSizeBinaryArray>(batch, name)?;
    ensure!(usize::try_from(column.value_length()) == Ok(WIDTH), "column `{name}` has values of {} bytes", column.value_length());
    Ok(column.iter().map(|value| value.and_then(|value| value.try_into().ok())).collect())
}
