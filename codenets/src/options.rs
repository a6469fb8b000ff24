//! Global options: which configuration, which data folder, how many threads, which output.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ledger::{
    Progress, Registry, Store,
    conf::{Conf, RunSettings},
};
use serde_json::Value;

/// Options before or after the subcommand.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// Configuration file (HOCON); conf/base.conf explains every key
    #[arg(long, global = true, value_name = "FILE", default_value = "conf/demo.conf", env = "CODENETS_CONF")]
    pub conf: PathBuf,
    /// Data folder: the artifact store, one for each configuration
    #[arg(long, global = true, value_name = "FOLDER", default_value = "data", env = "CODENETS_DATA")]
    pub data: PathBuf,
    /// Worker threads [default: run.threads of the configuration, else all cores]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress on standard error
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Is this process the program `codenets` itself, so that it can start itself again?
    #[arg(skip)]
    pub is_program: bool,
}

impl Options {
    pub fn load(&self, registry: &Registry) -> Result<Conf> {
        Ok(Conf::load(&self.conf, &registry.sections())?)
    }

    /// Opens the store with the thread count of the options or the configuration.
    pub fn store_of(&self, registry: &Registry, conf: &Conf) -> Result<Store> {
        let section: RunSettings = conf.section("run")?;
        Ok(self.open(registry, self.threads.or(section.threads)))
    }

    /// Opens the store for commands that read no configuration.
    pub fn store(&self, registry: &Registry) -> Store {
        self.open(registry, self.threads)
    }

    fn open(&self, registry: &Registry, threads: Option<usize>) -> Store {
        let threads = threads.filter(|&threads| threads > 0).unwrap_or_else(cores);
        // A second call in one process (tests) keeps the first pool.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        Store::at(&self.data, Progress::new(self.quiet || self.json), threads).with_kinds(registry.kinds())
    }

    /// Prints text without control characters, or with `--json` one line of JSON.
    pub fn print(&self, text: &str, value: &Value) -> Result<()> {
        if self.json {
            outln!("{value}")?
        } else {
            outln!("{}", text.trim_end())?
        }
        Ok(())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
