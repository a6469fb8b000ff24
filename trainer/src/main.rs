//! The `trainer` tool: token ids to an encoder.

use std::process::ExitCode;

/// Training allocates and frees many tensors a step: 13 % faster than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trainer::pages::keep();
    ledger::cli::main(|| trainer::cli::run(std::env::args_os()))
}
