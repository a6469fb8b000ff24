//! Where rows go, one after the other: kept, a duplicate, or rejected with a reason.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::Result;
use ledger::Split;

use super::{
    Config, IngestReport, SplitLeaks,
    bag::{Bag, Sketch},
    near_duplicates::{Duplicate, Kept},
    record::{Record, Reject},
    tables::{DuplicatesWriter, FunctionsWriter, RejectsWriter, RowId},
};

/// A row, and what is computed of it in parallel.
pub struct Row {
    pub id: RowId,
    pub record: Record,
    bag: Bag,
    sketch: Sketch,
}

/// A line after the parallel part.
pub enum Checked {
    Row(Box<Row>),
    Rejected(Reject, Vec<u8>),
    /// A query whose code stands elsewhere; not a row of its own.
    Joined,
}

/// Where a line stands.
pub struct Place {
    pub file: String,
    pub line: u64,
    pub offset: u64,
}

pub struct Sink<'a> {
    functions: FunctionsWriter<'a>,
    rejects: RejectsWriter,
    duplicates: DuplicatesWriter,
    kept: Kept,
    kept_ids: Vec<RowId>,
    /// Rows that were met, and the kept row that stands for each.
    seen: HashMap<RowId, u32>,
    split_leaks: SplitLeaks,
    /// The split in which each repository was first met, where that is watched.
    splits: HashMap<String, Split>,
    pub report: IngestReport,
}

impl Row {
    pub fn new(record: Record) -> Self {
        let (bag, sketch) = Bag::of(&record);
        Self { id: RowId::of(&record), record, bag, sketch }
    }
}

impl<'a> Sink<'a> {
    pub fn new(out: &'a Path, config: &Config, licences: &'a BTreeMap<String, String>) -> Result<Self> {
        Ok(Self {
            functions: FunctionsWriter::new(out, config.shards, licences)?,
            rejects: RejectsWriter::create(&out.join("rejects.parquet"))?,
            duplicates: DuplicatesWriter::create(&out.join("duplicates.parquet"))?,
            kept: Kept::new(config.duplicates.clone(), out)?,
            kept_ids: Vec::new(),
            seen: HashMap::new(),
            split_leaks: config.split_leaks,
            splits: HashMap::new(),
            report: IngestReport::default(),
        })
    }

    /// Takes lines in their order.
    pub fn take(&mut self, lines: Vec<(Place, Checked)>) -> Result<()> {
        for (place, checked) in lines {
            self.report.lines += 1;
            match checked {
                Checked::Row(row) => self.row(&place, *row)?,
                Checked::Rejected(reject, head) => self.reject(&place, &reject, &head)?,
                Checked::Joined => self.report.joined += 1,
            }
        }
        self.functions.flush()
    }

    fn row(&mut self, place: &Place, row: Row) -> Result<()> {
        let Row { id, record, bag, sketch } = row;
        if self.leaks(&record) {
            return self.reject(place, &Reject::SplitLeak, record.func_name.as_bytes());
        }
        let duplicate = match self.seen.get(&id) {
            Some(&of) => Duplicate { of, exact: true },
            None => match self.kept.offer(&bag, &sketch, record.split)? {
                Ok(number) => {
                    self.seen.insert(id, number);
                    self.kept_ids.push(id);
                    self.report.written += 1;
                    return self.functions.push(id, record);
                }
                Err(duplicate) => {
                    self.seen.insert(id, duplicate.of);
                    duplicate
                }
            },
        };
        let split = self.kept.split(duplicate.of);
        if split != record.split {
            *self.report.cross_split_duplicates.entry(format!("{}_of_{split}", record.split)).or_default() += 1;
        }
        let reject = if duplicate.exact { Reject::ExactDuplicate } else { Reject::NearDuplicate };
        self.duplicates.write(id, self.kept_ids[duplicate.of as usize], &record.url)?;
        self.reject(place, &reject, record.func_name.as_bytes())
    }

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

    fn reject(&mut self, place: &Place, reject: &Reject, head: &[u8]) -> Result<()> {
        self.report.reasons.count(reject);
        if reject.is_duplicate() {
            self.report.duplicates += 1;
        } else {
            self.report.rejected += 1;
        }
        self.rejects.write(&place.file, place.line, place.offset, &reject.to_string(), head)
    }

    pub fn finish(self) -> Result<IngestReport> {
        self.functions.finish()?;
        self.rejects.finish()?;
        self.duplicates.finish()?;
        Ok(self.report)
    }
}
