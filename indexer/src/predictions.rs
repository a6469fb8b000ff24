//! Predictions for the CodeSearchNet challenge: `query,language,identifier,url`, best first.

use std::path::Path;

use bundle::{Bundle, Mode, Query};
use ledger::{Language, Progress, ensure};
use rayon::prelude::*;

use crate::{Result, error::Context};

/// Hits for each query and language.
const DEPTH: usize = 300;
/// Searches whose hits are written together.
const GROUP: usize = 64;

/// Searches with every query of a CSV with a column `query` in every language, and writes the hits to the CSV `out`; returns the number
/// of rows written. Languages that the bundle lacks are left out. Each alias is a hit of its own.
pub fn write(bundle: &Bundle, queries: &Path, out: &Path, languages: &[Language], mode: Mode, progress: &Progress) -> Result<usize> {
    let context = || format!("reading {}", queries.display());
    let mut reader = csv::Reader::from_path(queries).with_context(context)?;
    let column = reader.headers().with_context(context)?.iter().position(|name| name.trim() == "query");
    let column = column.with_context(|| format!("{} has no column `query`", queries.display()))?;
    let texts = reader
        .records()
        .map(|record| Ok(record.with_context(context)?.get(column).unwrap_or_default().to_owned()))
        .collect::<Result<Vec<String>>>()?;
    ensure!(!texts.is_empty(), "{} holds no queries: write one query a line below the header `query`", queries.display());
    let indexed: Vec<Language> =
        languages.iter().copied().filter(|language| bundle.manifest().languages.contains_key(language.name())).collect();
    ensure!(!indexed.is_empty(), "none of the languages is in the bundle: it holds {:?}", bundle.manifest().languages.keys());
    let searches: Vec<(Language, &String)> = indexed.iter().flat_map(|&language| texts.iter().map(move |text| (language, text))).collect();
    let bar = progress.bar("predict", searches.len() as u64, "queries");
    let mut writer = csv::Writer::from_path(out).with_context(|| format!("creating {}", out.display()))?;
    writer.write_record(["query", "language", "identifier", "url"])?;
    let mut rows = 0;
    for group in searches.chunks(GROUP) {
        let results = group
            .par_iter()
            .map(|&(language, text)| bundle.search(&Query::new(text).language(language).mode(mode).limit(DEPTH).group_aliases(false)))
            .collect::<bundle::Result<Vec<_>>>()?;
        bar.add(group.len() as u64);
        for ((language, text), hits) in group.iter().zip(&results) {
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
