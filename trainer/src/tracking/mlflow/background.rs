//! The thread that sends a spool while training goes on: training never waits for a server, but at its end, and then not
//! for long.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ledger::Progress;

use super::{delivery::Delivery, server::Server, spool::Begin, tell};

/// How often it looks for something to send.
const EVERY: Duration = Duration::from_secs(3);
/// How long it leaves a server alone that failed: doubled each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long the end of a training waits for it.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(60);

/// Ends when it is dropped, sent or not.
#[derive(Debug)]
pub struct Background {
    signal: Sender<Signal>,
    /// Nothing comes; it closes when the thread ends.
    ended: Receiver<()>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Signal {
    Look,
    End,
}

impl Background {
    pub fn start(server: Server, folder: PathBuf, begin: Begin, progress: Progress) -> Result<Self> {
        let (signal, signals) = mpsc::channel();
        let (running, ended) = mpsc::channel();
        let work = move || {
            let _running: Sender<()> = running;
            let mut delivery = None;
            let (mut pause, mut next) = (FIRST_PAUSE, Instant::now());
            let mut failed: Option<Instant> = None;
            loop {
                let is_end = match signals.recv_timeout(EVERY) {
                    Ok(signal) => signal == Signal::End,
                    Err(RecvTimeoutError::Timeout) => false,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if is_end && failed.is_some_and(|failed| failed.elapsed() < FIRST_PAUSE) {
                    break;
                }
                if !is_end && Instant::now() < next {
                    continue;
                }
                let mut attempt = || -> Result<()> {
                    if delivery.is_none() {
                        delivery = Delivery::open(&folder, &server, &begin)?;
                    }
                    // Where another process sends it, it has been sent.
                    let Some(delivery) = &mut delivery else { return Ok(()) };
                    delivery.send(&server, is_end.then(|| Instant::now() + LAST_WAIT), &progress, None)
                };
                let outcome = attempt();
                tell(&outcome, &progress);
                if outcome.is_ok() {
                    pause = FIRST_PAUSE;
                } else {
                    failed = Some(Instant::now());
                    next = Instant::now() + pause;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                if is_end {
                    break;
                }
            }
        };
        thread::Builder::new().name("mlflow".to_owned()).spawn(work).context("starting a thread")?;
        let background = Self { signal, ended };
        background.look();
        Ok(background)
    }

    /// There is something new.
    pub fn look(&self) {
        // A thread that is gone sends nothing; the spool keeps it.
        let _ = self.signal.send(Signal::Look);
    }

    /// There is nothing more to come: waits for the rest to be sent, and leaves what takes too long.
    pub fn end(self) {
        let _ = self.signal.send(Signal::End);
        let _ = self.ended.recv_timeout(LAST_WAIT);
    }
}
