//! Counts over the rows of the tables, shard by shard.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::Result;
use arrow::array::{Array, BooleanArray, RecordBatch};
use ledger::{Language, Progress, Shards, Split, table};
use rayon::prelude::*;

/// Upper edges of the histograms' bins, the last one open.
pub const EDGES: [u64; 14] = [1, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000];

/// Rows by bin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    pub bins: [u64; EDGES.len() + 1],
    pub rows: u64,
    pub sum: u64,
    pub max: u64,
}

/// A row as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub id: String,
    pub split: Split,
    pub func_name: String,
    pub url: String,
    pub code: String,
    pub docstring: String,
    pub signature: String,
    pub structure: String,
    pub ast: String,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Statistics {
    pub rows: BTreeMap<(Language, Split), u64>,
    pub repos: HashMap<String, u64>,
    /// By what is measured, then by language.
    pub histograms: BTreeMap<&'static str, BTreeMap<Language, Histogram>>,
    pub errors: BTreeMap<Language, u64>,
    /// Rows of the smallest ids, which are hashes: chosen blindly, and the same every time.
    pub samples: BTreeMap<Language, Vec<Sample>>,
}

/// Samples a language.
const SAMPLES: usize = 3;

impl Histogram {
    pub fn add(&mut self, value: u64) {
        let bin = EDGES.iter().position(|&edge| value <= edge).unwrap_or(EDGES.len());
        self.bins[bin] += 1;
        self.rows += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    fn merge(&mut self, other: &Self) {
        self.bins.iter_mut().zip(other.bins).for_each(|(bin, more)| *bin += more);
        self.rows += other.rows;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.rows.max(1) as f64
    }
}

impl Statistics {
    /// Reads every shard, and its tokens where there are any.
    pub fn of(shards: &Shards, tokens: Option<&Path>, progress: &Progress) -> Result<Self> {
        let bar = progress.bar("explore", shards.rows()?, "rows");
        let all: Vec<&ledger::Shard> = shards.iter().collect();
        let parts: Vec<Self> = all
            .into_par_iter()
            .map(|shard| {
                let mut part = Self::default();
                for batch in table::read(&shard.path, &[])? {
                    let batch = batch?;
                    part.rows_of(&batch, shard.split)?;
                    bar.add(batch.num_rows() as u64);
                }
                if let Some(path) = tokens.map(|dir| dir.join(&shard.name)).filter(|path| path.is_file()) {
                    for batch in table::read(&path, &["language", "code", "query"])? {
                        part.tokens_of(&batch?)?;
                    }
                }
                Ok(part)
            })
            .collect::<Result<_>>()?;
        bar.finish();
        let mut total = Self::default();
        parts.into_iter().for_each(|part| total.merge(part));
        Ok(total)
    }

    fn count(&mut self, what: &'static str, language: Language, value: usize) {
        self.histograms.entry(what).or_default().entry(language).or_default().add(value as u64);
    }

    fn rows_of(&mut self, batch: &RecordBatch, split: Split) -> Result<()> {
        let text = |name: &str| table::texts(batch, name);
        let (ids, languages, repos, names) = (text("id")?, text("language")?, text("repo")?, text("func_name")?);
        let (codes, docstrings, urls) = (text("code")?, text("docstring")?, text("url")?);
        let (code_tokens, doc_tokens) = (table::text_lists(batch, "code_tokens")?, table::text_lists(batch, "docstring_tokens")?);
        let is_parsed = batch.column_by_name("ast_tokens").is_some();
        let signatures = is_parsed.then(|| text("signature")).transpose()?;
        let structures = is_parsed.then(|| table::text_lists(batch, "structure")).transpose()?;
        let asts = is_parsed.then(|| table::text_lists(batch, "ast_tokens")).transpose()?;
        let numbers = [("syntax nodes", "nodes"), ("depth of the tree", "depth"), ("cyclomatic complexity", "cyclomatic")];
        let numbers = if is_parsed {
            numbers.into_iter().map(|(what, name)| Ok((what, table::u32s(batch, name)?))).collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        let errors = batch.column_by_name("parse_error").and_then(|column| column.as_any().downcast_ref::<BooleanArray>().cloned());
        for row in 0..batch.num_rows() {
            let language: Language = languages.value(row).parse()?;
            *self.rows.entry((language, split)).or_default() += 1;
            *self.repos.entry(repos.value(row).to_owned()).or_default() += 1;
            self.count("code tokens", language, code_tokens.row(row).count());
            self.count("documentation tokens", language, doc_tokens.row(row).count());
            for (what, values) in &numbers {
                self.count(what, language, values.value(row) as usize);
            }
            *self.errors.entry(language).or_default() += u64::from(errors.as_ref().is_some_and(|errors| errors.value(row)));
            let samples = self.samples.entry(language).or_default();
            let id = ids.value(row);
            if samples.len() >= SAMPLES && samples.last().is_some_and(|last| last.id.as_str() <= id) {
                continue;
            }
            let joined = |lists: &Option<table::Lists<arrow::array::StringArray>>| {
                lists.as_ref().map(|lists| lists.row(row).take(120).collect::<Vec<_>>().join(" ")).unwrap_or_default()
            };
            samples.push(Sample {
                id: id.to_owned(),
                split,
                func_name: names.value(row).to_owned(),
                url: urls.value(row).to_owned(),
                code: codes.value(row).chars().take(1500).collect(),
                docstring: docstrings.value(row).chars().take(800).collect(),
                signature: signatures.as_ref().map(|texts| texts.value(row).to_owned()).unwrap_or_default(),
                structure: joined(&structures),
                ast: joined(&asts),
            });
            samples.sort_by(|a, b| a.id.cmp(&b.id));
            samples.truncate(SAMPLES);
        }
        Ok(())
    }

    fn tokens_of(&mut self, batch: &RecordBatch) -> Result<()> {
        let languages = table::texts(batch, "language")?;
        let (codes, queries) = (table::id_lists(batch, "code")?, table::id_lists(batch, "query")?);
        for row in 0..batch.num_rows() {
            let language: Language = languages.value(row).parse()?;
            self.count("ids of code, cut to its limit", language, codes.row(row).len());
            self.count("ids of a query, cut to its limit", language, queries.row(row).len());
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        other.rows.into_iter().for_each(|(key, count)| *self.rows.entry(key).or_default() += count);
        other.repos.into_iter().for_each(|(key, count)| *self.repos.entry(key).or_default() += count);
        other.errors.into_iter().for_each(|(key, count)| *self.errors.entry(key).or_default() += count);
        for (what, languages) in other.histograms {
            for (language, histogram) in languages {
                self.histograms.entry(what).or_default().entry(language).or_default().merge(&histogram);
            }
        }
        for (language, samples) in other.samples {
            let all = self.samples.entry(language).or_default();
            all.extend(samples);
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all.truncate(SAMPLES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bin_of_the_first_edge_that_holds_it() {
        let mut histogram = Histogram::default();
        [0, 1, 2, 1000, 1001].into_iter().for_each(|value| histogram.add(value));
        assert_eq!((histogram.bins[0], histogram.bins[1], histogram.bins[13], histogram.bins[14]), (2, 1, 1, 1));
        assert_eq!((histogram.rows, histogram.max), (5, 1001));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.rows, twice.bins[0]), (10, 4));
        assert!((twice.mean() - histogram.mean()).abs() < 1e-12);
    }
}
