//! Writes checked lines to the tables, one after the other: as a row, a duplicate, or a reject with the reason.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use ledger::Split;

use super::{
    bag::{Bag, Sketch},
    config::{Config, SplitLeaks},
    near_duplicates::{Duplicate, UniqueRows},
    report::IngestReport,
    tables::{DuplicatesWriter, FunctionsWriter, RejectsWriter, RowId},
};
use crate::{
    error::Result,
    records::{Record, Reject},
};

/// A record with everything that can be computed in parallel.
pub struct Row {
    pub id: RowId,
    pub record: Record,
    bag: Bag,
    sketch: Sketch,
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
}

/// Writes the tables of the stage.
pub struct TableSink<'a> {
    functions: FunctionsWriter<'a>,
    rejects: RejectsWriter,
    duplicates: DuplicatesWriter,
    unique: UniqueRows,
    /// Ids of the written rows, by number.
    unique_ids: Vec<RowId>,
    /// Number of the written row that each row is, or duplicates.
    seen: HashMap<RowId, u32>,
    split_leaks: SplitLeaks,
    /// The split in which each repository was read first; empty unless `split_leaks` is `Drop`.
    splits: HashMap<String, Split>,
    pub report: IngestReport,
}

impl Row {
    /// Computes the id and the sketch of a record.
    pub fn new(record: Record) -> Self {
        let (bag, sketch) = Bag::of(&record);
        Self { id: RowId::of(&record), record, bag, sketch }
    }
}

impl<'a> TableSink<'a> {
    /// Creates the tables in `out`. `licences`: licence by name of the repository.
    pub fn new(out: &'a Path, config: &Config, licences: &'a BTreeMap<String, String>) -> Result<Self> {
        Ok(Self {
            functions: FunctionsWriter::new(out, config.shards, licences)?,
            rejects: RejectsWriter::create(&out.join("rejects.parquet"))?,
            duplicates: DuplicatesWriter::create(&out.join("duplicates.parquet"))?,
            unique: UniqueRows::new(config.duplicates.clone(), out)?,
            unique_ids: Vec::new(),
            seen: HashMap::new(),
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
        let Row { id, record, bag, sketch } = row;
        if self.leaks(&record) {
            return self.reject(location, &Reject::SplitLeak, record.func_name.as_bytes());
        }
        let duplicate = match self.seen.get(&id) {
            Some(&of) => Duplicate { of, exact: true },
            None => match self.unique.insert(&bag, &sketch, record.split)? {
                Ok(number) => {
                    self.seen.insert(id, number);
                    self.unique_ids.push(id);
                    self.report.written += 1;
                    return self.functions.push(id, record);
                }
                Err(duplicate) => {
                    self.seen.insert(id, duplicate.of);
                    duplicate
                }
            },
        };
        let split = self.unique.split(duplicate.of);
        if split != record.split {
            *self.report.cross_split_duplicates.entry(format!("{}_of_{split}", record.split)).or_default() += 1;
        }
        let reject = if duplicate.exact { Reject::ExactDuplicate } else { Reject::NearDuplicate };
        self.duplicates.write(id, self.unique_ids[duplicate.of as usize], &record.url)?;
        self.reject(location, &reject, record.func_name.as_bytes())
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
        if reject.is_duplicate() {
            self.report.duplicates += 1;
        } else {
            self.report.rejected += 1;
        }
        self.rejects.write(&location.file, location.line, location.offset, &reject.to_string(), head)
    }

    /// Closes the tables and returns the report.
    pub fn finish(self) -> Result<IngestReport> {
        self.functions.finish()?;
        self.rejects.finish()?;
        self.duplicates.finish()?;
        Ok(self.report)
    }
}
