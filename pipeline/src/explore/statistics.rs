//! Counts over the rows of the tables, computed by polars' streaming engine from the Parquet files.

use std::{collections::BTreeMap, path::Path};

use ledger::{Language, Progress, Shards, Split};
use polars::prelude::*;

use crate::error::{Context, Result};

/// Upper edges of the histograms' bins. One more bin has no upper edge.
pub const EDGES: [u64; 14] = [1, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000];
/// Repositories in the list of the largest ones.
const LARGEST_REPOS: u32 = 20;
/// Samples per language.
const SAMPLES: u32 = 3;
/// Tokens of a list in a sample.
const SAMPLE_TOKENS: usize = 120;

/// Rows by bin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    pub bins: [u64; EDGES.len() + 1],
    pub rows: u64,
    pub sum: u64,
    pub max: u64,
}

impl Histogram {
    /// Mean of the values; 0 without rows.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.rows.max(1) as f64
    }
}

/// A row as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub split: String,
    pub func_name: String,
    pub url: String,
    pub code: String,
    pub docstring: String,
    pub signature: String,
    pub structure: String,
    pub ast: String,
}

/// All counts of the page.
#[derive(Debug, Default)]
pub struct Statistics {
    pub rows: BTreeMap<(Language, Split), u64>,
    pub repos: u64,
    /// Name and rows of the largest repositories, the largest first.
    pub largest_repos: Vec<(String, u64)>,
    /// By quantity, then by language.
    pub histograms: BTreeMap<&'static str, BTreeMap<Language, Histogram>>,
    /// Rows with syntax errors.
    pub errors: BTreeMap<Language, u64>,
    /// The rows with the smallest ids. Ids are hashes, so the choice is arbitrary, and equal in every run.
    pub samples: BTreeMap<Language, Vec<Sample>>,
    /// Reason and lines, the most frequent reason first.
    pub rejects: Vec<(String, u64)>,
    /// Rows that duplicate an earlier row.
    pub duplicates: BTreeMap<Language, u64>,
}

impl Statistics {
    /// Counts the rows of `shards`. `functions`: folder of the functions artifact; `tokens`: folder of the tokens artifact.
    /// `is_parsed`: the shards have the columns of stage `parse`.
    pub fn of(functions: &Path, shards: &Shards, is_parsed: bool, tokens: Option<&Path>, progress: &Progress) -> Result<Self> {
        let rows = scan(shards.iter().map(|shard| (shard.path.as_path(), shard.split)))?;
        let length = |name: &str| col(name).list().len();
        let mut quantities = vec![("code tokens", length("code_tokens")), ("documentation tokens", length("docstring_tokens"))];
        if is_parsed {
            quantities.extend([
                ("syntax nodes", col("nodes")),
                ("depth of the tree", col("depth")),
                ("cyclomatic complexity", col("cyclomatic")),
            ]);
        }
        let steps = quantities.len() as u64 + if tokens.is_some() { 5 } else { 3 };
        let bar = progress.bar("explore", steps, "steps");
        let mut statistics = Self::default();
        statistics.count_rows(&rows, is_parsed)?;
        bar.add(1);
        for (quantity, value) in quantities {
            statistics.histograms.insert(quantity, histograms(&rows, value)?);
            bar.add(1);
        }
        if let Some(tokens) = tokens {
            let shards = shards.iter().map(|shard| (tokens.join(&shard.name), shard.split)).filter(|(path, _)| path.is_file());
            let shards: Vec<_> = shards.collect();
            let ids = scan(shards.iter().map(|(path, split)| (path.as_path(), *split)))?;
            for (quantity, column) in [("ids of code, truncated", "code"), ("ids of a query, truncated", "query")] {
                statistics.histograms.insert(quantity, histograms(&ids, length(column))?);
                bar.add(1);
            }
        }
        statistics.samples = samples(&rows, statistics.languages(), is_parsed)?;
        bar.add(1);
        statistics.rejects = rejects(functions)?;
        statistics.duplicates = duplicates(&rows)?;
        bar.add(1);
        bar.finish();
        Ok(statistics)
    }

    fn languages(&self) -> Vec<Language> {
        let mut languages: Vec<Language> = self.rows.keys().map(|(language, _)| *language).collect();
        languages.dedup();
        languages
    }

    fn count_rows(&mut self, rows: &LazyFrame, is_parsed: bool) -> Result<()> {
        let counts = collect(rows.clone().group_by([col("language"), col("split")]).agg([count()]))?;
        for row in 0..counts.height() {
            let key = (text(&counts, "language", row)?.parse()?, text(&counts, "split", row)?.parse()?);
            self.rows.insert(key, number(&counts, "count", row)?);
        }
        if is_parsed {
            let errors = col("parse_error").cast(DataType::UInt64).sum();
            let errors = collect(rows.clone().group_by([col("language")]).agg([errors]))?;
            for row in 0..errors.height() {
                self.errors.insert(text(&errors, "language", row)?.parse()?, number(&errors, "parse_error", row)?);
            }
        }
        let repos = rows.clone().group_by([col("repo")]).agg([count()]);
        let largest = SortMultipleOptions::default().with_order_descending_multi([true, false]);
        let largest = collect(repos.clone().sort(["count", "repo"], largest).limit(LARGEST_REPOS))?;
        self.largest_repos =
            (0..largest.height()).map(|row| Ok((text(&largest, "repo", row)?, number(&largest, "count", row)?))).collect::<Result<_>>()?;
        self.repos = number(&collect(repos.select([count()]))?, "count", 0)?;
        Ok(())
    }
}

/// The shards as one table, with a column `split`.
fn scan<'a>(shards: impl Iterator<Item = (&'a Path, Split)>) -> Result<LazyFrame> {
    let frames = shards.map(|(path, split)| {
        let frame = LazyFrame::scan_parquet(PlRefPath::new(path.to_string_lossy()), ScanArgsParquet::default())?;
        Ok(frame.with_column(lit(split.name()).alias("split")))
    });
    Ok(concat(frames.collect::<Result<Vec<_>>>()?, UnionArgs::default())?)
}

fn collect(frame: LazyFrame) -> Result<DataFrame> {
    Ok(frame.collect_with_engine(Engine::Streaming)?.unwrap_single())
}

/// Number of rows, as column `count`.
fn count() -> Expr {
    len().cast(DataType::UInt64).alias("count")
}

fn text(frame: &DataFrame, column: &str, row: usize) -> Result<String> {
    Ok(frame.column(column)?.str()?.get(row).with_context(|| format!("column {column} is null"))?.to_owned())
}

fn number(frame: &DataFrame, column: &str, row: usize) -> Result<u64> {
    Ok(frame.column(column)?.u64()?.get(row).unwrap_or_default())
}

/// The first `max` texts of a list, joined by spaces.
fn list(frame: &DataFrame, column: &str, row: usize, max: usize) -> Result<String> {
    let Some(texts) = frame.column(column)?.list()?.get_as_series(row) else { return Ok(String::new()) };
    Ok(texts.str()?.iter().flatten().take(max).collect::<Vec<_>>().join(" "))
}

/// A histogram of a value, by language. The bin of a value is the number of edges below it.
fn histograms(rows: &LazyFrame, value: Expr) -> Result<BTreeMap<Language, Histogram>> {
    let bin = EDGES.into_iter().map(|edge| col("value").gt(lit(edge)).cast(DataType::UInt64)).reduce(|bin, above| bin + above);
    let bin = bin.context("a histogram has edges")?.alias("bin");
    let values = rows.clone().select([col("language"), value.cast(DataType::UInt64).alias("value")]).with_column(bin);
    let totals = [count(), col("value").sum().alias("sum"), col("value").max().alias("max")];
    let bins = collect(values.group_by([col("language"), col("bin")]).agg(totals))?;
    let mut histograms: BTreeMap<Language, Histogram> = BTreeMap::new();
    for row in 0..bins.height() {
        let histogram = histograms.entry(text(&bins, "language", row)?.parse()?).or_default();
        let count = number(&bins, "count", row)?;
        histogram.bins[usize::try_from(number(&bins, "bin", row)?)?] += count;
        histogram.rows += count;
        histogram.sum += number(&bins, "sum", row)?;
        histogram.max = histogram.max.max(number(&bins, "max", row)?);
    }
    Ok(histograms)
}

/// The rows with the smallest ids of each language. The ids are found first, so that other columns are read for few rows only.
fn samples(rows: &LazyFrame, languages: Vec<Language>, is_parsed: bool) -> Result<BTreeMap<Language, Vec<Sample>>> {
    let mut columns = vec!["id", "split", "func_name", "url", "code", "docstring"];
    if is_parsed {
        columns.extend(["signature", "structure", "ast_tokens"]);
    }
    let columns: Vec<Expr> = columns.into_iter().map(col).collect();
    let mut samples = BTreeMap::new();
    for language in languages {
        let of_language = rows.clone().filter(col("language").eq(lit(language.name())));
        let ids = of_language.clone().select([col("id")]).sort(["id"], SortMultipleOptions::default()).limit(SAMPLES);
        let ids = collect(ids)?;
        let frame = of_language.select(columns.clone()).join(ids.lazy(), [col("id")], [col("id")], JoinArgs::new(JoinType::Semi));
        let frame = collect(frame.sort(["id"], SortMultipleOptions::default()))?;
        let of_row = |row: usize| -> Result<Sample> {
            let cut = |column: &str, chars: usize| Ok::<_, crate::Error>(text(&frame, column, row)?.chars().take(chars).collect());
            let tokens = |column: &str| if is_parsed { list(&frame, column, row, SAMPLE_TOKENS) } else { Ok(String::new()) };
            Ok(Sample {
                split: text(&frame, "split", row)?,
                func_name: text(&frame, "func_name", row)?,
                url: text(&frame, "url", row)?,
                code: cut("code", 1500)?,
                docstring: cut("docstring", 800)?,
                signature: if is_parsed { text(&frame, "signature", row)? } else { String::new() },
                structure: tokens("structure")?,
                ast: tokens("ast_tokens")?,
            })
        };
        samples.insert(language, (0..frame.height()).map(of_row).collect::<Result<_>>()?);
    }
    Ok(samples)
}

/// Rejected lines by reason, the most frequent reason first; of `rejects.parquet`.
fn rejects(functions: &Path) -> Result<Vec<(String, u64)>> {
    let path = functions.join("rejects.parquet");
    let table = LazyFrame::scan_parquet(PlRefPath::new(path.to_string_lossy()), ScanArgsParquet::default())?;
    let order = SortMultipleOptions::default().with_order_descending_multi([true, false]);
    let reasons = collect(table.group_by([col("reason")]).agg([count()]).sort(["count", "reason"], order))?;
    (0..reasons.height()).map(|row| Ok((text(&reasons, "reason", row)?, number(&reasons, "count", row)?))).collect()
}

/// Rows that duplicate an earlier row, by language.
fn duplicates(rows: &LazyFrame) -> Result<BTreeMap<Language, u64>> {
    let duplicates = rows.clone().filter(col("duplicate_of").is_not_null());
    let counts = collect(duplicates.group_by([col("language")]).agg([count()]))?;
    (0..counts.height()).map(|row| Ok((text(&counts, "language", row)?.parse()?, number(&counts, "count", row)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: &[u64]) -> LazyFrame {
        let languages = Column::new("language".into(), vec!["go"; values.len()]);
        DataFrame::new(values.len(), vec![languages, Column::new("n".into(), values.to_vec())]).unwrap().lazy()
    }

    #[test]
    fn a_value_is_in_the_bin_of_the_first_edge_that_is_not_smaller() {
        let histogram = histograms(&frame(&[0, 1, 2, 1000, 1001]), col("n")).unwrap().remove(&Language::Go).unwrap();
        assert_eq!((histogram.bins[0], histogram.bins[1], histogram.bins[13], histogram.bins[14]), (2, 1, 1, 1));
        assert_eq!((histogram.rows, histogram.max), (5, 1001));
        assert!((histogram.mean() - 2004.0 / 5.0).abs() < 1e-12);
    }
}
