//! The stage `parse`.

use std::{collections::BTreeSet, fs, path::Path};

use arrow::array::RecordBatch;
use ledger::{
    Artifact, Bar, Functions, Run, Shard, Stage, Syntax,
    table::{self, TableWriter},
};

use super::{columns::parse_batch, config::Config, report::ParseReport};
use crate::error::{Context, Error, Result};

/// Code that is parsed before its columns are written, in bytes: the columns are several times as large as the code.
const PIECE_BYTES: usize = 16 << 20;

/// Parses functions.
#[derive(Debug)]
pub struct Parse;

impl Stage for Parse {
    const NAME: &'static str = "parse";
    const ABOUT: &'static str = "Parse functions with tree-sitter: AST tokens, identifiers, words";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = Artifact<Functions>;
    type Output = Syntax;
    type Report = ParseReport;
    type Error = Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<ParseReport> {
        config.check()?;
        let functions = input.open()?;
        let reports = run.map_shards("parse", input, &functions.shards, |shard, _, target, bar| parse_shard(config, shard, target, bar))?;
        let mut total = ParseReport::default();
        reports.into_iter().for_each(|report| total.add(report));
        write_specials(run.out, &total.specials)?;
        Ok(total)
    }
}

fn parse_shard(config: &Config, shard: &Shard, target: &Path, bar: &Bar) -> Result<ParseReport> {
    let mut report = ParseReport::default();
    let mut writer: Option<TableWriter> = None;
    for batch in table::read(&shard.path, &[])? {
        for piece in pieces(&batch?)? {
            let piece = parse_batch(&piece, config, &mut report)?;
            bar.add(piece.num_rows() as u64);
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
