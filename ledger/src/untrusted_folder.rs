//! Files of a folder that someone else wrote: links are not followed, and nothing outside of the folder is opened.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open, openat},
    io::Errno,
};

/// A folder whose content is not trusted: it may hold links to secrets, devices without an end, and pipes that block.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// std::fs::write(dir.path().join("a.py"), "x = 1\n").unwrap();
/// std::os::unix::fs::symlink("/etc/passwd", dir.path().join("b.py")).unwrap();
/// let folder = ledger::UntrustedFolder::open(dir.path()).unwrap();
/// assert_eq!(folder.read("a.py", 100).unwrap(), b"x = 1\n");
/// assert!(matches!(folder.read("a.py", 5), Err(ledger::Refusal::TooLarge { bytes: 6 })));
/// assert!(matches!(folder.read("b.py", 100), Err(ledger::Refusal::Link)));
/// ```
#[derive(Debug)]
pub struct UntrustedFolder {
    folder: OwnedFd,
}

/// Why a path of an [`UntrustedFolder`] is not read.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such file.
    Missing,
    /// The path, or a folder in it, is a symbolic link.
    Link,
    /// The path leads out of the folder.
    Outside,
    /// A folder, a pipe, a socket or a device.
    NotRegular,
    /// The file is larger than the reader accepts.
    TooLarge { bytes: u64 },
    /// The system does not read the file.
    Unreadable(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "it does not exist"),
            Self::Link => write!(f, "it is a symbolic link"),
            Self::Outside => write!(f, "the path leads out of the folder"),
            Self::NotRegular => write!(f, "it is no regular file"),
            Self::TooLarge { bytes } => write!(f, "it has {bytes} bytes"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::LOOP => Self::Link,
            Errno::XDEV => Self::Outside,
            // A socket, and a device without a driver.
            Errno::NXIO | Errno::NODEV => Self::NotRegular,
            other => Self::Unreadable(other.into()),
        }
    }
}

/// `NONBLOCK`: opening a pipe returns at once.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY);

impl UntrustedFolder {
    /// Opens a folder. Links in `root` itself are followed: the user wrote it.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { folder: open(root, FOLDER, Mode::empty())? })
    }

    /// Opens a regular file and returns its size in bytes.
    pub fn open_file(&self, path: &str) -> Result<(File, u64), Refusal> {
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Refusal::Outside);
        }
        let file = self.open_beneath(path)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Refusal::NotRegular);
        }
        Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or_default()))
    }

    /// Reads a regular file of at most `max_bytes` bytes.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
        let (file, bytes) = self.open_file(path)?;
        if bytes > max_bytes {
            return Err(Refusal::TooLarge { bytes });
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        // The file may grow while it is read.
        file.take(max_bytes + 1).read_to_end(&mut content).map_err(Refusal::Unreadable)?;
        if content.len() as u64 > max_bytes {
            return Err(Refusal::TooLarge { bytes: content.len() as u64 });
        }
        Ok(content)
    }

    #[cfg(target_os = "linux")]
    fn open_beneath(&self, path: &str) -> Result<OwnedFd, Errno> {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.folder, path, FILE, Mode::empty(), resolve) {
            // A kernel before 5.6, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.open_step_by_step(path),
            opened => opened,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_beneath(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open_step_by_step(path)
    }

    /// Opens one folder of the path after the other, without following links.
    fn open_step_by_step(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut current: Option<OwnedFd> = None;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            let parent = current.as_ref().unwrap_or(&self.folder);
            current = Some(openat(parent, folder, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| {
                // Linux says "no folder" of a link that it was told not to follow.
                let is_link = rustix::fs::readlinkat(parent, folder, Vec::new()).is_ok();
                if is_link { Errno::LOOP } else { errno }
            })?);
        }
        openat(current.as_ref().unwrap_or(&self.folder), name, FILE, Mode::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    type Opener = fn(&UntrustedFolder, &str) -> Result<OwnedFd, Errno>;

    fn folder() -> (tempfile::TempDir, UntrustedFolder) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(dir.path().join("secret"), "token").unwrap();
        fs::write(root.join("a/b/c.py"), "x").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let folder = UntrustedFolder::open(&root).unwrap();
        (dir, folder)
    }

    #[test]
    fn both_ways_of_opening_refuse_links_and_what_is_outside() {
        let (_dir, folder) = folder();
        let ways: [Opener; 2] = [UntrustedFolder::open_beneath, UntrustedFolder::open_step_by_step];
        for open in ways {
            assert!(open(&folder, "a/b/c.py").is_ok());
            for link in ["link", "a/up/link", "inside/b/c.py", "zero"] {
                assert_eq!(open(&folder, link).unwrap_err(), Errno::LOOP, "{link}");
            }
            assert_eq!(open(&folder, "a/missing").unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_blocks() {
        let (_dir, folder) = folder();
        for path in ["pipe", "a", "socket"] {
            assert!(matches!(folder.read(path, 10), Err(Refusal::NotRegular)), "{path}: {:?}", folder.read(path, 10));
        }
        for path in ["../secret", "/etc/passwd", "a/../../secret", "./a"] {
            assert!(matches!(folder.read(path, 10), Err(Refusal::Outside)), "{path}");
        }
        assert!(matches!(folder.read("a/b/c.py/d", 10), Err(Refusal::Missing)));
    }

    /// The size of such a file is 0 until it is read.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_has_more_than_its_size_says_is_too_large() {
        let folder = UntrustedFolder::open(Path::new(&format!("/proc/{}", std::process::id()))).unwrap();
        assert!(matches!(folder.read("status", 10), Err(Refusal::TooLarge { bytes: 11 })));
        assert!(!folder.read("status", 1 << 20).unwrap().is_empty());
    }
}
