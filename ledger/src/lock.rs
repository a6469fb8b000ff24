//! One writer at a time in a data folder: a lock file with its owner and a heartbeat.
//!
//! The system's lock on the file decides, and ends with the process however that ends. It may not reach across machines
//! (network file systems), so the file also says who holds it, with a counter that goes up while the owner lives: whoever finds an
//! owner on another machine waits until that counter has stood still. No clock is compared with another machine's.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
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
    Progress,
    clock::unix_now,
    error::{Context, Result},
};

/// Seconds from one heartbeat to the next.
const BEAT: Duration = Duration::from_secs(5);
/// An owner on another machine is gone when its counter has not moved for this long.
const SILENCE: Duration = Duration::from_secs(30);

/// Who holds a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub host: String,
    pub pid: u32,
    /// The command line's words without its paths: `pipeline run`.
    pub command: String,
    pub since_unix_s: u64,
    /// Goes up while the owner lives.
    pub beats: u64,
}

/// ArtifactRef until dropped.
#[derive(Debug)]
pub struct Lock {
    file: Arc<File>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Owner {
    fn here() -> Self {
        Self { host: host(), pid: process::id(), command: command(), since_unix_s: unix_now(), beats: 0 }
    }

    /// The owner that a lock file names, if anyone does.
    pub fn of(path: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&self, mut file: &File) -> Result<()> {
        // In place: the lock is on this very file.
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
    /// Waits until nobody else holds the file, saying for whom.
    pub(crate) fn wait(path: &Path, progress: &Progress) -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.with_context(|| format!("{} cannot be written: is its folder read-only?", path.display()))?;
        if file.try_lock().is_err() {
            let owner = Owner::of(path).map_or_else(|| "another run".to_owned(), |owner| owner.to_string());
            progress.message(&format!("waits for {owner}"));
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        let mut owner = Owner::here();
        // A full disk takes no heartbeat; the system's lock holds all the same.
        while wait_for_other_host(path, progress, SILENCE) {
            let _ = owner.write(&file);
            // Another that waited as well may have written after us: the last one has it.
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

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            let _ = thread.join();
        }
        let _ = self.file.set_len(0);
    }
}

/// Looks this often while an owner elsewhere would have to be silent.
const POLLS: u32 = 30;

/// Returns when no other machine holds the file, or none has given a sign for so long; whether one did.
fn wait_for_other_host(path: &Path, progress: &Progress, silence: Duration) -> bool {
    // What does not read (a line half written) is somebody's too.
    let other = || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let is_ours = serde_json::from_str::<Owner>(&text).is_ok_and(|owner| owner.host == host());
        (!text.trim().is_empty() && !is_ours).then_some(text)
    };
    let Some(mut last) = other() else { return false };
    let shown = |text: &str| serde_json::from_str::<Owner>(text).map_or_else(|_| "another machine".to_owned(), |owner| owner.to_string());
    progress.message(&format!("waits for {}, or for {} s without a sign of it", shown(&last), silence.as_secs()));
    let mut moved = Instant::now();
    while moved.elapsed() < silence {
        thread::sleep(silence / POLLS);
        match other() {
            None => return true,
            Some(now) if now != last => (last, moved) = (now, Instant::now()),
            Some(_) => {}
        }
    }
    progress.message(&format!("goes on: {} gave no sign", shown(&last)));
    true
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().to_owned()).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// The program's name and its subcommand.
fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    words.find(|word| !word.starts_with('-')).map_or(program.clone(), |verb| format!("{program} {verb}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_its_owner_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let lock = Lock::wait(&path, &Progress::new(true)).unwrap();
        let owner = Owner::of(&path).unwrap();
        assert_eq!((owner.pid, owner.host), (process::id(), host()));
        // Another opening of the file is another holder, to the system too.
        assert!(File::open(&path).unwrap().try_lock().is_err());
        drop(lock);
        assert_eq!(Owner::of(&path), None);
        File::open(&path).unwrap().try_lock().unwrap();
    }

    #[test]
    fn an_owner_elsewhere_is_waited_for_while_its_heart_beats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let mut owner = Owner { host: "elsewhere".to_owned(), ..Owner::here() };
        let silence = Duration::from_millis(300);
        // In place, as an owner does: the file is never empty in between.
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
        // What is half written is somebody's; what is ours or empty is nobody's.
        std::fs::write(&path, "{\"host\"").unwrap();
        assert!(wait_for_other_host(&path, &Progress::new(true), silence));
        beat(&Owner::here());
        assert!(!wait_for_other_host(&path, &Progress::new(true), silence));
        std::fs::write(&path, "").unwrap();
        assert!(!wait_for_other_host(&path, &Progress::new(true), silence));
    }
}
