//! The commands, their arguments and their help.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, builder::PossibleValuesParser, parser::ValueSource};
use indexer::retract::By;
use ledger::Registry;

use crate::{
    commands::{build, fetch, inspect, models, records, reproducing, search},
    help,
    nightly::{self, NightlyArgs},
    options::Options,
};

/// Turn source code into a natural-language code search index.
///
/// Stages read recorded artifacts below --data and write one artifact each. A stage whose code, configuration and inputs are unchanged
/// does not run again.
#[derive(Debug, Parser)]
#[command(name = "codenets", about = "Turn source code into a natural-language code search index")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the stages that are not up to date
    ///
    /// Reads the configuration and the artifacts in --data; writes one artifact a stage, then publishes the bundle.
    #[command(after_help = "Example: codenets run --conf conf/demo.conf --data data")]
    Run(build::RunArgs),
    /// List the stages that would run, with the reason
    ///
    /// Reads the configuration and the manifests in --data; writes nothing.
    #[command(after_help = "Example: codenets plan --conf conf/demo.conf")]
    Plan,
    /// Show every stage: key, age, rows, and whether it is up to date
    ///
    /// Reads the configuration and the manifests in --data; writes reports/status.json in --data.
    #[command(after_help = "Example: codenets status --data data")]
    Status,
    /// Explain why a stage will run: changed keys with old and new values, changed inputs
    ///
    /// Reads the configuration and the manifests in --data; writes nothing.
    #[command(after_help = "Example: codenets explain train")]
    Explain {
        /// Stage [default: every stage]
        stage: Option<String>,
    },
    /// Install ONNX Runtime for this user, from its pinned PyPI wheel
    ///
    /// Reads the Python package index (with pip); writes ~/.local/share/codenets (or XDG_DATA_HOME). Does nothing where
    /// ORT_DYLIB_PATH names a library, or where one is next to the program.
    #[command(after_help = "Example: codenets setup")]
    Setup {
        /// The build with CUDA (x86-64; needs CUDA 13 and cuDNN 9)
        #[arg(long)]
        gpu: bool,
    },
    /// Record an encoder from another source, instead of training one
    ///
    /// Reads a folder with encoder.json, the graphs that it names and tokenizer.json; writes an artifact of kind encoder.
    #[command(after_help = "Example: codenets adopt data/teacher/encoder/KEY --conf conf/mine.conf")]
    Adopt {
        /// Folder of the encoder [default: adopt.from of the configuration]
        from: Option<PathBuf>,
    },

    /// Build, evaluate, publish and report, as a scheduler does every night
    ///
    /// Reads the configuration (sections `model` and `nightly` too) and the artifacts in --data; writes the artifacts of the stages
    /// that are not up to date, the published bundle, and reports/nightly.html, nightly.json and nights.jsonl. A repository that cannot
    /// be read keeps its functions of an earlier night. Uses the current release of the encoder, so that nothing is trained: see
    /// `codenets model`. Exit status: 0 published or unchanged, 1 failed, 3 a gate refused the bundle, 75 another run has the data folder.
    #[command(after_help = "Example: codenets nightly --conf conf/nightly.conf --data data-nightly --json")]
    Nightly(NightlyArgs),
    /// Fetch the mirrors of remote git repositories, as a night does first
    ///
    /// Reads nightly.fetch of the configuration and its list of addresses; writes the mirrors, bare repositories in nightly.fetch.folder.
    #[command(after_help = "Example: codenets fetch --conf mine.conf")]
    Fetch,
    /// Manage the releases of the encoder that `nightly` uses in place of a training
    ///
    /// Reads and writes the folder `models` of --data.
    #[command(subcommand, after_help = "Example: codenets model list")]
    Model(models::Model),

    /// Search the published bundle: words, "an exact phrase", prefixes (pars*)
    ///
    /// Reads the published bundle in --data; writes nothing.
    #[command(after_help = "Example: codenets search \"parse an iso date\" --language python --limit 5")]
    Search(search::SearchArgs),
    /// Score lexical, vector and hybrid search on the held-out split
    ///
    /// Reads the recorded bundle and syntax; writes an artifact of kind scores and reports/evaluate.html. With --judgments: scores judged
    /// queries with any bundle and writes reports/judgments.json. With --predictions and --annotations: prints the NDCG of a predictions
    /// file by the CodeSearchNet challenge.
    #[command(after_help = "Example: codenets evaluate --conf conf/demo.conf")]
    Evaluate(search::EvaluateArgs),
    /// Compare two evaluations of the same queries, with paired significance tests
    ///
    /// Reads two artifacts of kind scores; writes nothing.
    #[command(after_help = "Example: codenets compare data/scores/KEY other/scores/KEY")]
    Compare {
        /// A folder of artifact kind scores
        first: PathBuf,
        /// Another one, also of another data folder
        second: PathBuf,
    },
    /// Write predictions for the CodeSearchNet challenge: query,language,identifier,url
    ///
    /// Reads a CSV of queries and the published bundle; writes the CSV that --out names.
    #[command(after_help = "Example: codenets predictions --queries queries.csv --out predictions.csv")]
    Predictions(search::PredictionsArgs),
    /// Show stages, scores and three example searches of the published bundle
    ///
    /// Reads the manifests and the published bundle in --data; writes nothing.
    #[command(after_help = "Example: codenets tour --data data")]
    Tour,
    /// Publish the previous bundle again
    ///
    /// Reads the published bundles in --data; writes the link serve/current.
    #[command(after_help = "Example: codenets rollback")]
    Rollback,
    /// Delete functions from every published bundle, and from all that will be published
    ///
    /// Reads a file of ids; writes the list of deletions in --data, and tombstones.parquet and CHECKSUMS of every published bundle. Prints the
    /// deleted functions of the published bundle.
    #[command(after_help = "Example: codenets retract ids.txt --by content")]
    Retract {
        /// File with one row id a line, as `codenets search --json` prints them, or with lines of serve/retracted
        ids: PathBuf,
        /// What is deleted: content (every function with the code of this one, wherever it is), id (this function only), path (its file) or
        /// repo (its repository)
        #[arg(long, default_value = "content")]
        by: By,
        /// Delete these functions only: one that was deleted before and is not in the file is found again
        #[arg(long)]
        only: bool,
    },
    /// Delete old published bundles; the current one and pinned ones stay
    ///
    /// Reads the configuration and the published bundles in --data; deletes folders in serve/bundles. The artifacts stay: see
    /// `codenets gc`.
    #[command(after_help = "Example: codenets prune --keep 2")]
    Prune {
        /// Bundles that stay [default: publish.keep of the configuration]
        #[arg(long)]
        keep: Option<usize>,
    },

    /// Save an artifact with its lineage at a URL
    ///
    /// Reads artifacts in --data; writes a snapshot. Manifests are always saved; --with selects the files. A URL is a folder,
    /// s3://bucket/path, gs://bucket/path or az://container/path, with the credentials of the clouds' own environment variables
    /// (AWS_…, AZURE_…, GOOGLE_…).
    #[command(after_help = "Example: codenets save --to s3://bucket/codenets --with dataset,bundle")]
    Save(records::SaveArgs),
    /// Restore a snapshot from a URL
    ///
    /// Reads a snapshot; writes its artifacts and its configuration (restored.conf) to --data. Artifacts that are already in --data
    /// stay. An interrupted restore is resumed.
    #[command(after_help = "Example: codenets restore --from s3://bucket/codenets --data restored")]
    Restore(records::RestoreArgs),
    /// List the snapshots at a URL
    ///
    /// Reads the list at the URL; writes nothing.
    #[command(after_help = "Example: codenets snapshots --from s3://bucket/codenets")]
    Snapshots {
        /// URL
        #[arg(long, value_name = "URL")]
        from: String,
    },
    /// Run recorded stages again and compare the bytes; nothing is kept
    ///
    /// Reads the configuration and the artifacts in --data; writes nothing. With --from: restores a snapshot into the folder
    /// `reproduced` of --data first (its content is deleted) and reports differences of commit, tool and system. With --night: uses the
    /// settings of the last night, and also compares the hits of its index with those of an index that is built from nothing.
    #[command(after_help = "Example: codenets reproduce --from s3://bucket/codenets")]
    Reproduce(reproducing::ReproduceArgs),
    /// Trace an artifact back to the digests of the raw files
    ///
    /// Reads the manifests in --data; writes reports/lineage.html and reports/lineage.svg.
    #[command(after_help = "Example: codenets lineage --of scores")]
    Lineage {
        /// Artifact: a kind, kind:key, or a folder [default: the last in stage order]
        #[arg(long, value_name = "ARTIFACT")]
        of: Option<String>,
    },
    /// Compare two builds: code, configuration, inputs, rows, scores, functions of their bundles
    ///
    /// Reads the manifests of both builds, and the tables of functions of their bundles; writes nothing.
    #[command(after_help = "Example: codenets diff scores:1a2b scores")]
    Diff {
        /// Artifact: a kind, kind:key, or a folder
        a: String,
        /// Artifact: a kind, kind:key, or a folder
        b: String,
    },
    /// Send OpenLineage events to an HTTP server or a file, each once
    ///
    /// Reads the events in --data; writes to the server or the file, and records in --data what was sent.
    #[command(after_help = "Example: codenets events --to http://marquez:5000")]
    Events {
        /// URL of the server, or a file
        #[arg(long, value_name = "URL", env = "OPENLINEAGE_URL")]
        to: String,
    },
    /// Show what each stage did: rows, bytes, seconds, memory
    ///
    /// Reads the manifests in --data; writes reports/journal.json.
    #[command(after_help = "Example: codenets journal --data data")]
    Journal,
    /// Delete unreferenced artifacts (dry run unless --yes)
    ///
    /// Reads the manifests and pins in --data. With --yes: deletes artifacts that are not in the lineage of a current, published or
    /// pinned artifact.
    #[command(after_help = "Example: codenets gc --yes")]
    Gc {
        /// Delete instead of listing
        #[arg(long)]
        yes: bool,
    },
    /// Protect an artifact with its lineage against gc; without a name, list the pins
    ///
    /// Reads the manifests in --data; writes the pin.
    #[command(after_help = "Example: codenets pin good --of scores")]
    Pin {
        /// Name of the pin
        name: Option<String>,
        /// Artifact: a kind, kind:key, or a folder [default: the last in stage order]
        #[arg(long, value_name = "ARTIFACT")]
        of: Option<String>,
    },
    /// Remove a pin
    ///
    /// Reads the pins in --data; deletes the named one.
    #[command(after_help = "Example: codenets unpin good")]
    Unpin {
        /// Name of the pin
        name: String,
    },
    /// Hash every recorded file and the published bundle, or a snapshot's objects, and name the damaged ones
    ///
    /// Reads every recorded file in --data; writes which artifacts are damaged, so that `codenets status` shows them as stale.
    #[command(after_help = "Example: codenets verify --data data")]
    Verify {
        /// URL of snapshots to verify instead
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
    /// Upload unsent training runs to MLflow
    ///
    /// Reads the spools in the folder `runs` of --data; writes to the server that MLFLOW_TRACKING_URI names.
    #[command(subcommand, after_help = "Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 codenets mlflow sync")]
    Mlflow(Mlflow),

    /// Describe a bundle: format, rows, fields, encoder, vector index, scores
    ///
    /// Reads the manifest of a bundle; writes nothing.
    #[command(after_help = "Example: codenets inspect data/serve/current")]
    Inspect {
        /// Folder of a bundle [default: the published one]
        bundle: Option<PathBuf>,
    },
    /// Check this machine and the data folder, and print how to fix what is wrong
    ///
    /// Reads the configuration, the programs and libraries of this machine, and --data; writes nothing but the folder --data.
    #[command(after_help = "Example: codenets doctor --data data")]
    Doctor,
    /// List the files that harvest reads, and the files that it leaves out with the reason
    ///
    /// Reads the sources of the configuration; writes nothing.
    #[command(after_help = "Example: codenets files --conf conf/mine.conf --excluded")]
    Files(inspect::FilesArgs),
    /// Compare our parser with true CodeSearchNet records
    ///
    /// Reads a folder of records; writes reports/fidelity.json.
    #[command(after_help = "Example: codenets fidelity --csn /path/to/codesearchnet")]
    Fidelity {
        /// Folder of true records, in any layout that ingest reads
        #[arg(long, value_name = "FOLDER")]
        csn: PathBuf,
    },
    /// Compare the near-duplicate search with comparing every pair
    ///
    /// Reads a folder of records; writes reports/duplicates.json.
    #[command(after_help = "Example: codenets duplicates --csn /path/to/codesearchnet --rows 5000")]
    Duplicates {
        /// Folder of records, in any layout that ingest reads
        #[arg(long, value_name = "FOLDER")]
        csn: PathBuf,
        /// Records to compare
        #[arg(long, default_value_t = 5000)]
        rows: usize,
    },
    /// Write a page about the recorded corpus
    ///
    /// Reads the recorded functions, columns and tokens; writes reports/explore/report.html.
    #[command(after_help = "Example: codenets explore --data data")]
    Explore,
    /// Print the resolved configuration with the file and line of each value
    ///
    /// Reads the configuration with its includes; writes nothing.
    #[command(after_help = "Example: codenets config --conf conf/mine.conf")]
    Config {
        /// Print the JSON Schema of a configuration instead
        #[arg(long)]
        schema: bool,
    },
    /// Print shell completions, or a man page
    ///
    /// Reads nothing; writes to standard output.
    #[command(after_help = "Example: codenets completions bash > ~/.local/share/bash-completion/completions/codenets")]
    Completions {
        /// bash, elvish, fish, powershell, zsh, or man
        #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh", "man"])]
        shell: String,
    },
}

#[derive(Debug, Subcommand)]
enum Mlflow {
    /// Upload unsent training runs to the MLflow server that MLFLOW_TRACKING_URI names
    ///
    /// Reads the spools in the folder `runs` of --data; writes to the server, and records in the spools what was sent.
    #[command(after_help = "Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 codenets mlflow sync")]
    Sync,
}

/// The complete command: grouped help, versions, stage names as possible values.
pub fn complete_command(registry: &Registry) -> clap::Command {
    let stages = PossibleValuesParser::new(registry.names());
    let with_stages = |command: clap::Command, arguments: &[&'static str]| {
        arguments.iter().fold(command, |command, &argument| command.mut_arg(argument, |arg| arg.value_parser(stages.clone())))
    };
    let command = Cli::command()
        .mut_subcommand("run", |run| with_stages(run, &["only", "until"]).after_long_help(help::stages(registry)))
        .mut_subcommand("explain", |explain| with_stages(explain, &["stage"]))
        .mut_subcommand("reproduce", |reproduce| with_stages(reproduce, &["stage"]))
        .version(help::version());
    help::grouped(command)
}

/// Runs the command with these arguments (the first is the program's name). `is_program`: see [`Options::is_program`].
pub fn run<T: Into<OsString> + Clone>(registry: &Registry, arguments: impl IntoIterator<Item = T>, is_program: bool) -> Result<()> {
    let matches = complete_command(registry).try_get_matches_from(arguments).unwrap_or_else(|error| help::exit(&error));
    let given = |matches: &clap::ArgMatches| matches.value_source("conf").is_some_and(|source| source != ValueSource::DefaultValue);
    let conf_is_given = given(&matches) || matches.subcommand().is_some_and(|(_, matches)| given(matches));
    let Cli { command, options } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| help::exit(&error));
    let options = Options { is_program, ..options };
    dispatch(registry, &options, command, conf_is_given)
}

fn dispatch(registry: &Registry, options: &Options, command: Command, conf_is_given: bool) -> Result<()> {
    match command {
        Command::Run(args) => build::run(registry, options, &build::RunArgs { conf_is_given, ..args }),
        Command::Plan => build::status(registry, options, true),
        Command::Status => build::status(registry, options, false),
        Command::Explain { stage } => build::explain(registry, options, stage.as_deref()),
        Command::Setup { gpu } => build::setup(options, gpu),
        Command::Adopt { from } => build::adopt(registry, options, from.as_deref()),
        Command::Fetch => fetch::fetch(registry, options),
        Command::Nightly(args) => nightly::nightly(registry, options, &NightlyArgs { conf_is_given, ..args }),
        Command::Model(command) => models::model(registry, options, &command),
        Command::Search(args) => search::search(options, args),
        Command::Evaluate(args) => search::evaluate(registry, options, &args),
        Command::Compare { first, second } => search::compare(options, &first, &second),
        Command::Predictions(args) => search::predictions(registry, options, &args),
        Command::Tour => search::tour(registry, options),
        Command::Rollback => search::rollback(registry, options),
        Command::Retract { ids, by, only } => search::retract(registry, options, &ids, by, only),
        Command::Prune { keep } => search::prune(registry, options, keep),
        Command::Save(args) => records::save(registry, options, &args),
        Command::Restore(args) => records::restore(registry, options, &args),
        Command::Snapshots { from } => records::snapshots(options, &from),
        Command::Reproduce(args) => reproducing::reproduce(registry, options, &args, conf_is_given),
        Command::Lineage { of } => records::lineage(registry, options, of.as_deref()),
        Command::Diff { a, b } => records::diff(registry, options, &a, &b),
        Command::Events { to } => records::events(registry, options, &to),
        Command::Journal => records::journal(registry, options),
        Command::Gc { yes } => records::gc(registry, options, yes),
        Command::Pin { name, of } => records::pin(registry, options, name.as_deref(), of.as_deref()),
        Command::Unpin { name } => records::unpin(registry, options, &name),
        Command::Verify { from } => records::verify(registry, options, from.as_deref()),
        Command::Mlflow(Mlflow::Sync) => records::mlflow_sync(registry, options),
        Command::Inspect { bundle } => inspect::inspect(options, bundle.as_deref()),
        Command::Doctor => inspect::doctor(registry, options),
        Command::Files(args) => inspect::files(registry, options, &args),
        Command::Fidelity { csn } => inspect::fidelity(registry, options, &csn),
        Command::Duplicates { csn, rows } => inspect::duplicates(registry, options, &csn, rows),
        Command::Explore => inspect::explore(registry, options),
        Command::Config { schema } => inspect::config(registry, options, schema),
        Command::Completions { shell } => help::completions(complete_command(registry), &shell),
    }
}
