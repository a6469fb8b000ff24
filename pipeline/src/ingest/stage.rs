//! The stage `ingest`.

use std::path::Path;

use ledger::{Artifact, Bar, Functions, Raw, Recordable, Run, Stage, ensure};

use super::{
    buckets::Buckets,
    codebase::CodebaseQueries,
    config::{Config, SplitLeaks},
    kept::EarlierRows,
    lines::{Check, SourceLine, write_lines, write_members},
    members::Members,
    near_duplicates::Thresholds,
    report::IngestReport,
    sink::TableSink,
    survey,
};
use crate::{
    error::{Error, Result},
    records::{Hints, read_documents},
    repositories::{self, FILES, REPOS},
};

/// Validates records, marks duplicates, and shards.
#[derive(Debug)]
pub struct Ingest;

impl Stage for Ingest {
    const NAME: &'static str = "ingest";
    const ABOUT: &'static str = "Validate records, mark near-duplicates and write Parquet shards";
    const REVISION: u32 = 5;
    type Config = Config;
    type Inputs = Artifact<Raw>;
    type Output = Functions;
    type Report = IngestReport;
    type Error = Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<IngestReport> {
        let raw = input.open()?;
        let licences = repositories::licences(&raw.dir)?;
        // Where a repository in two splits is dropped from one, a row depends on rows of other files.
        let members = (config.split_leaks != SplitLeaks::Drop).then(|| Members::read(&raw.dir, &raw.files, Buckets::new(config)));
        let members = members.transpose()?.flatten();
        let mut sink = TableSink::new(run.out, config, &licences, members.is_some())?;
        let files = run.earlier(Raw::KIND);
        let mut earlier = members.as_ref().map(|members| EarlierRows::new(&files, members, &licences)).transpose()?;
        // The number of rows is known where `harvest` extracted all of them; rows of copied files are not counted yet.
        let harvested = &input.manifest().report;
        let total = if harvested["csn_files"] == 0 { harvested["functions"].as_u64().unwrap_or_default() } else { 0 };
        let bar = run.progress.bar("ingest", total, "rows");
        let mut queries = CodebaseQueries::default();
        for path in raw.files.iter().filter(|path| [REPOS, FILES].iter().all(|name| path.as_os_str() != *name)) {
            bar.note(path.display().to_string());
            queries.read_folder_of(&raw.dir, path, config.max_line_bytes)?;
            match members.as_ref().zip(earlier.as_mut()) {
                Some((members, earlier)) => {
                    sink.report.files += 1;
                    let document = path.display().to_string();
                    let check = check_of(&document, config, &queries);
                    let file = (&*raw.dir.join(path), config.max_line_bytes);
                    write_members(&mut sink, file, members.of(path), earlier, &check, &bar)?;
                }
                None => write_documents(&mut sink, &raw.dir, path, config, &queries, &bar)?,
            }
        }
        bar.finish();
        let row_group_bytes = sink.row_group_bytes();
        let (mut report, written) = sink.finish()?;
        let linked = earlier.map_or(Ok(0), |earlier| earlier.finish(run.out, row_group_bytes))?;
        run.count_shards(linked, written);
        check_rejects(&report, config)?;
        let survey = survey::survey(run.out, config.split_leaks == SplitLeaks::Refuse)?;
        report.repos = survey.repos;
        report.rows = survey.rows;
        report.documented = survey.documented;
        Ok(report)
    }
}

/// Writes the lines of a raw file, which may hold several documents.
fn write_documents(sink: &mut TableSink<'_>, dir: &Path, path: &Path, config: &Config, queries: &CodebaseQueries, bar: &Bar) -> Result<()> {
    read_documents(&dir.join(path), &path.display().to_string(), config.max_line_bytes, &mut |name, items| {
        sink.report.files += 1;
        let mut lines = items.map(|item| Ok(SourceLine::from(item)));
        write_lines(sink, &mut lines, &check_of(name, config, queries), bar)
    })
}

fn check_of<'a>(document: &'a str, config: &Config, queries: &'a CodebaseQueries) -> Check<'a> {
    Check { document, hints: Hints::of(document), queries, band_rows: Thresholds::rows_of(config.duplicates.as_ref()) }
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
}
