//! Counts of the written tables, computed by polars' streaming engine from the Parquet files.

use std::{collections::BTreeMap, path::Path};

use ledger::{Split, ensure};
use polars::prelude::*;

use crate::error::{Context, Result};

/// Rows of the corpus.
pub struct Survey {
    /// Rows by `<language>_<split>`.
    pub rows: BTreeMap<String, u64>,
    /// Rows with documentation, by `<language>_<split>`.
    pub documented: BTreeMap<String, u64>,
    /// Number of repositories.
    pub repos: u64,
}

/// Counts the rows of the shards below `root` by language and split. With `strict`, a repository in two splits is an error.
///
/// Memory: one batch per thread, and the names of the repositories; no table is collected.
pub fn survey(root: &Path, strict: bool) -> Result<Survey> {
    let all = scan(root)?;
    let counts = all
        .clone()
        .group_by([col("language"), col("split")])
        .agg([len().cast(DataType::UInt64).alias("rows"), col("documented").cast(DataType::UInt64).sum().alias("documented")])
        .collect_with_engine(Engine::Streaming)?
        .unwrap_single();
    let repos = all
        .group_by([col("repo")])
        .agg([col("split").n_unique().alias("splits")])
        .select([len().cast(DataType::UInt64).alias("repos"), col("splits").gt(lit(1)).cast(DataType::UInt64).sum().alias("leaking")])
        .collect_with_engine(Engine::Streaming)?
        .unwrap_single();
    let number = |name: &str| -> Result<u64> { Ok(repos.column(name)?.u64()?.get(0).unwrap_or_default()) };
    let leaking = number("leaking")?;
    ensure!(
        !strict || leaking == 0,
        "{leaking} repositories are in two splits: their code would leak into the evaluation; set ingest.split-leaks = drop to \
         reject the later rows, or keep to accept them"
    );
    let (language, split) = (counts.column("language")?.str()?, counts.column("split")?.str()?);
    let column = |name: &str| -> Result<BTreeMap<String, u64>> {
        let values = counts.column(name)?.u64()?;
        (0..counts.height())
            .map(|row| {
                let key = format!("{}_{}", language.get(row).context("language is null")?, split.get(row).context("split is null")?);
                Ok((key, values.get(row).unwrap_or_default()))
            })
            .collect()
    };
    Ok(Survey { rows: column("rows")?, documented: column("documented")?, repos: number("repos")? })
}

/// The shards of all splits, with the columns that are counted.
fn scan(root: &Path) -> Result<LazyFrame> {
    let mut frames = Vec::new();
    for split in Split::ALL {
        if std::fs::read_dir(root.join(split.name()))?.next().is_none() {
            continue;
        }
        let pattern = root.join(split.name()).join("*.parquet");
        let frame = LazyFrame::scan_parquet(PlRefPath::new(pattern.to_string_lossy()), ScanArgsParquet::default())?
            .select([col("language"), col("repo"), (col("docstring_tokens").list().len().gt(lit(0))).alias("documented")])
            .with_column(lit(split.name()).alias("split"));
        frames.push(frame);
    }
    ensure!(!frames.is_empty(), "no rows were written");
    Ok(concat(frames, UnionArgs::default())?)
}
