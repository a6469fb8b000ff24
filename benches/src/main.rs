//! `codenets-bench`: measurements that are not part of the `codenets` command. The scripts in benches/ run it next to other tools.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use ledger::{Progress, Store, Syntax, conf::Conf};

mod latency;
mod measure;
mod train_steps;

/// Training allocates and frees many tensors in each step; `codenets` has the same allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Largest number of queries of a split.
const EXAMPLES: usize = 3000;

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
    /// Write the candidates of judged queries with their reranking features and grades
    ///
    /// Reads a bundle and a file of judged queries; writes one JSON line for each query. benches/reranking.py chooses weights with them.
    /// With the format `documentation` or `rules` the queries are those of a split of the recorded bundle.
    #[command(after_help = "Example: codenets-bench candidates data/serve/current files questions.json --out candidates.jsonl")]
    Candidates {
        /// Folder of the bundle
        bundle: PathBuf,
        /// Format of the judged queries: csn, cosqa, files or jsonl; or documentation or rules
        format: String,
        /// File of judged queries, or the split
        judgments: PathBuf,
        /// JSON lines to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

fn run(cli: Cli) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cli.threads.filter(|&threads| threads > 0).unwrap_or(cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    match cli.command {
        Command::Latency { queries } => latency::run(&cli.data, queries, cli.json),
        Command::Measure { part } => {
            println!("{}", measure::run(&part, threads)?);
            Ok(())
        }
        Command::TrainSteps { conf, lengths, steps } => {
            let conf = Conf::load(&conf, &codenets::stages::registry().sections())?;
            train_steps::run(&conf.section("train")?, &lengths, steps)
        }
        Command::Candidates { bundle, format, judgments, out } => {
            if let "documentation" | "rules" = format.as_str() {
                inference::load_installed()?;
                let store = Store::at(&cli.data, Progress::new(cli.json), threads).with_kinds(codenets::stages::registry().kinds());
                let syntax = store.current::<Syntax>().context("no syntax is recorded: run `codenets run`")?.open()?;
                let split = judgments.to_string_lossy().parse()?;
                let examples = indexer::index::write_examples(&bundle, &syntax, split, format == "rules", EXAMPLES, &out)?;
                println!("{examples} queries in {}", out.display());
                return Ok(());
            }
            let bundle = bundle::Bundle::options().workers(threads).open(&bundle)?;
            let queries = indexer::evaluate::judge::candidates::write(&bundle, format.parse()?, &judgments, &out)?;
            println!("{queries} queries in {}", out.display());
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    // SAFETY: the first statement of the program: no other thread runs that could read the environment.
    unsafe { std::env::set_var(inference::TELEMETRY_VARIABLE, "1") };
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ledger::print_line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
