//! `ingest`: CodeSearchNet in any of its layouts to validated, de-duplicated, sharded Parquet. What is not
//! taken becomes a row of `rejects.parquet` with its reason; nothing is lost.

mod bag;
mod codebase;
mod documents;
mod lines;
mod near_duplicates;
mod recall;
mod record;
mod sink;
mod survey;
mod tables;
mod texts;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use ledger::{Artifact, Bar, Functions, Raw, Report, Rows, Run, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::harvest::{self, REPOS};
use codebase::Queries;
use documents::{Content, HEAD_BYTES, Item};
use record::{Reasons, Reject};
use sink::{Checked, Place, Row, Sink};

use bag::{Bag, Sketch};
use near_duplicates::Kept;
pub use near_duplicates::Thresholds;
pub use recall::Recall;
pub use record::{Hints, Record, parse as record_from_json};

/// The stage.
#[derive(Debug)]
pub struct Ingest;

/// Section `ingest`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Buckets a split: the grain of what a nightly run makes again.
    pub shards: usize,
    pub max_line_bytes: usize,
    /// A run that rejects more than this share of its lines fails, with the reasons.
    pub max_reject_fraction: f64,
    pub split_leaks: SplitLeaks,
    /// None keeps them all: a benchmark's candidates are as many as it says.
    pub duplicates: Option<Thresholds>,
}

/// What to do when a repository is in two splits: its code would leak into evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitLeaks {
    /// Fail, and name how many.
    Refuse,
    /// Keep a repository's rows of the split in which it is met first, in the order of the files; reject the others.
    Drop,
    Keep,
}

/// Rows by language and split, and what was left out for which reason.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IngestReport {
    pub files: u64,
    pub lines: u64,
    pub written: u64,
    pub rejected: u64,
    pub duplicates: u64,
    /// Queries of GraphCodeBERT's files, which hold no code: joined to their code in `codebase.jsonl`.
    pub joined: u64,
    /// Duplicates of a row in another split, as `<its split>_of_<the kept row's split>`: leaks that were closed.
    pub cross_split_duplicates: BTreeMap<String, u64>,
    pub repos: u64,
    pub reasons: Reasons,
    pub rows: BTreeMap<String, u64>,
    pub documented: BTreeMap<String, u64>,
}

impl Report for IngestReport {
    fn rows(&self) -> Rows {
        Rows { read: self.lines, written: self.written, rejected: self.rejected + self.duplicates + self.joined }
    }
}

/// Lines, and bytes of lines, that are parsed in parallel at a time.
const BATCH_LINES: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

fn check(item: Item, document: &str, hints: Hints, queries: &Queries) -> Checked {
    let record = match item.content {
        Content::Row(record) => Ok(*record),
        Content::Rejected(reject, head) => Err((reject, head)),
        Content::Line(line) => match record_from_json(&line, hints) {
            Err(Reject::EmptyCode) if queries.has(&line) => return Checked::Joined,
            result => result.map_err(|reject| (reject, line[..line.len().min(HEAD_BYTES)].to_vec())),
        },
    };
    match record {
        Ok(mut record) => {
            queries.complete(document, &mut record);
            Checked::Row(Box::new(Row::new(record)))
        }
        Err((reject, head)) => Checked::Rejected(reject, head),
    }
}

/// Items that are parsed in parallel at a time.
fn next_batch(items: &mut dyn Iterator<Item = Item>) -> Vec<Item> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
        let Some(item) = items.next() else { break };
        bytes += match &item.content {
            Content::Line(line) => line.len(),
            Content::Row(row) => row.code.len() + row.docstring.len(),
            Content::Rejected(_, head) => head.len(),
        };
        batch.push(item);
    }
    batch
}

/// Puts all items into the tables, in their order: while one batch goes in, the next is read and checked.
fn take_all(
    sink: &mut Sink<'_>,
    items: &mut dyn Iterator<Item = Item>,
    checked: &(dyn Fn(Item) -> (Place, Checked) + Sync),
    bar: &Bar,
) -> Result<()> {
    let mut ready = Vec::new();
    loop {
        let mut taken = Ok(());
        let next: Vec<(Place, Checked)> = rayon::in_place_scope(|scope| {
            scope.spawn(|_| taken = sink.take(std::mem::take(&mut ready)));
            next_batch(items).into_par_iter().map(checked).collect()
        });
        taken?;
        bar.add(next.len() as u64);
        if next.is_empty() {
            return Ok(());
        }
        ready = next;
    }
}

impl Stage for Ingest {
    const NAME: &'static str = "ingest";
    const ABOUT: &'static str = "Validate records, remove near-duplicates and write Parquet shards";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = Artifact<Raw>;
    type Output = Functions;
    type Report = IngestReport;
    type Error = anyhow::Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<IngestReport> {
        let raw = input.open()?;
        let licences = licences(&raw.dir)?;
        let mut sink = Sink::new(run.out, config, &licences)?;
        // Known when all of it was harvested; lines of a CodeSearchNet folder are counted by reading them.
        let harvested = &input.manifest().report;
        let total = if harvested["csn_files"] == 0 { harvested["functions"].as_u64().unwrap_or_default() } else { 0 };
        let bar = run.progress.bar("ingest", total, "rows");
        let mut queries = Queries::default();
        for path in raw.files.iter().filter(|path| path.as_os_str() != REPOS) {
            let file = path.display().to_string();
            bar.note(file.clone());
            queries.of_folder(&raw.dir, path, config.max_line_bytes)?;
            documents::read(&raw.dir.join(path), &file, config.max_line_bytes, &mut |name, items| {
                sink.report.files += 1;
                let hints = Hints::of(name);
                let checked = |item: Item| {
                    let place = Place { file: name.to_owned(), line: item.number, offset: item.offset };
                    (place, check(item, name, hints, &queries))
                };
                take_all(&mut sink, items, &checked, &bar)
            })?;
        }
        bar.finish();
        let mut report = sink.finish()?;
        let fraction = report.rejected as f64 / report.lines.max(1) as f64;
        ensure!(
            fraction <= config.max_reject_fraction,
            "{:.1} % of {} lines rejected, more than ingest.max-reject-fraction allows ({:.1} %): {}",
            fraction * 100.0,
            report.lines,
            config.max_reject_fraction * 100.0,
            reasons_of(&report)
        );
        ensure!(report.written > 0, "no row was taken of {} lines: {}", report.lines, reasons_of(&report));
        let survey = survey::survey(run.out, config.split_leaks == SplitLeaks::Refuse)?;
        report.repos = survey.repos;
        report.rows = survey.rows;
        report.documented = survey.documented;
        Ok(report)
    }
}

/// Offers every record below a folder, in any layout; `None` for a line that is none.
pub fn each_record(folder: &Path, take: &mut dyn FnMut(Option<Record>) -> Result<()>) -> Result<()> {
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    for path in harvest::data_files(folder)?.0 {
        documents::read(&folder.join(&path), &path, MOST_LINE_BYTES, &mut |name, items| {
            let hints = Hints::of(name);
            for item in items {
                take(match item.content {
                    Content::Row(record) => Some(*record),
                    Content::Line(line) => record_from_json(&line, hints).ok(),
                    Content::Rejected(Reject::UnknownFileType, _) => continue,
                    Content::Rejected(..) => None,
                })?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A line of a folder that is read without a configuration.
const MOST_LINE_BYTES: usize = 64 << 20;

fn reasons_of(report: &IngestReport) -> String {
    report.reasons.0.iter().map(|(reason, count)| format!("{reason}: {count}")).collect::<Vec<_>>().join(", ")
}

#[derive(Deserialize)]
struct RepoLicence {
    name: String,
    licence: String,
}

/// Licence by repository, where the harvest recorded it.
fn licences(raw: &Path) -> Result<BTreeMap<String, String>> {
    let path = raw.join(REPOS);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let repos: Vec<RepoLicence> =
        serde_json::from_slice(&std::fs::read(&path)?).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(repos.into_iter().map(|repo| (repo.name, repo.licence)).collect())
}
