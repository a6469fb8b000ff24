//! The `trainer` tool's command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use ledger::{
    StageStatus, Store,
    cli::{Common, ReproduceArgs, Reproduction, StatusArgs, make},
    conf::Conf,
    onnxruntime_library,
};

use crate::{
    Adopt, Export, Train,
    bench::bench,
    config::Config,
    restore::Restore,
    runtime,
    tracking::{self, Server},
    train::Context,
};

/// Token ids to an encoder: train, export.
///
/// `train` leaves a checkpoint (weights, optimizer, configuration, learning curve), `export` an ONNX graph that is
/// checked against the trainer's own forward on real rows. A killed training goes on from its last checkpoint when the
/// same command runs again. What is trained is section `train` of the configuration (conf/base.conf explains every
/// key); watch it with `tensorboard --logdir data/runs`, or name an MLflow server in MLFLOW_TRACKING_URI (docs/tracking.md).
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
    Train(Start),
    /// Write the encoder as ONNX and check it
    Export,
    /// Take the encoder that adopt.from names, instead of training one
    Adopt,
    /// Time training steps of the configured encoder on random ids; `make bench-train` runs PyTorch beside it
    Bench(BenchArgs),
    /// Send to the MLflow server of MLFLOW_TRACKING_URI what it lacks of the runs in DATA/runs
    Sync,
    /// The ledger as a tree: key, age, rows, and why a stage is stale
    Status(StatusArgs),
    /// Run recorded stages once more and compare bytes; nothing is kept (a training takes as long as it took)
    Reproduce(ReproduceArgs),
}

/// Where training starts.
#[derive(Debug, clap::Args)]
struct Start {
    /// Start from this recorded checkpoint (a folder of data/checkpoint). Without --conf: its configuration, last
    /// weights and the optimizer's moments, for as many epochs again. With --conf: its best weights and its tokenizer,
    /// all else as configured. The schedule starts anew in both
    #[arg(long, value_name = "FOLDER")]
    restore: Option<PathBuf>,
    /// Only go on from a checkpoint of a killed or restored training; an error where there is none
    #[arg(long, conflicts_with = "restore")]
    resume: bool,
}

#[derive(Debug, clap::Args)]
struct BenchArgs {
    /// JSON: {"vocabulary": n, "batches": [{"query": [lengths], "code": [lengths]}]}
    #[arg(long)]
    lengths: PathBuf,
    /// Steps, over the batches in turn
    #[arg(long, default_value_t = 10)]
    steps: usize,
}

/// Loads onnxruntime before the first session.
fn load_onnxruntime(store: &Store) -> Result<()> {
    runtime::load(&onnxruntime_library(store.root())?)
}

/// The recorded configuration of a checkpoint, to go on from where it ended.
fn recorded(folder: &Path) -> Result<Config> {
    let path = folder.join("context.json");
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let context: Context = serde_json::from_slice(&bytes).with_context(|| format!("{} is no training context", path.display()))?;
    Ok(Config { restore: Some(Restore { checkpoint: folder.to_owned(), optimizer: true }), ..context.config })
}

/// The configuration's `train`, or the recorded one where only a checkpoint was named.
fn config(conf: Option<&Conf>, start: &Start) -> Result<Config> {
    match (conf, &start.restore) {
        (None, Some(folder)) => recorded(folder),
        (None, None) => unreachable!("a configuration is loaded unless a checkpoint stands for it"),
        (Some(conf), folder) => {
            let mut config: Config = conf.section("train")?;
            if let Some(folder) = folder {
                config.restore = Some(Restore { checkpoint: folder.clone(), optimizer: false });
            }
            Ok(config)
        }
    }
}

/// A training that is done, or one that was begun here or restored.
fn require_checkpoint(store: &Store, config: &Config) -> Result<()> {
    let folder = store.beside::<Train>(config)?.join("checkpoints");
    let is_begun = std::fs::read_dir(&folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("step-"))));
    anyhow::ensure!(
        is_begun || store.freshness::<Train>(config)?.is_fresh(),
        "nothing to resume in {}: no training with this configuration and these tokens was begun here (restore it with its runs, or train from the start)",
        folder.display()
    );
    Ok(())
}

/// What is made is made, whoever is told of it.
fn follow(store: &Store, told: Result<()>) {
    if let Err(error) = told {
        store.progress().say(&format!("mlflow    is not told: {error:#}"));
    }
}

fn train(store: &Store, config: &Config) -> Result<()> {
    if config.teacher.is_some() || config.token_start.is_some() {
        load_onnxruntime(store)?;
    }
    let server = Server::of_environment()?;
    let checkpoint = store.make::<Train>(config)?;
    follow(store, tracking::follow_checkpoint(store, &checkpoint, server.as_ref()));
    Ok(())
}

fn export(store: &Store, conf: &Conf) -> Result<()> {
    let server = Server::of_environment()?;
    let encoder = store.make::<Export>(&conf.section("export")?)?;
    follow(store, tracking::follow_encoder(store, &encoder, server.as_ref()));
    Ok(())
}

/// Runs the tool with these arguments (the first is its name).
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let matches = Cli::command().try_get_matches_from(arguments).unwrap_or_else(|error| error.exit());
    let subcommand = matches.subcommand().map(|(_, matches)| matches);
    let named = |source: Option<ValueSource>| source.is_some_and(|source| source != ValueSource::DefaultValue);
    let conf_is_named = named(subcommand.and_then(|matches| matches.value_source("conf"))) || named(matches.value_source("conf"));
    let Cli { command, common } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Command::Train(start) = &command
        && start.restore.is_some()
        && !conf_is_named
    {
        return train(&common.store_with(common.threads), &config(None, start)?);
    }
    if matches!(command, Command::Sync) {
        return tracking::sync(&common.store_with(common.threads), common.json);
    }
    let conf = common.load()?;
    let store = common.store(&conf)?;
    match command {
        Command::Run => {
            load_onnxruntime(&store)?;
            if conf.adopts()? {
                return make::<Adopt>(&store, &conf);
            }
            train(&store, &conf.section("train")?)?;
            export(&store, &conf)
        }
        Command::Train(start) => {
            let config = config(Some(&conf), &start)?;
            if start.resume {
                require_checkpoint(&store, &config)?;
            }
            train(&store, &config)
        }
        Command::Export => {
            load_onnxruntime(&store)?;
            export(&store, &conf)
        }
        Command::Adopt => {
            load_onnxruntime(&store)?;
            make::<Adopt>(&store, &conf)
        }
        Command::Reproduce(args) => {
            load_onnxruntime(&store)?;
            let mut found = Reproduction::default();
            if conf.adopts()? {
                found.stage::<Adopt>(&args, &store, &conf)?;
            } else {
                found.stage::<Train>(&args, &store, &conf)?;
                found.stage::<Export>(&args, &store, &conf)?;
            }
            found.end()
        }
        Command::Sync => unreachable!("it needs no configuration"),
        Command::Bench(args) => bench(&conf.section("train")?, &args.lengths, args.steps),
        Command::Status(args) => common.print_status(&args, &store, |stages| {
            if conf.adopts()? {
                stages.push(StageStatus::of::<Adopt>(&store, &conf.section("adopt")?, stages)?);
                return Ok(());
            }
            stages.push(StageStatus::of::<Train>(&store, &conf.section("train")?, stages)?);
            stages.push(StageStatus::of::<Export>(&store, &conf.section("export")?, stages)?);
            Ok(())
        }),
    }
}
