//! What the corpus looks like, asked of the written tables by polars (streaming, out of Parquet).

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use polars::prelude::*;

/// `<language>_<split>` to rows, and the number of repositories.
pub struct Survey {
    pub rows: BTreeMap<String, u64>,
    pub documented: BTreeMap<String, u64>,
    pub repos: u64,
}

/// Groups the shards by language and split, and refuses a corpus in which a repository is in two
/// splits when `strict`.
pub fn survey(root: &Path, strict: bool) -> Result<Survey> {
    let mut frames = Vec::new();
    for split in ledger::Split::ALL {
        if std::fs::read_dir(root.join(split.name()))?.next().is_none() {
            continue;
        }
        let pattern = root.join(split.name()).join("*.parquet");
        let path = PlRefPath::new(pattern.to_string_lossy());
        let frame = LazyFrame::scan_parquet(path, ScanArgsParquet::default())?
            .select([col("language"), col("repo"), (col("docstring_tokens").list().len().gt(lit(0))).alias("documented")])
            .with_column(lit(split.name()).alias("split"));
        frames.push(frame);
    }
    ensure!(!frames.is_empty(), "no rows were written");
    let all = concat(frames, UnionArgs::default())?;
    let counts = all
        .clone()
        .group_by([col("language"), col("split")])
        .agg([len().cast(DataType::UInt64).alias("rows"), col("documented").cast(DataType::UInt64).sum().alias("documented")])
        .collect()?;
    let repos = all.group_by([col("repo")]).agg([col("split").n_unique().cast(DataType::UInt64).alias("splits")]).collect()?;
    let leaking = repos.column("splits")?.u64()?.iter().flatten().filter(|&splits| splits > 1).count();
    ensure!(
        !strict || leaking == 0,
        "{leaking} repositories are in two splits: their code would leak into evaluation; set ingest.split-leaks = drop to leave the later rows out, or keep to go on"
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
    Ok(Survey { rows: column("rows")?, documented: column("documented")?, repos: repos.height() as u64 })
}
