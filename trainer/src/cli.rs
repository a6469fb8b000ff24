//! The `trainer` tool's command line.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ledger::{
    StageStatus, Store,
    cli::{Common, StatusArgs, make},
    onnxruntime_library,
};

use crate::{Export, Train, runtime};

/// Token ids to an encoder: train, export.
///
/// `train` leaves a checkpoint (weights, configuration, learning curve), `export` an ONNX graph that
/// is checked against the trainer's own forward on real rows.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, after_help = "Example: trainer run --conf conf/demo.conf --data data")]
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
    /// Learn an encoder from query-code pairs
    Train,
    /// Write the encoder as ONNX and check it
    Export,
    /// The ledger as a tree: key, age, rows, and why a stage is stale
    Status(StatusArgs),
}

/// Loads onnxruntime before the first session.
fn load_onnxruntime(store: &Store) -> Result<()> {
    runtime::load(&onnxruntime_library(store.root())?)
}

/// Runs the tool with these arguments (the first is its name).
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let Cli { command, common } = Cli::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let conf = common.load()?;
    let store = common.store(&conf)?;
    match command {
        Command::Run => {
            load_onnxruntime(&store)?;
            make::<Train>(&store, &conf)?;
            make::<Export>(&store, &conf)
        }
        Command::Train => make::<Train>(&store, &conf),
        Command::Export => {
            load_onnxruntime(&store)?;
            make::<Export>(&store, &conf)
        }
        Command::Status(args) => common.print_status(&args, &store, |stages| {
            stages.push(StageStatus::of::<Train>(&store, &conf.section("train")?, stages)?);
            stages.push(StageStatus::of::<Export>(&store, &conf.section("export")?, stages)?);
            Ok(())
        }),
    }
}
