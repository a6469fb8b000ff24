//! A thread that uploads the spool while the training runs. The training waits for the server only at its end, for a limited time.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use ledger::Progress;

use super::{outage, server::Server, spool::Begin, upload::Upload};
use crate::error::{Context, Result};

/// Time between two uploads.
const EVERY: Duration = Duration::from_secs(3);
/// Pause after a failed upload; it doubles with each failure up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Maximum time that the end of a training waits for the upload.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(60);

/// The thread; it ends when this value is dropped.
#[derive(Debug)]
pub struct BackgroundUpload {
    signal: Sender<Signal>,
    /// No value is sent; the channel closes when the thread ends.
    ended: Receiver<()>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Signal {
    Wake,
    End,
}

impl BackgroundUpload {
    /// Starts the thread for the spool of `folder`.
    pub fn start(server: Server, folder: PathBuf, begin: Begin, progress: Progress) -> Result<Self> {
        let (signal, signals) = mpsc::channel();
        let (running, ended) = mpsc::channel();
        let worker = Worker { server, folder, begin, progress, upload: None };
        let work = move || {
            let _running: Sender<()> = running;
            worker.run(&signals);
        };
        thread::Builder::new().name("mlflow".to_owned()).spawn(work).context("starting the thread of the mlflow upload")?;
        let background = Self { signal, ended };
        background.wake();
        Ok(background)
    }

    /// Uploads new entries now.
    pub fn wake(&self) {
        // If the thread has ended, the entries stay in the spool.
        let _ = self.signal.send(Signal::Wake);
    }

    /// Uploads the rest and ends the thread; waits at most [`LAST_WAIT`].
    pub fn end(self) {
        let _ = self.signal.send(Signal::End);
        let _ = self.ended.recv_timeout(LAST_WAIT);
    }
}

/// State of the thread.
struct Worker {
    server: Server,
    folder: PathBuf,
    begin: Begin,
    progress: Progress,
    upload: Option<Upload>,
}

impl Worker {
    /// Uploads until the last signal.
    fn run(mut self, signals: &Receiver<Signal>) {
        let (mut pause, mut next) = (FIRST_PAUSE, Instant::now());
        let mut failed: Option<Instant> = None;
        loop {
            let is_end = match signals.recv_timeout(EVERY) {
                Ok(signal) => signal == Signal::End,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if is_end && failed.is_some_and(|failed| failed.elapsed() < FIRST_PAUSE) {
                return;
            }
            if !is_end && Instant::now() < next {
                continue;
            }
            let outcome = self.send(is_end.then(|| Instant::now() + LAST_WAIT));
            outage::report(&outcome, &self.progress);
            if outcome.is_ok() {
                pause = FIRST_PAUSE;
            } else {
                failed = Some(Instant::now());
                next = Instant::now() + pause;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            if is_end {
                return;
            }
        }
    }

    fn send(&mut self, until: Option<Instant>) -> Result<()> {
        if self.upload.is_none() {
            self.upload = Upload::open(&self.folder, &self.server, &self.begin)?;
        }
        // If another process uploads the spool, nothing is left to do.
        let Some(upload) = &mut self.upload else { return Ok(()) };
        upload.send(&self.server, until, &self.progress, None)
    }
}
