//! Does the search for near-duplicates find what comparing every pair finds?

use std::path::Path;

use anyhow::{Result, ensure};
use ledger::Progress;
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::{Bag, Kept, Sketch, Thresholds, each_record};

/// Rows that each way leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    pub rows: usize,
    pub by_force: usize,
    pub by_search: usize,
    pub by_both: usize,
}

impl Recall {
    /// Compares the two on the first `most` records of a folder.
    pub fn measure(folder: &Path, most: usize, thresholds: &Thresholds, scratch: &Path, progress: &Progress) -> Result<Self> {
        let mut rows: Vec<(Bag, Sketch, ledger::Split)> = Vec::new();
        each_record(folder, &mut |record| {
            if let Some(record) = record.filter(|_| rows.len() < most) {
                let (bag, sketch) = Bag::of(&record);
                rows.push((bag, sketch, record.split));
            }
            Ok(())
        })?;
        ensure!(!rows.is_empty(), "no records below {}", folder.display());
        let mut kept = Kept::new(Some(thresholds.clone()), scratch)?;
        let mut brute: Vec<&(Bag, Sketch, ledger::Split)> = Vec::new();
        let mut recall = Self { rows: rows.len(), by_force: 0, by_search: 0, by_both: 0 };
        let bar = progress.bar("recall", rows.len() as u64, "rows");
        for row in &rows {
            let (bag, sketch, split) = row;
            let is_long = bag.total() >= thresholds.min_tokens;
            let by_force = brute.par_iter().any(|(other, own, _)| {
                own.sequence == sketch.sequence && bag.total() > 0
                    || is_long && other.total() >= thresholds.min_tokens && thresholds.are_duplicates(other, bag)
            });
            let by_search = kept.offer(bag, sketch, *split)?.is_err();
            recall.by_force += usize::from(by_force);
            recall.by_search += usize::from(by_search);
            recall.by_both += usize::from(by_force && by_search);
            if !by_force {
                brute.push(row);
            }
            bar.add(1);
        }
        bar.finish();
        Ok(recall)
    }

    /// Share of what comparing every pair leaves out that the search leaves out too.
    pub fn recall(&self) -> f64 {
        self.by_both as f64 / self.by_force.max(1) as f64
    }

    pub fn flat(&self) -> Map<String, Value> {
        Map::from_iter([
            ("rows".to_owned(), Value::from(self.rows)),
            ("by_force".to_owned(), Value::from(self.by_force)),
            ("by_search".to_owned(), Value::from(self.by_search)),
            ("by_both".to_owned(), Value::from(self.by_both)),
            ("recall".to_owned(), Value::from(self.recall())),
        ])
    }
}
