//! Points between two system calls where a test may have the process killed. Not in a release build.
//!
//! `CODENETS_FAULT=n` kills the process (SIGKILL: nothing is tidied up) at the n-th point that it comes by.

/// A place where a crash must do no harm; the name is what follows.
#[cfg(debug_assertions)]
pub fn point(next: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static FATAL: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("CODENETS_FAULT").ok()?.parse().ok());
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(fatal) = *FATAL else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == fatal {
        eprintln!("killed before: {next}");
        // SAFETY: kill(2) with our own process id touches no memory; tests/road/sealing.rs kills at every point.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        // The signal is delivered before kill returns to this thread, but for a system that says otherwise.
        std::process::abort();
    }
}

/// A place where a crash must do no harm; nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_: &str) {}
