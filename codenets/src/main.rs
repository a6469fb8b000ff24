//! The `codenets` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: codenets::Allocator = codenets::Allocator;

fn main() -> ExitCode {
    // SAFETY: the first statement of the program: no other thread runs that could read the environment.
    unsafe { std::env::set_var(inference::TELEMETRY_VARIABLE, "1") };
    codenets::program()
}
