//! The lock of a data folder: one process at a time writes to it.
//!
//! The system's lock on the file `.lock` decides, and ends with the process. It may not work across machines (network file systems).
//! So the file also contains the owner, with a counter that increases while the owner runs. A process that finds an owner on another
//! machine waits until the counter has not changed for some time. Clocks of different machines are never compared.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::unix_now,
    error::{Context, Error, Result},
    progress::Progress,
};

/// Time from one heartbeat to the next.
const BEAT: Duration = Duration::from_secs(5);
/// An owner on another machine is considered dead when its counter has not changed for this time.
const SILENCE: Duration = Duration::from_secs(30);

/// The process that has the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub host: String,
    pub pid: u32,
    /// Program and subcommand: `codenets run`.
    pub command: String,
    pub since_unix_s: u64,
    /// A counter that increases while the owner runs.
    pub beats: u64,
}

/// A lock, released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: Arc<File>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Owner {
    fn here() -> Self {
        Self { host: host(), pid: process::id(), command: command(), since_unix_s: unix_now(), beats: 0 }
    }

    /// The owner in a lock file, if there is one.
    pub fn of(path: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The owner of a lock that another process has. That process writes its name right after it got the lock.
    fn awaited(path: &Path) -> Option<Self> {
        (0..20).find_map(|attempt| {
            thread::sleep(Duration::from_millis(10) * attempt.min(1));
            Self::of(path)
        })
    }

    /// The owner of a lock that another process has, for messages.
    fn text(path: &Path) -> String {
        Self::awaited(path).map_or_else(|| "another run".to_owned(), |owner| owner.to_string())
    }

    fn write(&self, mut file: &File) -> Result<()> {
        // Written in place, because the lock belongs to this file.
        let text = serde_json::to_string(self)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        Ok(())
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = unix_now().saturating_sub(self.since_unix_s);
        write!(f, "`{}`, process {} on {}, for {seconds} s", self.command, self.pid, self.host)
    }
}

impl Lock {
    /// Waits until no other process has the lock, with a message that names its owner.
    pub(crate) fn wait(path: &Path, progress: &Progress) -> Result<Self> {
        let file = Self::opened(path)?;
        if file.try_lock().is_err() {
            progress.message(&format!("waits for {}", Owner::text(path)));
            file.lock().map_err(Error::io("locking", path))?;
        }
        Self::held(file, path, progress)
    }

    /// The lock, or [`Error::InUse`] where another process of this machine has it. An owner on another machine is waited for.
    pub(crate) fn now(path: &Path, progress: &Progress) -> Result<Self> {
        let file = Self::opened(path)?;
        if file.try_lock().is_err() {
            return Err(Error::InUse { owner: Owner::text(path), data: path.parent().unwrap_or(path).to_owned() });
        }
        Self::held(file, path, progress)
    }

    fn opened(path: &Path) -> Result<File> {
        open_lock(path).with_context(|| format!("{} cannot be written: is its folder read-only, or is it a link?", path.display()))
    }

    /// The lock of a file that this process has locked: writes the owner.
    fn held(file: File, path: &Path, progress: &Progress) -> Result<Self> {
        let mut owner = Owner::here();
        // Heartbeats fail on a full disk; the lock of the system is valid without them.
        while wait_for_other_host(path, progress, SILENCE) {
            let _ = owner.write(&file);
            // Another waiting process may have written after this one: the last writer has the lock.
            thread::sleep(2 * SILENCE / POLLS);
        }
        let _ = owner.write(&file);
        let file = Arc::new(file);
        let (stop, stopped) = mpsc::channel();
        let beaten = file.clone();
        let heart = thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                owner.beats += 1;
                let _ = owner.write(&beaten);
            }
        });
        Ok(Self { file, heart: heart.ok().map(|thread| (stop, thread)) })
    }
}

/// Opens a lock file, and creates it where it does not exist. A link is not followed: the lock would write into another file.
pub fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            let _ = thread.join();
        }
        let _ = self.file.set_len(0);
    }
}

/// Number of reads of the lock file during [`SILENCE`].
const POLLS: u32 = 30;

/// Returns when no process on another machine has the lock, or when the counter of its owner has not changed for `silence`. Was there
/// such a process?
fn wait_for_other_host(path: &Path, progress: &Progress, silence: Duration) -> bool {
    // A text that cannot be read (half written) belongs to an owner too.
    let other = || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let is_ours = serde_json::from_str::<Owner>(&text).is_ok_and(|owner| owner.host == host());
        (!text.trim().is_empty() && !is_ours).then_some(text)
    };
    let Some(mut last) = other() else { return false };
    let shown = |text: &str| serde_json::from_str::<Owner>(text).map_or_else(|_| "another machine".to_owned(), |owner| owner.to_string());
    progress.message(&format!("waits for {}, or until it has been silent for {} s", shown(&last), silence.as_secs()));
    let mut moved = Instant::now();
    while moved.elapsed() < silence {
        thread::sleep(silence / POLLS);
        match other() {
            None => return true,
            Some(now) if now != last => (last, moved) = (now, Instant::now()),
            Some(_) => {}
        }
    }
    progress.message(&format!("continues: {} was silent", shown(&last)));
    true
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().to_owned()).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// Program and subcommand of this process.
fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    words.find(|word| !word.starts_with('-')).map_or(program.clone(), |subcommand| format!("{program} {subcommand}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_owner_of_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let lock = Lock::wait(&path, &Progress::new(true)).unwrap();
        let owner = Owner::of(&path).unwrap();
        assert_eq!(owner.to_string(), format!("`{}`, process {} on {}, for 0 s", command(), process::id(), host()));
        assert_eq!((owner.pid, owner.host), (process::id(), host()));
        assert!(matches!(Lock::now(&path, &Progress::new(true)), Err(Error::InUse { owner, .. }) if owner.contains(&command())));
        assert!(!host().is_empty() && host() == host().trim(), "a lock of another machine is known by its name");
        // For the system, the same file opened again is another owner.
        assert!(File::open(&path).unwrap().try_lock().is_err());
        drop(lock);
        assert_eq!(Owner::of(&path), None);
        File::open(&path).unwrap().try_lock().unwrap();
    }

    #[test]
    fn an_owner_on_another_machine_is_waited_for_while_its_counter_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let mut owner = Owner { host: "other".to_owned(), ..Owner::here() };
        let silence = Duration::from_millis(300);
        // Written in place, so that the file is never empty.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
        let beat = |owner: &Owner| owner.write(&opened).unwrap();
        beat(&owner);
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5 {
                    thread::sleep(Duration::from_millis(100));
                    owner.beats += 1;
                    beat(&owner);
                }
            });
            assert!(wait_for_other_host(&path, &Progress::new(true), silence));
        });
        assert!(started.elapsed() >= Duration::from_millis(500) + silence, "{:?}", started.elapsed());
        // A half written owner counts, this machine or an empty file does not.
        std::fs::write(&path, "{\"host\"").unwrap();
        assert!(wait_for_other_host(&path, &Progress::new(true), silence));
        beat(&Owner::here());
        assert!(!wait_for_other_host(&path, &Progress::new(true), silence));
        std::fs::write(&path, "").unwrap();
        assert!(!wait_for_other_host(&path, &Progress::new(true), silence));
    }

    #[test]
    fn the_owner_names_its_program() {
        let program = std::env::current_exe().unwrap();
        assert!(command().starts_with(&*program.file_name().unwrap().to_string_lossy()), "{}", command());
    }

    #[test]
    fn an_owner_that_has_the_lock_and_did_not_write_its_name_yet_is_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let file = File::create(&path).unwrap();
        assert_eq!(Owner::awaited(&path), None);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                Owner::here().write(&file).unwrap();
            });
            assert_eq!(Owner::awaited(&path).map(|owner| owner.pid), Some(process::id()));
        });
    }
}
