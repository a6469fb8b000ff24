//! The `pipeline` tool: raw text to typed columns.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ledger::cli::main(|| pipeline::cli::run(std::env::args_os()))
}
