//! The commands, their arguments and their help.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use bundle::Mode;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, builder::PossibleValuesParser, parser::ValueSource};
use ledger::{Language, Registry};

use crate::{
    commands::{build, inspect, records, search},
    help,
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
    Run(RunArgs),
    /// List the stages that would run, with the reason
    #[command(after_help = "Example: codenets plan --conf conf/demo.conf")]
    Plan,
    /// Show every stage: key, age, rows, and whether it is up to date
    ///
    /// Also writes reports/status.json in --data.
    #[command(after_help = "Example: codenets status --data data")]
    Status,
    /// Explain why a stage will run: changed keys with old and new values, changed inputs
    #[command(after_help = "Example: codenets explain train")]
    Explain {
        /// Stage [default: every stage]
        stage: Option<String>,
    },
    /// Fetch ONNX Runtime from its pinned PyPI wheel into data/runtime
    #[command(after_help = "Example: codenets setup")]
    Setup {
        /// The build with CUDA (x86-64; needs CUDA 13 and cuDNN 9)
        #[arg(long)]
        gpu: bool,
    },
    /// Record an encoder that was made elsewhere, instead of training one
    ///
    /// Reads a folder with encoder.json, the graphs that it names and tokenizer.json; writes an artifact of kind encoder.
    #[command(after_help = "Example: codenets adopt data/teacher/encoder/KEY --conf conf/mine.conf")]
    Adopt {
        /// Folder of the encoder [default: adopt.from of the configuration]
        from: Option<PathBuf>,
    },

    /// Search the published bundle: words, "an exact phrase", prefixes (pars*)
    #[command(after_help = "Example: codenets search \"parse an iso date\" --language python --limit 5")]
    Search(SearchArgs),
    /// Score lexical, vector and hybrid search on the held-out split
    ///
    /// Writes an artifact of kind scores and reports/evaluate.html. With --predictions and --annotations: prints the NDCG of a
    /// predictions file by the CodeSearchNet challenge.
    #[command(after_help = "Example: codenets evaluate --conf conf/demo.conf")]
    Evaluate(EvaluateArgs),
    /// Compare two evaluations of the same queries, with paired significance tests
    #[command(after_help = "Example: codenets compare data/scores/KEY other/scores/KEY")]
    Compare {
        /// A folder of artifact kind scores
        first: PathBuf,
        /// Another one, also of another data folder
        second: PathBuf,
    },
    /// Write predictions for the CodeSearchNet challenge: query,language,identifier,url
    #[command(after_help = "Example: codenets predictions --queries queries.csv --out predictions.csv")]
    Predictions(PredictionsArgs),
    /// Show stages, scores and three example searches of the published bundle
    #[command(after_help = "Example: codenets tour --data data")]
    Tour,
    /// Publish the previous bundle again
    #[command(after_help = "Example: codenets rollback")]
    Rollback,
    /// Delete functions from every published bundle, and from all that will be published
    #[command(after_help = "Example: codenets retract ids.txt")]
    Retract {
        /// File with one row id a line, as `codenets search --json` prints them
        ids: PathBuf,
        /// Delete these ids only: an id that was deleted before and is not in the file is found again
        #[arg(long)]
        only: bool,
    },
    /// Delete old published bundles; the current one and pinned ones stay
    #[command(after_help = "Example: codenets prune --keep 2")]
    Prune {
        /// Bundles that stay [default: publish.keep of the configuration]
        #[arg(long)]
        keep: Option<usize>,
    },

    /// Save an artifact and everything it was made from at a URL
    ///
    /// Manifests are always saved; --with selects the files. A URL is a folder, s3://bucket/path, gs://bucket/path or
    /// az://container/path, with the credentials of the clouds' own environment variables (AWS_…, AZURE_…, GOOGLE_…).
    #[command(after_help = "Example: codenets save --to s3://bucket/codenets --with dataset,bundle")]
    Save(records::SaveArgs),
    /// Restore a snapshot from a URL
    ///
    /// Artifacts that are already in --data stay; an interrupted restore is resumed.
    #[command(after_help = "Example: codenets restore --from s3://bucket/codenets --data restored")]
    Restore(records::RestoreArgs),
    /// List the snapshots at a URL
    #[command(after_help = "Example: codenets snapshots --from s3://bucket/codenets")]
    Snapshots {
        /// URL
        #[arg(long, value_name = "URL")]
        from: String,
    },
    /// Run recorded stages again and compare the bytes; nothing is kept
    ///
    /// With --from: restores a snapshot into the folder `reproduced` of --data first (its content is deleted) and reports differences of
    /// commit, tool and system.
    #[command(after_help = "Example: codenets reproduce --from s3://bucket/codenets")]
    Reproduce(records::ReproduceArgs),
    /// Trace an artifact back to the digests of the raw files; writes reports/lineage.html and .svg
    #[command(after_help = "Example: codenets lineage --of scores")]
    Lineage {
        /// Artifact: a kind, kind:key, or a folder [default: the last one made]
        #[arg(long, value_name = "ARTIFACT")]
        of: Option<String>,
    },
    /// Compare two builds: code, configuration, inputs, rows, scores
    #[command(after_help = "Example: codenets diff scores:1a2b scores")]
    Diff {
        /// Artifact: a kind, kind:key, or a folder
        a: String,
        /// Artifact: a kind, kind:key, or a folder
        b: String,
    },
    /// Send OpenLineage events to an HTTP server or a file, each once
    #[command(after_help = "Example: codenets events --to http://marquez:5000")]
    Events {
        /// URL of the server, or a file
        #[arg(long, value_name = "URL", env = "OPENLINEAGE_URL")]
        to: String,
    },
    /// Show what each stage did: rows, bytes, seconds, memory; writes reports/journal.json
    #[command(after_help = "Example: codenets journal --data data")]
    Journal,
    /// Delete unreferenced artifacts (dry run unless --yes)
    #[command(after_help = "Example: codenets gc --yes")]
    Gc {
        /// Delete instead of listing
        #[arg(long)]
        yes: bool,
    },
    /// Protect an artifact and everything it was made from against gc; without a name, list the pins
    #[command(after_help = "Example: codenets pin good --of scores")]
    Pin {
        /// Name of the pin
        name: Option<String>,
        /// Artifact: a kind, kind:key, or a folder [default: the last one made]
        #[arg(long, value_name = "ARTIFACT")]
        of: Option<String>,
    },
    /// Remove a pin
    #[command(after_help = "Example: codenets unpin good")]
    Unpin {
        /// Name of the pin
        name: String,
    },
    /// Hash every recorded file and the published bundle, or a snapshot's objects, and name the damaged ones
    #[command(after_help = "Example: codenets verify --data data")]
    Verify {
        /// URL of snapshots to verify instead
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
    /// Upload unsent training runs to MLflow
    #[command(subcommand, after_help = "Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 codenets mlflow sync")]
    Mlflow(Mlflow),

    /// Describe a bundle: format, rows, fields, encoder, vector index, scores
    #[command(after_help = "Example: codenets inspect data/serve/current")]
    Inspect {
        /// Folder of a bundle [default: the published one]
        bundle: Option<PathBuf>,
    },
    /// Check this machine and the data folder, and print how to fix what is wrong
    #[command(after_help = "Example: codenets doctor --data data")]
    Doctor,
    /// List the files that harvest reads, and the files that it leaves out with the reason
    #[command(after_help = "Example: codenets files --conf conf/mine.conf --excluded")]
    Files(inspect::FilesArgs),
    /// Compare our parser with true CodeSearchNet records; writes reports/fidelity.json
    #[command(after_help = "Example: codenets fidelity --csn /path/to/codesearchnet")]
    Fidelity {
        /// Folder of true records, in any layout that ingest reads
        #[arg(long, value_name = "FOLDER")]
        csn: PathBuf,
    },
    /// Compare the near-duplicate search with comparing every pair; writes reports/duplicates.json
    #[command(after_help = "Example: codenets duplicates --csn /path/to/codesearchnet --rows 5000")]
    Duplicates {
        /// Folder of records, in any layout that ingest reads
        #[arg(long, value_name = "FOLDER")]
        csn: PathBuf,
        /// Records to compare
        #[arg(long, default_value_t = 5000)]
        rows: usize,
    },
    /// Write a page about the recorded corpus: reports/explore/report.html
    #[command(after_help = "Example: codenets explore --data data")]
    Explore,
    /// Print the resolved configuration with the file and line of each value
    #[command(after_help = "Example: codenets config --conf conf/mine.conf")]
    Config {
        /// Print the JSON Schema of a configuration instead
        #[arg(long)]
        schema: bool,
    },
    /// Print shell completions, or a man page
    #[command(after_help = "Example: codenets completions bash > ~/.local/share/bash-completion/completions/codenets")]
    Completions {
        /// bash, elvish, fish, powershell, zsh, or man
        #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh", "man"])]
        shell: String,
    },
}

/// Which stages run, and where a training starts.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Run these stages only
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "until")]
    pub only: Vec<String>,
    /// Run every stage up to and including this one
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    /// Resume a killed or restored training; fail where there is no checkpoint to resume from
    #[arg(long, conflicts_with = "restore")]
    pub resume: bool,
    /// Start the training from a recorded checkpoint (a folder of data/checkpoint)
    ///
    /// Without --conf: the checkpoint's configuration, its last weights and the optimizer's moments, for as many epochs again. With
    /// --conf: its best weights and its tokenizer, everything else as configured. The schedule starts anew in both cases.
    #[arg(long, value_name = "FOLDER")]
    pub restore: Option<PathBuf>,
    /// Was --conf given, or is it the default?
    #[arg(skip)]
    pub conf_is_given: bool,
}

/// What to search for, and how.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Query; `-` reads it from standard input
    #[arg(allow_hyphen_values = true, required_unless_present = "query_env")]
    pub query: Option<String>,
    /// Read the query from this environment variable, so that no shell expands it
    #[arg(long, value_name = "VARIABLE", conflicts_with = "query", hide = true)]
    pub query_env: Option<String>,
    /// Only this language
    #[arg(long, short)]
    pub language: Option<Language>,
    /// Number of results
    #[arg(long, short = 'k', default_value_t = 10)]
    pub limit: usize,
    /// Search mode: bm25, vector or hybrid
    #[arg(long, short, default_value = "hybrid")]
    pub mode: Mode,
    /// Only this repository, by its full name
    #[arg(long)]
    pub repo: Option<String>,
    /// Only paths that match this glob: `*` matches within a segment, `**/` across segments (`src/**/*.py`)
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// Also print the parts of each score
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

/// Where queries are encoded.
#[derive(Debug, Args)]
pub struct ExecutionArgs {
    /// Execution provider that encodes queries: cpu, cuda or tensorrt
    #[arg(long, default_value = "cpu")]
    pub provider: inference::Provider,
}

/// A file of predictions, and the judgments that score it.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// CSV with columns query, language, url, best first
    #[arg(long, value_name = "CSV", requires = "annotations")]
    pub predictions: Option<PathBuf>,
    /// CSV with columns Query, Language, GitHubUrl, Relevance: CodeSearchNet's annotationStore.csv
    #[arg(long, value_name = "CSV", requires = "predictions")]
    pub annotations: Option<PathBuf>,
}

/// Queries in, predictions out.
#[derive(Debug, Args)]
pub struct PredictionsArgs {
    /// CSV with a column `query`
    #[arg(long, value_name = "CSV")]
    pub queries: PathBuf,
    /// CSV to write
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
    /// Languages, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    pub languages: Vec<Language>,
    /// Search mode: bm25, vector or hybrid
    #[arg(long, short, default_value = "hybrid")]
    pub mode: Mode,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

#[derive(Debug, Subcommand)]
enum Mlflow {
    /// Upload unsent training runs to the MLflow server that MLFLOW_TRACKING_URI names
    Sync,
}

/// The complete command: grouped help, versions, stage names as possible values.
pub fn command(registry: &Registry) -> clap::Command {
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

/// Runs the command with these arguments (the first is the program's name).
pub fn run<T: Into<OsString> + Clone>(registry: &Registry, arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let matches = command(registry).try_get_matches_from(arguments).unwrap_or_else(|error| error.exit());
    let given = |matches: &clap::ArgMatches| matches.value_source("conf").is_some_and(|source| source != ValueSource::DefaultValue);
    let conf_is_given = given(&matches) || matches.subcommand().is_some_and(|(_, matches)| given(matches));
    let Cli { command, options } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    dispatch(registry, &options, command, conf_is_given)
}

fn dispatch(registry: &Registry, options: &Options, command: Command, conf_is_given: bool) -> Result<()> {
    match command {
        Command::Run(args) => build::run(registry, options, &RunArgs { conf_is_given, ..args }),
        Command::Plan => build::status(registry, options, true),
        Command::Status => build::status(registry, options, false),
        Command::Explain { stage } => build::explain(registry, options, stage.as_deref()),
        Command::Setup { gpu } => build::setup(gpu),
        Command::Adopt { from } => build::adopt(registry, options, from.as_deref()),
        Command::Search(args) => search::search(options, args),
        Command::Evaluate(args) => search::evaluate(registry, options, &args),
        Command::Compare { first, second } => search::compare(options, &first, &second),
        Command::Predictions(args) => search::predictions(registry, options, &args),
        Command::Tour => search::tour(registry, options),
        Command::Rollback => search::rollback(registry, options),
        Command::Retract { ids, only } => search::retract(registry, options, &ids, only),
        Command::Prune { keep } => search::prune(registry, options, keep),
        Command::Save(args) => records::save(registry, options, &args),
        Command::Restore(args) => records::restore(registry, options, &args),
        Command::Snapshots { from } => records::snapshots(options, &from),
        Command::Reproduce(args) => records::reproduce(registry, options, &args),
        Command::Lineage { of } => records::lineage(registry, options, of.as_deref()),
        Command::Diff { a, b } => records::diff(registry, options, &a, &b),
        Command::Events { to } => records::events(registry, options, &to),
        Command::Journal => records::journal(registry, options),
        Command::Gc { yes } => records::gc(registry, options, yes),
        Command::Pin { name, of } => records::pin(registry, options, name.as_deref(), of.as_deref()),
        Command::Unpin { name } => Ok(options.store(registry).unpin(&name)?),
        Command::Verify { from } => records::verify(registry, options, from.as_deref()),
        Command::Mlflow(Mlflow::Sync) => records::mlflow_sync(registry, options),
        Command::Inspect { bundle } => inspect::inspect(options, bundle.as_deref()),
        Command::Doctor => inspect::doctor(registry, options),
        Command::Files(args) => inspect::files(registry, options, &args),
        Command::Fidelity { csn } => inspect::fidelity(registry, options, &csn),
        Command::Duplicates { csn, rows } => inspect::duplicates(registry, options, &csn, rows),
        Command::Explore => inspect::explore(registry, options),
        Command::Config { schema } => inspect::config(registry, options, schema),
        Command::Completions { shell } => help::completions(registry, &shell),
    }
}
