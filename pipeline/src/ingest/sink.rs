//! Writes checked lines to the tables, one after the other: as a row, marked where it duplicates an earlier row, or a reject with the reason.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    path::Path,
};

use ledger::{Split, table::RowDigest};

use super::{
    bag::{Bag, HASHES},
    buckets::{Buckets, ShardKey},
    config::{Config, SplitLeaks},
    kept::{KeptRow, Outcome},
    near_duplicates::{Thresholds, UniqueRows},
    report::IngestReport,
    row_id::RowId,
    sketches::RowSketch,
    tables::{FunctionsWriter, RejectsWriter, WrittenRow},
};
use crate::{
    error::Result,
    records::{Record, Reject},
};

/// A record with everything that can be computed in parallel.
pub struct Row {
    id: RowId,
    /// Equal for two records of one place: [`RowId::of_place`].
    place: RowId,
    record: Record,
    sketch: RowSketch,
}

/// A line after the parallel check.
pub enum CheckedLine {
    Row(Box<Row>),
    /// With the first bytes of the line.
    Rejected(Reject, Vec<u8>),
    /// A query whose code is in another file; it gives no row.
    JoinedQuery,
}

/// Position of a line in the raw files.
pub struct LineLocation {
    /// Name of the document.
    pub file: String,
    /// Number of the line, from 1.
    pub line: u64,
    /// Byte offset in the unpacked document.
    pub offset: u64,
    /// Digest and shard of the member of the raw file, where `harvest` lists it.
    pub member: Option<(RowDigest, ShardKey)>,
}

/// Writes the tables of the stage.
pub struct TableSink<'a> {
    functions: FunctionsWriter<'a>,
    rejects: RejectsWriter,
    unique: UniqueRows,
    /// Ids of the unique rows, by number.
    unique_ids: Vec<RowId>,
    /// Written rows with the same code in the same file, by [`RowId::of`].
    repeated: HashMap<RowId, u32>,
    /// The places of all written rows.
    places: HashSet<RowId>,
    /// The first row of each group of aliases.
    aliases: HashMap<RowId, RowId>,
    split_leaks: SplitLeaks,
    /// The split in which each repository was read first; empty unless `split_leaks` is `Drop`.
    splits: HashMap<String, Split>,
    pub report: IngestReport,
}

impl Row {
    /// Computes the id of a record, and its sketch where there is no stored one. `band_rows`: values per band of the sketch.
    pub fn new(record: Record, stored: Option<RowSketch>, band_rows: usize) -> Self {
        let id = RowId::of(&record);
        let sketch = stored.unwrap_or_else(|| {
            let (bag, sketch) = Bag::of(&record, band_rows);
            RowSketch { alias: RowId::of_alias(&record), derived: record.derived, bag, sketch }
        });
        Self { id, place: id.of_place(&record), record, sketch }
    }
}

impl<'a> TableSink<'a> {
    /// Creates the tables in `out`. `licences`: licence by name of the repository. `keep_sketches`: are the sketches stored?
    pub fn new(out: &'a Path, config: &Config, licences: &'a BTreeMap<String, String>, keep_sketches: bool) -> Result<Self> {
        let bands = keep_sketches.then(|| HASHES / Thresholds::rows_of(config.duplicates.as_ref()));
        Ok(Self {
            functions: FunctionsWriter::new(out, Buckets::new(config), licences, bands)?,
            rejects: RejectsWriter::create(&out.join("rejects.parquet"))?,
            unique: UniqueRows::new(config.duplicates.clone(), out)?,
            unique_ids: Vec::new(),
            repeated: HashMap::new(),
            places: HashSet::new(),
            aliases: HashMap::new(),
            split_leaks: config.split_leaks,
            splits: HashMap::new(),
            report: IngestReport::default(),
        })
    }

    /// Writes lines in their order.
    pub fn write(&mut self, lines: Vec<(LineLocation, CheckedLine)>) -> Result<()> {
        for (location, checked) in lines {
            self.report.lines += 1;
            match checked {
                CheckedLine::Row(row) => self.row(&location, *row)?,
                CheckedLine::Rejected(reject, head) => self.reject(&location, &reject, &head)?,
                CheckedLine::JoinedQuery => self.report.joined += 1,
            }
        }
        self.functions.flush()
    }

    fn row(&mut self, location: &LineLocation, row: Row) -> Result<()> {
        let Row { id, place, record, sketch } = row;
        if self.leaks(&record) {
            return self.reject(location, &Reject::SplitLeak, record.func_name.as_bytes());
        }
        if !self.places.insert(place) {
            return self.reject(location, &Reject::Repeated, record.func_name.as_bytes());
        }
        let count = self.repeated.entry(id).or_default();
        let id = id.repeated(*count);
        *count += 1;
        let (duplicate_of, alias_of) = self.compare(id, record.split, &sketch)?;
        let sketch = location.member.map(|(member, _)| (member, sketch));
        self.functions.push(WrittenRow { id, record, duplicate_of, alias_of, sketch })
    }

    /// Compares the rows of a member of a shard that is not written, because its source files did not change: all of them are rows again.
    pub fn compare_kept(&mut self, split: Split, rows: &[KeptRow]) -> Result<Vec<Outcome>> {
        self.report.lines += rows.len() as u64;
        rows.iter().map(|row| self.compare(row.id, split, &row.sketch)).collect()
    }

    /// The rows before this one that it duplicates and is an alias of.
    fn compare(&mut self, id: RowId, split: Split, row: &RowSketch) -> Result<Outcome> {
        self.report.derived += u64::from(row.derived);
        let alias_of = row.alias.and_then(|alias| match self.aliases.entry(alias) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(free) => {
                free.insert(id);
                None
            }
        });
        self.report.aliases += u64::from(alias_of.is_some());
        let duplicate_of = match self.unique.insert(&row.bag, &row.sketch, split)? {
            Ok(_) => {
                self.unique_ids.push(id);
                None
            }
            Err(duplicate) => {
                self.report.duplicates += 1;
                let other = self.unique.split(duplicate.of);
                if other != split {
                    *self.report.cross_split_duplicates.entry(format!("{split}_of_{other}")).or_default() += 1;
                }
                Some(self.unique_ids[duplicate.of as usize])
            }
        };
        self.report.written += 1;
        Ok((duplicate_of, alias_of))
    }

    /// Is the repository of the record in another split already?
    fn leaks(&mut self, record: &Record) -> bool {
        if self.split_leaks != SplitLeaks::Drop {
            return false;
        }
        match self.splits.get(&record.repo) {
            Some(&split) => split != record.split,
            None => {
                self.splits.insert(record.repo.clone(), record.split);
                false
            }
        }
    }

    fn reject(&mut self, location: &LineLocation, reject: &Reject, head: &[u8]) -> Result<()> {
        self.report.reasons.count(reject);
        if *reject == Reject::Repeated {
            self.report.repeated += 1;
        } else {
            self.report.rejected += 1;
        }
        if let Some((_, shard)) = location.member {
            self.functions.forget_sketches(shard);
        }
        self.rejects.write(&location.file, location.line, location.offset, &reject.to_string(), head)
    }

    /// Bytes of a row group of a shard.
    pub fn row_group_bytes(&self) -> usize {
        self.functions.row_group_bytes()
    }

    /// Closes the tables. Returns the report, and the number of shards that were written.
    pub fn finish(self) -> Result<(IngestReport, u64)> {
        let written = self.functions.finish()?;
        self.rejects.finish()?;
        Ok((self.report, written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_counted_also_one_that_gives_no_row() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            serde_json::json!({ "shards": 1, "max-line-bytes": 1, "max-reject-fraction": 1, "split-leaks": "refuse", "duplicates": null });
        let config: Config = serde_json::from_value(config).unwrap();
        let licences = BTreeMap::new();
        let mut sink = TableSink::new(dir.path(), &config, &licences, false).unwrap();
        let at = |line: u64| LineLocation { file: "a.jsonl".to_owned(), line, offset: 0, member: None };
        sink.write(vec![(at(1), CheckedLine::JoinedQuery), (at(2), CheckedLine::Rejected(Reject::EmptyCode, b"{}".to_vec()))]).unwrap();
        sink.write(vec![(at(3), CheckedLine::JoinedQuery)]).unwrap();
        let (report, _) = sink.finish().unwrap();
        assert_eq!((report.lines, report.joined, report.rejected, report.written), (3, 2, 1, 0));
        assert_eq!(ledger::Report::left_out(&report), report.reasons.0);
        assert_eq!(report.reasons.0.values().sum::<u64>(), 1);
    }
}
