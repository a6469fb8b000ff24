//! The `pipeline` tool's command line.

use std::{ffi::OsString, path::PathBuf};

use crate::{
    Harvest, Ingest, Parse, Tokenize, Vocab, explore, fidelity,
    ingest::{self, Recall},
};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use ledger::{
    StageStatus,
    cli::{Common, ReproduceArgs, Reproduction, StatusArgs, make, write_report},
    journal,
};
use serde_json::Value;

/// Raw code to typed columns: harvest, ingest, parse, vocab, tokenize.
///
/// Every stage reads recorded artifacts below --data and leaves one, with a manifest. A stage whose
/// code, configuration and inputs are unchanged does not run again; the tool says why it runs.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, after_help = "Example: pipeline run --conf conf/demo.conf --data data")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every stage of this tool that is not fresh
    Run,
    /// Functions with documentation out of packages, folders and git checkouts, as CodeSearchNet jsonl.gz
    Harvest,
    /// Validate, drop near-duplicates, shard: jsonl to Parquet
    Ingest,
    /// Tree-sitter: AST tokens, identifiers, words
    Parse,
    /// Learn a BPE vocabulary: one tokenizer.json
    Vocab,
    /// Words to ids
    Tokenize,
    /// The ledger as a tree: key, age, rows, and why a stage is stale
    Status(StatusArgs),
    /// Run recorded stages once more and compare bytes; nothing is kept
    Reproduce(ReproduceArgs),
    /// Table of what each stage of the road did (rows, bytes, seconds, memory)
    Journal,
    /// Compare the search for near-duplicates with comparing every pair: reports/duplicates.json
    Duplicates {
        /// A folder of records, in any layout that ingest reads
        #[arg(long)]
        csn: PathBuf,
        /// Records that are compared
        #[arg(long, default_value_t = 5000)]
        rows: usize,
    },
    /// A picture of the data: reports/explore/report.html, of what is recorded now
    Explore,
    /// Derive each field of true CodeSearchNet records again, and compare: reports/fidelity.json
    Fidelity {
        /// A folder of true records, in any layout that ingest reads
        #[arg(long)]
        csn: PathBuf,
    },
}

/// Runs the tool with these arguments (the first is its name).
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let Cli { command, common } = Cli::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    match &command {
        Command::Journal => {
            let store = common.store_with(common.threads);
            let (text, flat) = journal(&store);
            write_report(store.root(), "journal", &flat)?;
            if common.json {
                println!("{}", Value::Object(flat))
            } else {
                print!("{text}")
            }
            return Ok(());
        }
        Command::Duplicates { csn, rows } => {
            let store = common.store_with(common.threads);
            let thresholds = common.load()?.section::<ingest::Config>("ingest")?.duplicates;
            let thresholds = thresholds.context("ingest.duplicates is null: there are no thresholds to compare with")?;
            let scratch = tempfile::tempdir()?;
            let recall = Recall::measure(csn, *rows, &thresholds, scratch.path(), store.progress())?;
            write_report(store.root(), "duplicates", &recall.flat())?;
            println!("{}", Value::Object(recall.flat()));
            return Ok(());
        }
        Command::Explore => {
            println!("{}", explore::write(&common.store_with(common.threads))?.display());
            return Ok(());
        }
        Command::Fidelity { csn } => {
            let store = common.store_with(common.threads);
            let fidelity = fidelity::measure(csn)?;
            let flat = fidelity.flat();
            write_report(store.root(), "fidelity", &flat)?;
            print!("{}", if common.json { format!("{}\n", Value::Object(flat)) } else { fidelity.text() });
            return Ok(());
        }
        _ => {}
    }
    let conf = common.load()?;
    let store = common.store(&conf)?;
    match command {
        Command::Run => {
            make::<Harvest>(&store, &conf)?;
            make::<Ingest>(&store, &conf)?;
            make::<Parse>(&store, &conf)?;
            if conf.adopts()? {
                return Ok(());
            }
            make::<Vocab>(&store, &conf)?;
            make::<Tokenize>(&store, &conf)
        }
        Command::Reproduce(args) => {
            let mut found = Reproduction::default();
            found.stage::<Harvest>(&args, &store, &conf)?;
            found.stage::<Ingest>(&args, &store, &conf)?;
            found.stage::<Parse>(&args, &store, &conf)?;
            if !conf.adopts()? {
                found.stage::<Vocab>(&args, &store, &conf)?;
                found.stage::<Tokenize>(&args, &store, &conf)?;
            }
            found.end()
        }
        Command::Harvest => make::<Harvest>(&store, &conf),
        Command::Ingest => make::<Ingest>(&store, &conf),
        Command::Parse => make::<Parse>(&store, &conf),
        Command::Vocab => make::<Vocab>(&store, &conf),
        Command::Tokenize => make::<Tokenize>(&store, &conf),
        Command::Status(args) => common.print_status(&args, &store, |stages| {
            stages.push(StageStatus::of::<Harvest>(&store, &conf.section("harvest")?, stages)?);
            stages.push(StageStatus::of::<Ingest>(&store, &conf.section("ingest")?, stages)?);
            stages.push(StageStatus::of::<Parse>(&store, &conf.section("parse")?, stages)?);
            if conf.adopts()? {
                return Ok(());
            }
            stages.push(StageStatus::of::<Vocab>(&store, &conf.section("vocab")?, stages)?);
            stages.push(StageStatus::of::<Tokenize>(&store, &conf.section("tokenize")?, stages)?);
            Ok(())
        }),
        Command::Journal | Command::Duplicates { .. } | Command::Explore | Command::Fidelity { .. } => Ok(()),
    }
}
