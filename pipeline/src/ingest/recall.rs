//! Compares the near-duplicate search with a comparison of all pairs.

use std::path::Path;

use ledger::{Progress, Split, ensure};
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::{
    bag::{Bag, Sketch},
    near_duplicates::{Thresholds, UniqueRows},
};
use crate::{error::Result, records::each_record};

/// Number of rows that each method finds to be duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Rows that were compared.
    pub rows: usize,
    /// Duplicates found by comparing all pairs.
    pub by_pairs: usize,
    /// Duplicates found by the search that `ingest` uses.
    pub by_search: usize,
    /// Duplicates found by both methods.
    pub by_both: usize,
}

impl Recall {
    /// Compares the two methods on the first `max_rows` records of a folder. `scratch`: a folder for temporary files.
    pub fn measure(folder: &Path, max_rows: usize, thresholds: &Thresholds, scratch: &Path, progress: &Progress) -> Result<Self> {
        let mut rows: Vec<(Bag, Sketch, Split)> = Vec::new();
        each_record(folder, &mut |record| {
            if let Some(record) = record.filter(|_| rows.len() < max_rows) {
                let (bag, sketch) = Bag::of(&record);
                rows.push((bag, sketch, record.split));
            }
            Ok(())
        })?;
        ensure!(!rows.is_empty(), "no records below {}: name a folder of CodeSearchNet files", folder.display());
        let mut unique = UniqueRows::new(Some(thresholds.clone()), scratch)?;
        let mut all_unique: Vec<&(Bag, Sketch, Split)> = Vec::new();
        let mut recall = Self { rows: rows.len(), by_pairs: 0, by_search: 0, by_both: 0 };
        let bar = progress.bar("recall", rows.len() as u64, "rows");
        for row in &rows {
            let (bag, sketch, split) = row;
            let is_long = bag.total() >= thresholds.min_tokens;
            let by_pairs = all_unique.par_iter().any(|(other, own, _)| {
                own.sequence == sketch.sequence && bag.total() > 0
                    || is_long && other.total() >= thresholds.min_tokens && thresholds.are_duplicates(other, bag)
            });
            let by_search = unique.insert(bag, sketch, *split)?.is_err();
            recall.by_pairs += usize::from(by_pairs);
            recall.by_search += usize::from(by_search);
            recall.by_both += usize::from(by_pairs && by_search);
            if !by_pairs {
                all_unique.push(row);
            }
            bar.add(1);
        }
        bar.finish();
        Ok(recall)
    }

    /// Share of the duplicates found by comparing all pairs that the search finds too.
    pub fn recall(&self) -> f64 {
        self.by_both as f64 / self.by_pairs.max(1) as f64
    }

    /// The numbers by name, for `reports/duplicates.json`.
    pub fn flat(&self) -> Map<String, Value> {
        Map::from_iter([
            ("rows".to_owned(), Value::from(self.rows)),
            ("by_force".to_owned(), Value::from(self.by_pairs)),
            ("by_search".to_owned(), Value::from(self.by_search)),
            ("by_both".to_owned(), Value::from(self.by_both)),
            ("recall".to_owned(), Value::from(self.recall())),
        ])
    }
}
