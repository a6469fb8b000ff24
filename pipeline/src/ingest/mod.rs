//! `ingest`: CodeSearchNet jsonl to validated, de-duplicated, sharded Parquet. What is not taken
//! becomes a row of `rejects.parquet` with its reason; nothing is lost.

mod lines;
mod near_duplicates;
mod record;
mod survey;
mod tables;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use ledger::{Artifact, Functions, Raw, Report, Rows, Run, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::harvest::REPOS;
use lines::{HEAD_BYTES, Lines};
use near_duplicates::{Bag, Kept, Signature};
use record::{Reasons, Record, Reject};
use tables::{DuplicatesWriter, FunctionsWriter, RejectsWriter};

pub use near_duplicates::Thresholds;

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
    /// Go on when a repository is in two splits.
    pub allow_split_leaks: bool,
    pub duplicates: Thresholds,
}

/// Rows by language and split, and what was left out for which reason.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestReport {
    pub files: u64,
    pub lines: u64,
    pub written: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub repos: u64,
    pub reasons: Reasons,
    pub rows: BTreeMap<String, u64>,
    pub documented: BTreeMap<String, u64>,
}

impl Report for IngestReport {
    fn rows(&self) -> Rows {
        Rows { read: self.lines, written: self.written, rejected: self.rejected + self.duplicates }
    }
}

/// Lines, and bytes of lines, that are parsed in parallel at a time.
const BATCH_LINES: usize = 4096;
const BATCH_BYTES: usize = 64 << 20;

/// A line after the parallel part.
enum Checked {
    Row(Box<(String, Record, Bag, Signature)>),
    Rejected(Reject, Vec<u8>),
}

struct Place {
    file: String,
    line: u64,
    offset: u64,
}

/// 128 bits of blake3 over (language, repo, path, code), in hex: stable across runs.
fn row_id(record: &Record) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [record.language.name(), &record.repo, &record.path, &record.code] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

fn check(content: Result<Vec<u8>, (Reject, Vec<u8>)>) -> Checked {
    match content.and_then(|line| record::parse(&line).map_err(|reject| (reject, line[..line.len().min(HEAD_BYTES)].to_vec()))) {
        Ok(record) => {
            let bag = Bag::new(record.code_tokens.iter().map(String::as_str));
            let signature = bag.signature();
            Checked::Row(Box::new((row_id(&record), record, bag, signature)))
        }
        Err((reject, head)) => Checked::Rejected(reject, head),
    }
}

/// Where rows go, one after the other.
struct Sink<'a> {
    functions: FunctionsWriter<'a>,
    rejects: RejectsWriter,
    duplicates: DuplicatesWriter,
    kept: Kept,
    kept_ids: Vec<String>,
    seen: HashMap<String, ()>,
    report: IngestReport,
}

impl Sink<'_> {
    fn take(&mut self, place: &Place, checked: Checked) -> Result<()> {
        self.report.lines += 1;
        let (reject, head) = match checked {
            Checked::Rejected(reject, head) => (reject, head),
            Checked::Row(row) => {
                let (id, record, bag, signature) = *row;
                if self.seen.insert(id.clone(), ()).is_some() {
                    self.duplicates.write(id.clone(), id, record.url.clone())?;
                    (Reject::ExactDuplicate, record.func_name.into_bytes())
                } else {
                    match self.kept.offer(bag, &signature) {
                        Ok(_) => {
                            self.kept_ids.push(id.clone());
                            self.report.written += 1;
                            return self.functions.write(id, record);
                        }
                        Err(kept) => {
                            self.duplicates.write(id, self.kept_ids[kept as usize].clone(), record.url.clone())?;
                            (Reject::NearDuplicate, record.func_name.into_bytes())
                        }
                    }
                }
            }
        };
        self.report.reasons.count(&reject);
        if reject.is_duplicate() {
            self.report.duplicates += 1;
        } else {
            self.report.rejected += 1;
        }
        self.rejects.write(&place.file, place.line, place.offset, &reject.to_string(), &head)
    }
}

impl Stage for Ingest {
    const NAME: &'static str = "ingest";
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = Artifact<Raw>;
    type Output = Functions;
    type Report = IngestReport;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<IngestReport> {
        let raw = input.open()?;
        let licences = licences(&raw.dir)?;
        let report = IngestReport {
            files: 0,
            lines: 0,
            written: 0,
            rejected: 0,
            duplicates: 0,
            repos: 0,
            reasons: Reasons::default(),
            rows: BTreeMap::new(),
            documented: BTreeMap::new(),
        };
        let mut sink = Sink {
            functions: FunctionsWriter::new(run.out, config.shards, &licences)?,
            rejects: RejectsWriter::create(&run.out.join("rejects.parquet"))?,
            duplicates: DuplicatesWriter::create(&run.out.join("duplicates.parquet"))?,
            kept: Kept::new(config.duplicates.clone()),
            kept_ids: Vec::new(),
            seen: HashMap::new(),
            report,
        };
        // Known when all of it was harvested; lines of a CodeSearchNet folder are counted by reading them.
        let harvested = &input.manifest().report;
        let total = if harvested["csn_files"] == 0 { harvested["functions"].as_u64().unwrap_or_default() } else { 0 };
        let bar = run.progress.bar("ingest", total, "rows");
        for path in raw.files.iter().filter(|path| path.as_os_str() != REPOS) {
            let file = path.display().to_string();
            bar.note(file.clone());
            sink.report.files += 1;
            let mut lines = Lines::open(&raw.dir.join(path), config.max_line_bytes)?.peekable();
            while lines.peek().is_some() {
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
                    let Some(line) = lines.next() else { break };
                    bytes += line.content.as_ref().map_or(0, Vec::len);
                    batch.push(line);
                }
                let checked: Vec<_> = batch
                    .into_par_iter()
                    .map(|line| (Place { file: file.clone(), line: line.number, offset: line.offset }, check(line.content)))
                    .collect();
                bar.add(checked.len() as u64);
                for (place, checked) in checked {
                    sink.take(&place, checked)?;
                }
            }
        }
        bar.finish();
        let Sink { functions, rejects, duplicates, mut report, .. } = sink;
        functions.finish()?;
        rejects.finish()?;
        duplicates.finish()?;
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
        let survey = survey::survey(run.out, !config.allow_split_leaks)?;
        report.repos = survey.repos;
        report.rows = survey.rows;
        report.documented = survey.documented;
        Ok(report)
    }
}

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
