//! The `indexer` tool: columns and an encoder to a searchable bundle.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ledger::cli::main(|| indexer::cli::run(std::env::args_os()))
}
