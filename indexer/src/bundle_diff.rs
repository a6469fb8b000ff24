//! The functions that two bundles do not share, counted by polars from their tables of functions.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    path::{Path, PathBuf},
};

use bundle::manifest::DOCS;
use ledger::ensure;
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Result, error::Context};

/// Where a function is: the functions of one place are versions of each other.
const PLACE: [&str; 4] = ["language", "repo", "path", "func_name"];

/// Functions of one language in two bundles. Functions are equal if their ids are: language, repository, path and code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionsDiff {
    pub language: String,
    /// Functions of the first bundle.
    pub a: u64,
    /// Functions of the second bundle.
    pub b: u64,
    /// Functions of the second bundle that the first lacks.
    pub added: u64,
    /// Functions of the first bundle that the second lacks.
    pub removed: u64,
    /// Functions with other code at the same place: language, repository, path and name.
    pub changed: u64,
}

/// What two bundles do not share. Its text is one line: `+312 -40 functions, 7 changed; 1 repository is gone: team/api`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDiff {
    /// By language.
    pub functions: Vec<FunctionsDiff>,
    /// Repositories of which only the first bundle has functions, sorted.
    #[serde(default)]
    pub gone: Vec<String>,
    /// Repositories of which only the second bundle has functions, sorted.
    #[serde(default)]
    pub new: Vec<String>,
}

/// Repositories that a line names.
const NAMED: usize = 5;

impl fmt::Display for BundleDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&FunctionsDiff) -> u64| self.functions.iter().map(of).sum::<u64>();
        match (sum(|one| one.added), sum(|one| one.removed), sum(|one| one.changed)) {
            (0, 0, 0) => write!(f, "no function")?,
            (added, removed, changed) => write!(f, "+{added} -{removed} functions, {changed} changed")?,
        }
        for (names, one, many) in [(&self.gone, "is gone", "are gone"), (&self.new, "is new", "are new")] {
            let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
            match names.len() {
                0 => {}
                1 => write!(f, "; 1 repository {one}: {shown}")?,
                count => write!(f, "; {count} repositories {many}: {shown}{more}")?,
            }
        }
        Ok(())
    }
}

/// Compares the bundles in two folders.
///
/// # Errors
/// A folder is not a bundle, or its table cannot be read.
pub fn bundle_diff(a: &Path, b: &Path) -> Result<BundleDiff> {
    let (a, b) = (functions(a)?, functions(b)?);
    let [of_a, of_b] = [repositories(&a)?, repositories(&b)?];
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect();
    Ok(BundleDiff { gone: only(&of_a, &of_b), new: only(&of_b, &of_a), functions: functions_diff(a, b)? })
}

fn repositories(functions: &LazyFrame) -> Result<BTreeSet<String>> {
    let names = functions.clone().group_by([col("repo")]).agg([rows()]).collect_with_engine(Engine::Streaming)?.unwrap_single();
    let repos = names.column("repo")?.str()?;
    Ok((0..names.height()).filter_map(|row| repos.get(row)).map(str::to_owned).collect())
}

/// Compares functions by language.
fn functions_diff(a: LazyFrame, b: LazyFrame) -> Result<Vec<FunctionsDiff>> {
    let total = |frame: &LazyFrame, name: &str| frame.clone().group_by([col("language")]).agg([rows().alias(name)]);
    let lacking = |frame: &LazyFrame, other: &LazyFrame, name: &str| {
        let lacking = frame.clone().join(other.clone(), [col("id")], [col("id")], JoinArgs::new(JoinType::Anti));
        lacking.group_by(PLACE.map(col)).agg([rows().alias(name)])
    };
    let both = |first: LazyFrame, second: LazyFrame, keys: &[&str]| {
        let keys: Vec<Expr> = keys.iter().map(|&key| col(key)).collect();
        first.join(second, keys.clone(), keys, JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns))
    };
    let count = |name: &str| col(name).fill_null(lit(0_u64));
    let places = both(lacking(&a, &b, "removed"), lacking(&b, &a, "added"), &PLACE)
        .with_columns([count("removed"), count("added")])
        .with_column(when(col("removed").lt(col("added"))).then(col("removed")).otherwise(col("added")).alias("changed"))
        .group_by([col("language")])
        .agg([
            (col("added") - col("changed")).sum().alias("added"),
            (col("removed") - col("changed")).sum().alias("removed"),
            col("changed").sum(),
        ]);
    let totals = both(total(&a, "a"), total(&b, "b"), &["language"]);
    let columns = ["a", "b", "added", "removed", "changed"];
    let table = both(totals, places, &["language"]).with_columns(columns.map(count)).sort(["language"], SortMultipleOptions::default());
    let table = table.collect_with_engine(Engine::Streaming)?.unwrap_single();
    let number = |row: usize, name: &str| -> Result<u64> { Ok(table.column(name)?.u64()?.get(row).unwrap_or_default()) };
    let diff_of = |row: usize| -> Result<FunctionsDiff> {
        let language = table.column("language")?.str()?.get(row).context("language is null")?.to_owned();
        let [a, b, added, removed, changed] = columns.map(|name| number(row, name));
        Ok(FunctionsDiff { language, a: a?, b: b?, added: added?, removed: removed?, changed: changed? })
    };
    (0..table.height()).map(diff_of).collect()
}

/// Place and id of the functions of a bundle.
fn functions(bundle: &Path) -> Result<LazyFrame> {
    let path: PathBuf = bundle.join(DOCS);
    ensure!(path.is_file(), "{} has no {DOCS}: name the folder of a bundle", bundle.display());
    let table = LazyFrame::scan_parquet(PlRefPath::new(path.to_string_lossy()), ScanArgsParquet::default())?;
    Ok(table.select([PLACE.as_slice(), &["id"]].concat().into_iter().map(col).collect::<Vec<_>>()))
}

fn rows() -> Expr {
    len().cast(DataType::UInt64)
}

/// The table for a terminal.
pub fn render(languages: &[FunctionsDiff]) -> String {
    let mut text = format!("{:<12} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "functions", "a", "b", "added", "removed", "changed");
    for FunctionsDiff { language, a, b, added, removed, changed } in languages {
        let _ = writeln!(text, "{language:<12} {a:>10} {b:>10} {added:>10} {removed:>10} {changed:>10}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A folder with a table of functions: language, path, name and id of each.
    fn bundle(functions: &[[&str; 4]]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let column = |name: &str, part: usize| Column::new(name.into(), functions.iter().map(|row| row[part]).collect::<Vec<_>>());
        let repo = Column::new("repo".into(), vec!["o/r"; functions.len()]);
        let columns = vec![column("language", 0), repo, column("path", 1), column("func_name", 2), column("id", 3)];
        let mut frame = DataFrame::new(functions.len(), columns).unwrap();
        ParquetWriter::new(File::create(dir.path().join(DOCS)).unwrap()).finish(&mut frame).unwrap();
        dir
    }

    fn diff(language: &str, [a, b, added, removed, changed]: [u64; 5]) -> FunctionsDiff {
        FunctionsDiff { language: language.to_owned(), a, b, added, removed, changed }
    }

    #[test]
    fn functions_are_added_removed_or_changed() {
        let a = bundle(&[["go", "a.go", "F", "1"], ["go", "a.go", "G", "2"], ["go", "a.go", "init", "3"], ["python", "a.py", "f", "4"]]);
        let b = bundle(&[["go", "a.go", "F", "1"], ["go", "a.go", "G", "5"], ["go", "a.go", "init", "6"], ["go", "a.go", "init", "7"]]);
        let found = bundle_diff(a.path(), b.path()).unwrap().functions;
        assert_eq!(found, [diff("go", [3, 4, 1, 0, 2]), diff("python", [1, 0, 0, 1, 0])]);
        assert_eq!(bundle_diff(a.path(), a.path()).unwrap().functions[0], diff("go", [3, 3, 0, 0, 0]));
    }

    #[test]
    fn a_difference_is_one_line_of_words() {
        let names = |count: usize| (0..count).map(|number| format!("r{number}")).collect();
        let change = BundleDiff { functions: vec![diff("go", [9, 9, 3, 2, 1])], gone: names(7), new: names(1) };
        let expected = "+3 -2 functions, 1 changed; 7 repositories are gone: r0, r1, r2, r3, r4 and 2 more; 1 repository is new: r0";
        assert_eq!(change.to_string(), expected);
        assert_eq!(BundleDiff::default().to_string(), "no function");
    }

    #[test]
    fn a_folder_without_functions_is_an_error_that_names_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = bundle_diff(empty.path(), empty.path()).unwrap_err();
        assert!(error.to_string().contains("has no docs.parquet"), "{error}");
    }
}
