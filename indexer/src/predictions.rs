//! Predictions for the CodeSearchNet challenge: `query,language,identifier,url`, best first.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ledger::{Language, Progress};
use rayon::prelude::*;

use crate::bundle::{Mode, OpenBundle, Query};

/// Results a query and language.
const DEPTH: usize = 300;
/// Queries answered before their rows are written.
const GROUP: usize = 64;

/// Answers every query of a csv with a column `query` in every language; returns the rows written.
pub fn write(bundle: &OpenBundle, queries: &Path, out: &Path, languages: &[Language], mode: Mode, progress: &Progress) -> Result<usize> {
    let context = || format!("reading {}", queries.display());
    let mut reader = csv::Reader::from_path(queries).with_context(context)?;
    let column = reader.headers().with_context(context)?.iter().position(|name| name.trim() == "query");
    let column = column.with_context(|| format!("{} has no column `query`", queries.display()))?;
    let texts = reader
        .records()
        .map(|record| Ok(record.with_context(context)?.get(column).unwrap_or_default().to_owned()))
        .collect::<Result<Vec<String>>>()?;
    ensure!(!texts.is_empty(), "{} holds no queries", queries.display());
    let indexed: Vec<Language> =
        languages.iter().copied().filter(|language| bundle.manifest().languages.contains_key(language.name())).collect();
    ensure!(!indexed.is_empty(), "none of the languages asked for is in the bundle: it holds {:?}", bundle.manifest().languages.keys());
    let asked: Vec<(Language, &String)> = indexed.iter().flat_map(|&language| texts.iter().map(move |text| (language, text))).collect();
    let bar = progress.bar("predict", asked.len() as u64, "queries");
    let mut writer = csv::Writer::from_path(out).with_context(|| format!("creating {}", out.display()))?;
    writer.write_record(["query", "language", "identifier", "url"])?;
    let mut rows = 0;
    for group in asked.chunks(GROUP) {
        let answers = group
            .par_iter()
            .map(|&(language, text)| {
                bundle.search(&Query { text: text.clone(), language: Some(language), mode, limit: DEPTH, ..Query::default() })
            })
            .collect::<Result<Vec<_>>>()?;
        bar.add(group.len() as u64);
        for ((language, text), hits) in group.iter().zip(&answers) {
            for hit in hits {
                writer.write_record([text.as_str(), language.name(), &hit.func_name, &hit.url])?;
                rows += 1;
            }
        }
    }
    bar.finish();
    writer.flush()?;
    Ok(rows)
}
