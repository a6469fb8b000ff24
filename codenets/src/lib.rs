//! The command line of codenets.
//!
//! ```text
//! stages         the list of all stages: the one place where a stage is registered
//! options        global options: configuration, data folder, threads, output
//! cli            the commands and their help
//! releases       makes releases of the encoder
//! night_conf     what a night changes of a configuration
//! mirrors        mirrors of remote git repositories
//! nightly        one night of a scheduled build
//! period         time spans of a configuration
//! stage_process  runs a stage in a process of its own
//! faults         messages for faults that end the process at once
//! commands       one module a group of commands; each reads its arguments and calls the libraries
//! ```

/// `print!` that returns an error, for example of a closed pipe, instead of panicking. Control characters, which could change a terminal,
/// are replaced.
macro_rules! out {
    ($($text:tt)*) => {
        ::std::io::Write::write_all(&mut ::std::io::stdout(), ::ledger::plain(&::std::format!($($text)*)).as_bytes())
    };
}
/// `println!` that returns an error, for example of a closed pipe, instead of panicking.
macro_rules! outln {
    () => { out!("\n") };
    ($format:literal $($rest:tt)*) => {
        out!("{}\n", ::core::format_args!($format $($rest)*))
    };
}

pub mod cli;
mod commands;
mod faults;
mod help;
mod mirrors;
mod night_conf;
mod nightly;
mod options;
mod period;
mod releases;
mod stage_process;
pub mod stages;

use std::{ffi::OsString, process::ExitCode};

use ledger::Registry;

pub use faults::Allocator;

/// Runs the command with these arguments (the first is the program's name) in this process. An error is one line on standard error, its
/// causes after colons, and exit status 1.
pub fn main<T: Into<OsString> + Clone>(registry: &Registry, arguments: impl IntoIterator<Item = T>) -> ExitCode {
    allow_open_files();
    set_commit();
    exit_code(cli::run(registry, arguments, false))
}

/// [`main`] of the program `codenets`: it starts itself again for each stage of a run, so that the memory of a stage is its own.
pub fn program() -> ExitCode {
    faults::explain_bus_errors();
    allow_open_files();
    set_commit();
    exit_code(cli::run(&stages::registry(), std::env::args_os(), true))
}

/// `ingest` has up to three files of each shard open, more than the usual limit of 1024.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where this is refused, opening a file too many says so.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

/// The commit that the build recorded goes into every manifest.
fn set_commit() {
    let id = Some(env!("CODENETS_COMMIT")).filter(|id| !id.is_empty());
    let diff = include_bytes!(concat!(env!("OUT_DIR"), "/changes.diff"));
    ledger::Commit::set_built_from(id, env!("CODENETS_DIRTY") == "true", diff);
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<stage_process::StageFailed>() => ExitCode::FAILURE,
        Err(error) => {
            ledger::print_line(&format!("error: {error:#}"));
            error.downcast_ref::<nightly::Stopped>().map_or(ExitCode::FAILURE, |stopped| ExitCode::from(stopped.status))
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
