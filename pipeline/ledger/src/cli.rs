//! What the three tools share on the command line: which configuration, which store, how many threads.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Progress, Repeated, Stage, StageStatus, Store, conf::Conf, render_status, write_atomically};

/// Options before or behind the subcommand.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file (HOCON); see conf/base.conf for every key
    #[arg(long, global = true, default_value = "conf/demo.conf", env = "CODENETS_CONF")]
    pub conf: PathBuf,
    /// Folder of recorded artifacts; two configurations are kept apart by two folders
    #[arg(long, global = true, default_value = "data", env = "CODENETS_DATA")]
    pub data: PathBuf,
    /// Worker threads (default: run.threads of the configuration, else all cores)
    #[arg(long, global = true)]
    pub threads: Option<usize>,
    /// Print JSON for machines instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Options of `status` and `plan`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// JSON rows of the stages before these (`-`: standard input), from `status --json` of another tool
    #[arg(long)]
    pub after: Option<PathBuf>,
    /// Only the stages that would run
    #[arg(long)]
    pub pending: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RunSection {
    threads: Option<usize>,
}

impl Common {
    pub fn load(&self) -> Result<Conf> {
        Conf::load(&self.conf)
    }

    /// Opens the store and starts the thread pool.
    pub fn store(&self, conf: &Conf) -> Result<Store> {
        let section: RunSection = conf.section("run")?;
        Ok(self.store_with(self.threads.or(section.threads)))
    }

    /// The store for commands that read it without a configuration.
    pub fn store_with(&self, threads: Option<usize>) -> Store {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.filter(|&threads| threads > 0).unwrap_or(cores);
        // A second call in one process (tests) keeps the first pool.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        Store::at(&self.data, Progress::new(self.quiet || self.json), threads)
    }

    /// Text for people, or a line of JSON for machines.
    pub fn print(&self, text: &str, value: &Value) {
        if self.json { println!("{value}") } else { println!("{text}") }
    }

    /// Prints the statuses of this tool's stages behind those it was given, and keeps them in
    /// `reports/status.json`.
    pub fn print_status(&self, args: &StatusArgs, store: &Store, own: impl FnOnce(&mut Vec<StageStatus>) -> Result<()>) -> Result<()> {
        let mut stages = args.earlier()?;
        own(&mut stages)?;
        if let Err(error) = write_report(store.root(), "status", &flat_status(&stages)) {
            // A folder that may only be read has a status too.
            eprintln!("reports/status.json is not renewed: {error:#}");
        }
        let shown: Vec<_> = stages.into_iter().filter(|stage| !args.pending || stage.will_run).collect();
        if self.json {
            println!("{}", serde_json::to_string(&shown)?);
        } else {
            if shown.is_empty() { println!("nothing to do: every stage is fresh") } else { print!("{}", render_status(&shown)) }
        }
        Ok(())
    }
}

impl StatusArgs {
    fn earlier(&self) -> Result<Vec<StageStatus>> {
        let Some(path) = &self.after else { return Ok(Vec::new()) };
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().read_to_string(&mut text)?;
        } else {
            text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        }
        serde_json::from_str(&text).with_context(|| format!("{} does not hold `status --json`", path.display()))
    }
}

fn flat_status(stages: &[StageStatus]) -> Map<String, Value> {
    let mut flat = Map::new();
    for stage in stages {
        let mut put = |key: &str, value: Value| flat.insert(format!("{}_{key}", stage.stage), value);
        put("state", stage.state.clone().into());
        put("why", stage.why.clone().into());
        put("will_run", stage.will_run.into());
        put("key", stage.key.clone().into());
        put("age_s", stage.age_s.into());
        put("rows", stage.rows.into());
        put("bytes", stage.bytes.into());
    }
    flat
}

/// Options of `reproduce`.
#[derive(Debug, Clone, Args)]
pub struct ReproduceArgs {
    /// Only these stages
    #[arg(long, value_delimiter = ',')]
    pub stage: Vec<String>,
}

/// What `reproduce` found, over the stages of a tool.
#[derive(Debug, Default)]
pub struct Reproduction {
    other: Vec<&'static str>,
}

impl Reproduction {
    /// Runs a stage once more where all is equal, compares bytes and says what came of it.
    pub fn stage<S: Stage>(&mut self, args: &ReproduceArgs, store: &Store, conf: &Conf) -> Result<()> {
        if !args.stage.is_empty() && !args.stage.iter().any(|stage| stage == S::NAME) {
            return Ok(());
        }
        let said = match store.repeat::<S>(&conf.section(S::NAME)?).with_context(|| format!("stage {}", S::NAME))? {
            Repeated::NotRecorded => "nothing of it was saved".to_owned(),
            Repeated::Differs(why) => format!("not run, it would not be the same: {why}"),
            Repeated::Lacks(what) => format!("not run: {what}"),
            Repeated::Ran { files, bytes, other, seconds } if other.is_empty() => {
                format!("the same bytes: {files} files, {:.1} MiB, {seconds:.1} s", bytes as f64 / (1 << 20) as f64)
            }
            Repeated::Ran { files, other, .. } => {
                self.other.push(S::NAME);
                let named: Vec<String> = other.iter().take(5).map(|path| path.display().to_string()).collect();
                format!("OTHER BYTES in {} of {files} files: {}", other.len(), named.join(", "))
            }
        };
        println!("{:<9} {said}", S::NAME);
        Ok(())
    }

    /// # Errors
    /// A stage gave other bytes.
    pub fn end(self) -> Result<()> {
        anyhow::ensure!(self.other.is_empty(), "{} did not give the same bytes again", self.other.join(", "));
        Ok(())
    }
}

/// Makes a stage by its section of the configuration.
pub fn make<S: Stage>(store: &Store, conf: &Conf) -> Result<()> {
    store.make::<S>(&conf.section(S::NAME)?)?;
    Ok(())
}

/// Writes `reports/<name>.json`: flat keys with the unit in the key.
pub fn write_report(data: &Path, name: &str, flat: &Map<String, Value>) -> Result<()> {
    write_atomically(&data.join("reports").join(format!("{name}.json")), &serde_json::to_vec_pretty(flat)?)
}

/// Runs a tool: errors go to standard error as one line a cause, with exit status 1.
pub fn main(run: impl FnOnce() -> Result<()>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
