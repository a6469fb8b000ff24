//! Runs a function on several items at a time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ledger::Invalid;

use crate::error::Result;

/// Files that are transferred at a time. With `CHUNK` this bounds the memory.
const WORKERS: usize = 6;

/// Runs `work` on each item, several at a time. The first error stops the rest.
///
/// # Errors
/// The first error of `work`.
pub fn each<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let items = Mutex::new(items.into_iter().collect::<Vec<_>>().into_iter());
    let failed = AtomicBool::new(false);
    let next = || if failed.load(Ordering::Relaxed) { None } else { items.lock().unwrap_or_else(PoisonError::into_inner).next() };
    let worker = || -> Result<()> {
        while let Some(item) = next() {
            if let Err(error) = work(item) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Invalid("a worker panicked".into()).into())));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
