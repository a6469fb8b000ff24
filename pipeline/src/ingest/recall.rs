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
        let per_band = Thresholds::rows_of(Some(thresholds));
        each_record(folder, &mut |record| {
            if let Some(record) = record.filter(|_| rows.len() < max_rows) {
                let (bag, sketch) = Bag::of(&record, per_band);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_counted_by_each_method_within_the_first_records() {
        let dir = tempfile::tempdir().unwrap();
        let code = |name: &str| {
            format!("def {name}(items, key):\n    result = sorted(items, key=key)\n    log(len(result))\n    return result[0]\n")
        };
        let record = |name: &str, code: &str| {
            serde_json::json!({ "repo": "o/r", "path": "a.py", "func_name": name, "language": "python", "partition": "train",
                "url": format!("https://example.org/{name}"), "code": code, "code_tokens": code.split_whitespace().collect::<Vec<_>>(),
                "docstring": "Doc.", "docstring_tokens": ["Doc", "."] })
            .to_string()
        };
        let other = "def g(path):\n    with open(path) as file:\n        for line in file:\n            yield parse(line.strip())\n";
        let short = record("s", "def s(): pass");
        let lines = [record("f", &code("f")), record("g", other), record("h", &code("h")), record("i", &code("i")), short.clone(), short];
        std::fs::write(dir.path().join("python_train_0.jsonl"), lines.join("\n")).unwrap();
        let thresholds = Thresholds { set: 0.8, multiset: 0.7, min_tokens: 5 };
        let scratch = tempfile::tempdir().unwrap();
        let measure = |rows: usize| Recall::measure(dir.path(), rows, &thresholds, scratch.path(), &Progress::new(true)).unwrap();
        assert_eq!(measure(10), Recall { rows: 6, by_pairs: 3, by_search: 3, by_both: 3 });
        assert_eq!(measure(3), Recall { rows: 3, by_pairs: 1, by_search: 1, by_both: 1 });
        assert_eq!(Recall { rows: 9, by_pairs: 4, by_search: 3, by_both: 3 }.recall(), 0.75);
    }
}
