//! Agreement by language and field, aggregated by polars.

use std::{collections::BTreeMap, path::Path};

use ledger::{Language, ensure};
use polars::prelude::*;
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::compare::{Compared, PLAIN, compare};
use crate::{
    error::{Context, Error, Result},
    records::{Record, each_record},
};

/// Kinds of differences of [`PLAIN`] that are shown: the dialect differs on purpose.
const MAX_KINDS_OF_PLAIN: usize = 6;
/// Records that are compared in parallel at a time.
const BATCH: usize = 2048;
/// Partial results that are held before they are aggregated again.
const MAX_PARTS: usize = 64;

/// Agreement by language and field, and the differences.
#[derive(Debug)]
pub struct Fidelity {
    shares: BTreeMap<Field, Share>,
    /// Kinds of differences, the most frequent kind first.
    differences: BTreeMap<Field, Vec<Difference>>,
    /// Lines that are not records.
    unreadable: u64,
}

/// Equal rows and all rows of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    equal: u64,
    rows: u64,
}

/// A kind of difference, with the first row that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    kind: String,
    rows: u64,
    example: String,
}

type Field = (Language, String);

/// Compares every record below a folder, in any layout.
pub fn measure(folder: &Path) -> Result<Fidelity> {
    let (mut parts, mut batch, mut unreadable) = (Vec::new(), Vec::new(), 0);
    each_record(folder, &mut |record| {
        match record {
            Some(record) => batch.push(record),
            None => unreadable += 1,
        }
        if batch.len() >= BATCH {
            parts.push(counts_of(std::mem::take(&mut batch))?);
        }
        if parts.len() >= MAX_PARTS {
            parts = vec![sum(std::mem::take(&mut parts))?];
        }
        Ok(())
    })?;
    parts.push(counts_of(batch)?);
    let kinds = sum(parts)?;
    ensure!(kinds.height() > 0, "no record below {} can be read: set CSN to a folder of CodeSearchNet files", folder.display());
    Ok(Fidelity { shares: shares(&kinds)?, differences: differences(&kinds)?, unreadable })
}

/// Compares records in parallel and counts the kinds of differences.
fn counts_of(records: Vec<Record>) -> Result<DataFrame> {
    let compared: Vec<Vec<Compared>> = records.into_par_iter().map(|record| compare(&record)).collect::<Result<_>>()?;
    let compared: Vec<Compared> = compared.into_iter().flatten().collect();
    let text = |name: &str, value: &dyn Fn(&Compared) -> Option<String>| {
        Column::new(name.into(), compared.iter().map(value).collect::<Vec<Option<String>>>())
    };
    let frame = DataFrame::new(
        compared.len(),
        vec![
            text("language", &|row| Some(row.language.name().to_owned())),
            text("field", &|row| Some(row.field.to_owned())),
            text("kind", &|row| row.difference.as_ref().map(|(kind, _)| kind.clone())),
            text("example", &|row| row.difference.as_ref().map(|(_, example)| example.clone())),
        ],
    )?;
    let counted = frame.lazy().group_by_stable([col("language"), col("field"), col("kind")]);
    Ok(counted.agg([len().cast(DataType::UInt64).alias("rows"), col("example").first()]).collect()?)
}

/// Adds up counts. The example of the first part stays.
fn sum(parts: Vec<DataFrame>) -> Result<DataFrame> {
    let parts: Vec<LazyFrame> = parts.into_iter().map(IntoLazy::lazy).collect();
    let all = concat(parts, UnionArgs::default())?;
    let summed = all.group_by_stable([col("language"), col("field"), col("kind")]).agg([col("rows").sum(), col("example").first()]);
    Ok(summed.collect()?)
}

/// A column of texts.
fn texts<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a StringChunked> {
    Ok(frame.column(name)?.str()?)
}

fn field_at(frame: &DataFrame, row: usize) -> Result<Field> {
    let language = texts(frame, "language")?.get(row).context("language is null")?.parse()?;
    Ok((language, texts(frame, "field")?.get(row).context("field is null")?.to_owned()))
}

/// Equal rows and all rows, by language and field.
fn shares(kinds: &DataFrame) -> Result<BTreeMap<Field, Share>> {
    let equal = when(col("kind").is_null()).then(col("rows")).otherwise(lit(0u64)).sum().alias("equal");
    let frame = kinds.clone().lazy().group_by([col("language"), col("field")]).agg([equal, col("rows").sum()]).collect()?;
    let (equal, rows) = (frame.column("equal")?.u64()?, frame.column("rows")?.u64()?);
    let share = |row: usize| Share { equal: equal.get(row).unwrap_or_default(), rows: rows.get(row).unwrap_or_default() };
    (0..frame.height()).map(|row| Ok((field_at(&frame, row)?, share(row)))).collect()
}

fn differences(kinds: &DataFrame) -> Result<BTreeMap<Field, Vec<Difference>>> {
    let options = SortMultipleOptions::default().with_order_descending_multi([true, false]);
    let frame = kinds.clone().lazy().filter(col("kind").is_not_null()).sort(["rows", "kind"], options).collect()?;
    let rows = frame.column("rows")?.u64()?;
    let text = |name: &str, row: usize| Ok::<_, Error>(texts(&frame, name)?.get(row).unwrap_or_default().to_owned());
    let mut differences: BTreeMap<Field, Vec<Difference>> = BTreeMap::new();
    for row in 0..frame.height() {
        let difference = Difference { kind: text("kind", row)?, rows: rows.get(row).unwrap_or_default(), example: text("example", row)? };
        differences.entry(field_at(&frame, row)?).or_default().push(difference);
    }
    Ok(differences)
}

impl Fidelity {
    /// The numbers `agreement.<language>.<field>` and `rows.<language>.<field>`, for `reports/fidelity.json`.
    pub fn flat(&self) -> Map<String, Value> {
        let mut flat = Map::new();
        for ((language, field), share) in &self.shares {
            flat.insert(format!("agreement.{language}.{field}"), Value::from(share.equal as f64 / share.rows as f64));
            flat.insert(format!("rows.{language}.{field}"), Value::from(share.rows));
        }
        flat.insert("unreadable".to_owned(), Value::from(self.unreadable));
        flat
    }

    /// A table of the agreement, and every kind of difference with an example.
    pub fn text(&self) -> String {
        let mut text = format!("{:<12}{:<20}{:>8}{:>8}{:>10}\n", "language", "field", "rows", "equal", "agreement");
        for ((language, field), share) in &self.shares {
            let percent = 100.0 * share.equal as f64 / share.rows as f64;
            text += &format!("{:<12}{field:<20}{:>8}{:>8}{percent:>9.2}%\n", language.name(), share.rows, share.equal);
        }
        text += "\ncode_tokens_plain: tokens of harvest's default dialect, compared with the record's tokens without comments.\n";
        for ((language, field), differences) in &self.differences {
            let shown = if field == PLAIN { MAX_KINDS_OF_PLAIN } else { usize::MAX };
            for Difference { kind, rows, example } in differences.iter().take(shown) {
                text += &format!("\n{language} {field}: {kind} ({rows} rows)\n  {}\n", example.replace('\n', "\n  "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"repo": "o/r", "path": "a.py", "func_name": "NAME", "language": "python", "code": "def f(a):\n  return a",
        "code_tokens": ["def", "f", "(", "a", ")", ":", "return", "a"], "docstring": "", "docstring_tokens": [],
        "url": "https://host/NAME", "partition": "test"}"#;

    /// Records of functions `f`, of which some have another name.
    fn measured(names: &[&str]) -> Fidelity {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = names.iter().map(|name| LINE.replace("NAME", name).replace('\n', " ")).collect();
        std::fs::write(dir.path().join("a.jsonl"), lines.join("\n") + "\nno record\n").unwrap();
        measure(dir.path()).unwrap()
    }

    #[test]
    fn agreement_is_counted_by_language_and_field() {
        let flat = measured(&["f", "g", "f", "f"]).flat();
        assert_eq!(flat["agreement.python.func_name"], 0.75);
        assert_eq!(flat["rows.python.func_name"], 4);
        assert_eq!(flat["agreement.python.code_tokens"], 1.0);
        assert_eq!(flat["unreadable"], 1);
    }

    #[test]
    fn a_kind_of_difference_is_shown_with_its_first_example() {
        let text = measured(&["f", "g", "h"]).text();
        assert!(text.contains("python func_name: other (2 rows)\n  https://host/g\n"), "{text}");
    }

    #[test]
    fn counts_of_parts_add_up() {
        let record = || crate::records::parse(LINE.replace('\n', " ").as_bytes(), Default::default()).unwrap();
        let parts = vec![counts_of(vec![record()]).unwrap(), counts_of(vec![record(), record()]).unwrap()];
        let shares = shares(&sum(parts).unwrap()).unwrap();
        assert_eq!(shares[&(Language::Python, "code_tokens".to_owned())], Share { equal: 3, rows: 3 });
    }
}
