//! The stage `ingest`.

use ledger::{Artifact, Bar, Functions, Raw, Run, Stage, ensure};
use rayon::prelude::*;

use super::{
    codebase::CodebaseQueries,
    config::{Config, SplitLeaks},
    report::IngestReport,
    sink::{CheckedLine, LineLocation, Row, TableSink},
    survey,
};
use crate::{
    error::{Error, Result},
    records::{Content, HEAD_BYTES, Hints, Item, Reject, parse, read_documents},
    repositories::{self, FILES, REPOS},
};

/// Lines that are checked in parallel at a time, and their bytes.
const BATCH_LINES: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

/// Validates records, marks duplicates, and shards.
#[derive(Debug)]
pub struct Ingest;

impl Stage for Ingest {
    const NAME: &'static str = "ingest";
    const ABOUT: &'static str = "Validate records, mark near-duplicates and write Parquet shards";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = Artifact<Raw>;
    type Output = Functions;
    type Report = IngestReport;
    type Error = Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<IngestReport> {
        let raw = input.open()?;
        let licences = repositories::licences(&raw.dir)?;
        let mut sink = TableSink::new(run.out, config, &licences)?;
        // The number of rows is known where `harvest` extracted all of them; rows of copied files are not counted yet.
        let harvested = &input.manifest().report;
        let total = if harvested["csn_files"] == 0 { harvested["functions"].as_u64().unwrap_or_default() } else { 0 };
        let bar = run.progress.bar("ingest", total, "rows");
        let mut queries = CodebaseQueries::default();
        for path in raw.files.iter().filter(|path| [REPOS, FILES].iter().all(|name| path.as_os_str() != *name)) {
            let file = path.display().to_string();
            bar.note(file.clone());
            queries.read_folder_of(&raw.dir, path, config.max_line_bytes)?;
            read_documents(&raw.dir.join(path), &file, config.max_line_bytes, &mut |name, items| {
                sink.report.files += 1;
                let hints = Hints::of(name);
                let check = |item: Item| {
                    let location = LineLocation { file: name.to_owned(), line: item.number, offset: item.offset };
                    (location, check_item(item, name, hints, &queries))
                };
                write_items(&mut sink, items, &check, &bar)
            })?;
        }
        bar.finish();
        let mut report = sink.finish()?;
        check_rejects(&report, config)?;
        let survey = survey::survey(run.out, config.split_leaks == SplitLeaks::Refuse)?;
        report.repos = survey.repos;
        report.rows = survey.rows;
        report.documented = survey.documented;
        Ok(report)
    }
}

/// Fails where too many lines were rejected, or no row was written.
fn check_rejects(report: &IngestReport, config: &Config) -> Result<()> {
    let fraction = report.rejected as f64 / report.lines.max(1) as f64;
    if fraction > config.max_reject_fraction {
        return Err(Error::TooManyRejects(format!(
            "{:.1} % of {} lines rejected, more than ingest.max-reject-fraction allows ({:.1} %): {}; correct the source, or raise \
             the fraction",
            fraction * 100.0,
            report.lines,
            config.max_reject_fraction * 100.0,
            report.reasons_text()
        )));
    }
    ensure!(
        report.written > 0,
        "no row was written from {} lines: {}; correct the sources in harvest.sources",
        report.lines,
        report.reasons_text()
    );
    Ok(())
}

/// Checks a line or row: the part of the stage that runs in parallel.
fn check_item(item: Item, document: &str, hints: Hints, queries: &CodebaseQueries) -> CheckedLine {
    let record = match item.content {
        Content::Row(record) => Ok(*record),
        Content::Rejected(reject, head) => Err((reject, head)),
        Content::Line(line) => match parse(&line, hints) {
            Err(Reject::EmptyCode) if queries.contains(&line) => return CheckedLine::JoinedQuery,
            result => result.map_err(|reject| (reject, line[..line.len().min(HEAD_BYTES)].to_vec())),
        },
    };
    match record {
        Ok(mut record) => {
            queries.complete(document, &mut record);
            CheckedLine::Row(Box::new(Row::new(record)))
        }
        Err((reject, head)) => CheckedLine::Rejected(reject, head),
    }
}

/// The next items that are checked in parallel.
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

/// Writes all items to the tables, in their order. While one batch is written, the next one is read and checked.
fn write_items(
    sink: &mut TableSink<'_>,
    items: &mut dyn Iterator<Item = Item>,
    check: &(dyn Fn(Item) -> (LineLocation, CheckedLine) + Sync),
    bar: &Bar,
) -> Result<()> {
    let mut ready = Vec::new();
    loop {
        let mut written = Ok(());
        let next: Vec<(LineLocation, CheckedLine)> = rayon::in_place_scope(|scope| {
            scope.spawn(|_| written = sink.write(std::mem::take(&mut ready)));
            next_batch(items).into_par_iter().map(check).collect()
        });
        written?;
        bar.add(next.len() as u64);
        if next.is_empty() {
            return Ok(());
        }
        ready = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rejects_than_allowed_fail_the_stage() {
        let check = |lines: u64, rejected: u64, max_reject_fraction: f64| {
            let conf = serde_json::json!({ "shards": 1, "max-line-bytes": 1, "max-reject-fraction": max_reject_fraction, "split-leaks": "refuse", "duplicates": null });
            let config: Config = serde_json::from_value(conf).unwrap();
            let report = IngestReport { lines, rejected, written: lines - rejected, ..IngestReport::default() };
            check_rejects(&report, &config).map_err(|error| error.to_string())
        };
        check(4, 1, 0.25).unwrap();
        let error = check(4, 2, 0.25).unwrap_err();
        assert!(error.contains("50.0 % of 4 lines rejected, more than ingest.max-reject-fraction allows (25.0 %)"), "{error}");
        assert!(check(4, 4, 1.0).unwrap_err().contains("no row was written from 4 lines"));
    }

    #[test]
    fn a_line_without_code_is_joined_where_the_codebase_has_its_code_and_rejected_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let line = |code: &str, docstring: &str| {
            let value = serde_json::json!({ "repo": "o/r", "path": "a.py", "func_name": "f", "language": "python", "code": code, "docstring": docstring,
                "code_tokens": code.split_whitespace().collect::<Vec<_>>(), "docstring_tokens": docstring.split_whitespace().collect::<Vec<_>>(),
                "url": "https://example.org/f", "partition": "test" });
            value.to_string()
        };
        std::fs::write(dir.path().join("codebase.jsonl"), line("def f(): pass", "")).unwrap();
        std::fs::write(dir.path().join("test.jsonl"), line("", "Sort a list")).unwrap();
        let mut queries = CodebaseQueries::default();
        let check = |queries: &CodebaseQueries| {
            let item = Item { number: 1, offset: 0, content: Content::Line(line("", "Sort a list").into_bytes()) };
            check_item(item, "test.jsonl", Hints::of("test.jsonl"), queries)
        };
        assert!(matches!(check(&queries), CheckedLine::Rejected(Reject::EmptyCode, _)));
        queries.read_folder_of(dir.path(), std::path::Path::new("test.jsonl"), 1 << 20).unwrap();
        assert!(matches!(check(&queries), CheckedLine::JoinedQuery));
    }
}
