//! `codenets-bench`: measurements that are not part of the `codenets` command. The scripts in benches/ run it next to other tools.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use ledger::conf::Conf;

mod latency;
mod measure;
mod train_steps;

/// Training allocates and frees many tensors in each step; `codenets` has the same allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure parts of codenets
#[derive(Debug, Parser)]
#[command(name = "codenets-bench", version, after_help = "Example: codenets-bench latency --data data")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Data folder
    #[arg(long, global = true, value_name = "FOLDER", default_value = "data")]
    data: PathBuf,
    /// Worker threads [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the latency of a search on one thread
    ///
    /// Reads the published bundle and the journal of the stages; writes reports/bench.json.
    #[command(after_help = "Example: codenets-bench latency --data data --queries 500")]
    Latency {
        /// Number of queries: summaries of indexed functions
        #[arg(long, default_value_t = 500)]
        queries: usize,
    },
    /// Measure one part of an index, and print JSON
    #[command(after_help = "Example: codenets-bench measure lexical --syntax data/syntax/KEY --threads 2")]
    Measure {
        #[command(subcommand)]
        part: measure::Part,
    },
    /// Measure training steps of the configured encoder on random ids, and print JSON
    #[command(after_help = "Example: codenets-bench train-steps --conf conf/demo.conf --lengths lengths.json --steps 10")]
    TrainSteps {
        /// Configuration file (HOCON)
        #[arg(long, value_name = "FILE", default_value = "conf/demo.conf")]
        conf: PathBuf,
        /// JSON file: {"vocabulary": n, "batches": [{"query": [lengths], "code": [lengths]}]}
        #[arg(long, value_name = "FILE")]
        lengths: PathBuf,
        /// Number of steps; the batches are used in turn
        #[arg(long, default_value_t = 10)]
        steps: usize,
    },
}

fn run(cli: Cli) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cli.threads.filter(|&threads| threads > 0).unwrap_or(cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    match cli.command {
        Command::Latency { queries } => latency::run(&cli.data, queries, cli.json),
        Command::Measure { part } => {
            println!("{}", measure::run(&part, &cli.data, threads)?);
            Ok(())
        }
        Command::TrainSteps { conf, lengths, steps } => {
            let conf = Conf::load(&conf, &codenets::stages::registry().sections())?;
            train_steps::run(&conf.section("train")?, &lengths, steps)
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
