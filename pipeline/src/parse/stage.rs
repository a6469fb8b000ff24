//! The stage `parse`.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use arrow::{array::RecordBatch, compute::take_record_batch};
use ledger::{
    Artifact, Bar, EarlierShards, Functions, Run, Shard, Stage, Syntax,
    table::{self, TableWriter},
};

use super::{
    columns::{INPUTS, added_columns, with_columns},
    config::Config,
    known::{KnownRows, Sources},
    report::ParseReport,
};
use crate::error::{Context, Error, Result};

/// Code that is parsed before its columns are written, in bytes: the columns are several times as large as the code.
const PIECE_BYTES: usize = 16 << 20;

/// Parses functions.
#[derive(Debug)]
pub struct Parse;

impl Stage for Parse {
    const NAME: &'static str = "parse";
    const ABOUT: &'static str = "Parse functions with tree-sitter: AST tokens, identifiers, words";
    const REVISION: u32 = 5;
    type Config = Config;
    type Inputs = Artifact<Functions>;
    type Output = Syntax;
    type Report = ParseReport;
    type Error = Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<ParseReport> {
        config.check()?;
        let functions = input.open()?;
        let parsed = AtomicU64::new(0);
        let reports = run.map_shards("parse", input, &functions.shards, |shard, earlier, target, bar| {
            parse_shard(config, shard, earlier, target, bar, &parsed)
        })?;
        let mut total = ParseReport::default();
        reports.into_iter().for_each(|report| total.add(report));
        write_specials(run.out, &total.specials)?;
        run.progress.message(&format!("parse     {} functions of {} were new", parsed.into_inner(), total.rows));
        Ok(total)
    }
}

/// `new`: counts the rows that were parsed.
fn parse_shard(
    config: &Config,
    shard: &Shard,
    earlier: &EarlierShards<'_>,
    target: &Path,
    bar: &Bar,
    new: &AtomicU64,
) -> Result<ParseReport> {
    let mut report = ParseReport::default();
    let mut writer: Option<TableWriter> = None;
    let mut known = KnownRows::of(earlier, &shard.name)?;
    for batch in table::read(&shard.path, &[])? {
        for piece in pieces(&batch?)? {
            let digests = table::row_digests(&piece, &INPUTS, "")?;
            let mut sources = known.find(&digests)?;
            sources.retain_certain(&piece, config)?;
            new.fetch_add(sources.missing().len() as u64, Ordering::Relaxed);
            let added = complete(&sources, &piece, config, &mut report)?;
            report.count(&added, config.max_ast_tokens)?;
            bar.add(piece.num_rows() as u64);
            let piece = with_columns(&piece, &digests, &added)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(TableWriter::create(target, piece.schema())?),
            };
            writer.write(&piece)?;
        }
    }
    writer.context("a shard without rows: run `codenets verify`")?.finish()?;
    Ok(report)
}

/// The added columns of a piece: copied where they are known, else parsed.
fn complete(sources: &Sources, piece: &RecordBatch, config: &Config, report: &mut ParseReport) -> Result<RecordBatch> {
    let missing = sources.missing();
    if missing.len() == piece.num_rows() {
        return added_columns(piece, config, report);
    }
    sources.collect_specials(piece, &mut report.specials)?;
    let parsed = added_columns(&take_record_batch(piece, &missing)?, config, report)?;
    sources.merge(&parsed)
}

fn write_specials(out: &Path, specials: &BTreeSet<String>) -> Result<()> {
    let path = out.join("ast_specials.json");
    fs::write(&path, serde_json::to_vec_pretty(specials)?).with_context(|| format!("writing {}", path.display()))
}

/// Splits a batch into pieces of about [`PIECE_BYTES`] bytes of code.
fn pieces(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let codes = table::texts(batch, "code")?;
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for row in 0..batch.num_rows() {
        bytes += codes.value(row).len();
        if bytes > PIECE_BYTES || row + 1 == batch.num_rows() {
            pieces.push(batch.slice(start, row + 1 - start));
            (start, bytes) = (row + 1, 0);
        }
    }
    Ok(pieces)
}
