//! Points between two system calls at which a test can kill the process. A release build has none.
//!
//! `CODENETS_FAULT=n` kills the process at the n-th point with SIGKILL, so that no cleanup runs.

/// A point at which a crash must do no harm. `next`: the system call that follows, for the message.
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
        // SAFETY: kill(2) with the id of this process touches no memory; tests/end_to_end kills a process at every point.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        // The signal ends the process before kill returns, except on a system that delivers it later.
        std::process::abort();
    }
}

/// Nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_: &str) {}
