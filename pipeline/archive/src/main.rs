//! The `archive` tool: saves, restores and traces what the other tools recorded.

use std::process::ExitCode;

fn main() -> ExitCode {
    ledger::cli::main(|| archive::cli::run(std::env::args_os()))
}
