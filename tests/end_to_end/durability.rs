//! Power cuts: a file has its final name only after its bytes are on disk, and a command ends only after the name is on disk.
//!
//! A killed process loses no byte that the system has, so killing it shows nothing about `fsync`. These tests trace the system calls of a
//! command and of its children (ptrace), and check at each `rename` that the file was synced after its last write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    retracting::QUERY,
    workspace::{Workspace, skip},
};

/// Device and number of a file: a renamed file keeps them.
type Inode = (u64, u64);

/// What was synced, and what is not on disk yet.
#[derive(Default)]
struct Trace {
    synced: BTreeSet<Inode>,
    /// Folders with a new name, by their inode.
    unsynced_names: BTreeMap<Inode, PathBuf>,
    renames: Vec<PathBuf>,
    faults: Vec<String>,
}

fn inode(path: &Path) -> Option<Inode> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// A folder, and every file and folder in it.
fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(everything_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Must the file survive a power cut? The next command deletes hidden files and folders, and makes reports again.
fn is_durable(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy()).skip_while(|part| part != "data").skip(1).peekable();
    parts.peek().is_some() && parts.all(|part| !part.starts_with('.') && part != "reports" && part != "events")
}

impl Trace {
    fn write(&mut self, file: Option<Inode>) {
        file.map(|file| self.synced.remove(&file));
    }

    fn sync(&mut self, file: Option<Inode>) {
        if let Some(file) = file {
            self.synced.insert(file);
            self.unsynced_names.remove(&file);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // A resumed restore takes an object with its name and length for complete.
        let is_object = to.parent().is_some_and(|folder| folder.ends_with(".restoring/objects"));
        if is_object && !inode(from).is_some_and(|inode| self.synced.contains(&inode)) {
            self.faults.push(format!("{} is not synced before its rename", to.display()));
        }
        if !is_durable(to) {
            return;
        }
        self.renames.push(to.to_owned());
        let files = match fs::symlink_metadata(from) {
            // Its folders too: they hold the names of the files.
            Ok(meta) if meta.is_dir() => everything_below(from),
            Ok(meta) if meta.is_file() => vec![from.to_owned()],
            // A link has no bytes of its own.
            _ => Vec::new(),
        };
        for file in files.iter().filter(|file| !inode(file).is_some_and(|inode| self.synced.contains(&inode))) {
            self.faults.push(format!("{} is not synced before the rename to {}", file.display(), to.display()));
        }
        let folder = to.parent().unwrap();
        self.unsynced_names.insert(inode(folder).unwrap(), to.to_owned());
    }
}

/// A stopped process or thread of a traced command.
struct Stopped(libc::pid_t);

impl Stopped {
    fn request(&self, request: libc::c_uint, data: usize) -> bool {
        // SAFETY: none of the requests of this file writes to memory of this process.
        unsafe { libc::ptrace(request, self.0, 0usize, data) == 0 }
    }

    /// Number and arguments of the system call that it begins; none where it ends one.
    fn entered_call(&self) -> Option<(i64, [u64; 6])> {
        // SAFETY: a structure of numbers; zero is a value of each.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the kernel writes at most `size` bytes, the size of the structure.
        let written = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.0, size, &raw mut info) };
        if written <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        // SAFETY: `op` says that this member was written.
        let entry = unsafe { info.u.entry };
        Some((entry.nr.cast_signed(), entry.args))
    }

    /// The text at an address of its memory.
    fn text(&self, address: u64) -> PathBuf {
        use std::os::unix::fs::FileExt;
        let memory = fs::File::open(format!("/proc/{}/mem", self.0)).unwrap();
        let mut bytes = vec![0; 4096];
        // A text near the end of a mapping is shorter.
        let length = memory.read_at(&mut bytes, address).unwrap();
        let end = bytes[..length].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..end].to_vec()).unwrap().into()
    }

    /// A path in its memory, made absolute. `folder`: a descriptor, or AT_FDCWD.
    fn path(&self, folder: u64, address: u64) -> PathBuf {
        let folder = match folder as i32 {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.0),
            number => format!("/proc/{}/fd/{number}", self.0),
        };
        fs::read_link(folder).unwrap().join(self.text(address))
    }

    fn inode_of(&self, descriptor: u64) -> Option<Inode> {
        inode(Path::new(&format!("/proc/{}/fd/{}", self.0, descriptor as i32)))
    }

    fn record(&self, trace: &mut Trace) {
        let Some((number, of)) = self.entered_call() else { return };
        match number {
            libc::SYS_fsync | libc::SYS_fdatasync => trace.sync(self.inode_of(of[0])),
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev | libc::SYS_ftruncate | libc::SYS_sendfile => {
                trace.write(self.inode_of(of[0]));
            }
            libc::SYS_copy_file_range => trace.write(self.inode_of(of[2])),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => {
                let here = libc::AT_FDCWD as u64;
                trace.rename(&self.path(here, of[0]), &self.path(here, of[1]));
            }
            libc::SYS_renameat | libc::SYS_renameat2 => trace.rename(&self.path(of[0], of[1]), &self.path(of[2], of[3])),
            _ => {}
        }
    }
}

/// Runs a command, which must succeed, and traces the system calls of all of its processes; none where tracing is not allowed.
fn trace(workspace: &Workspace, arguments: &[&str]) -> Option<Trace> {
    let log = fs::File::create(workspace.path("trace.log")).unwrap();
    let mut command: Command = workspace.command(arguments);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    // SAFETY: ptrace(2) is a system call without memory, which may be called between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let first = command.spawn().ok()?.id().cast_signed();
    let mut trace = Trace::default();
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_EXITKILL;
    let mut has_options = false;
    loop {
        let mut status = 0;
        // Only children and tracees of this thread: other tests wait for their own.
        // SAFETY: the kernel writes one integer.
        let process = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(process > 0, "the command ended without a status");
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if process == first {
                let text = fs::read_to_string(workspace.path("trace.log")).unwrap();
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "codenets {arguments:?} failed: {text}");
                return Some(trace);
            }
            continue;
        }
        let stopped = Stopped(process);
        if !has_options {
            assert!(stopped.request(libc::PTRACE_SETOPTIONS, options as usize));
            has_options = true;
        }
        let signal = match libc::WSTOPSIG(status) {
            // The stop of a system call (PTRACE_O_TRACESYSGOOD).
            number if number == libc::SIGTRAP | 0x80 => {
                stopped.record(&mut trace);
                0
            }
            // A new process or thread, or exec.
            libc::SIGTRAP | libc::SIGSTOP => 0,
            other => other,
        };
        // A process that was killed meanwhile does not continue.
        stopped.request(libc::PTRACE_SYSCALL, signal as usize);
    }
}

/// Traces a command; at least `least` files or folders get a durable name, each of them as it must be. Returns their paths; none where
/// processes cannot be traced.
fn require_durable(workspace: &Workspace, arguments: &[&str], least: usize) -> Option<Vec<PathBuf>> {
    let Some(trace) = trace(workspace, arguments) else {
        skip("processes cannot be traced here");
        return None;
    };
    assert!(trace.faults.is_empty(), "codenets {arguments:?}: {:#?}", trace.faults);
    assert!(trace.unsynced_names.is_empty(), "codenets {arguments:?}: names are not synced: {:#?}", trace.unsynced_names);
    assert!(trace.renames.len() >= least, "codenets {arguments:?}: {:#?}", trace.renames);
    Some(trace.renames)
}

#[test]
fn every_artifact_is_on_disk_before_it_has_its_name() {
    let workspace = Workspace::new();
    let Some(renamed) = require_durable(&workspace, &["run", "--until", "train"], 12) else { return };
    for kind in ["raw", "functions", "syntax", "vocabulary", "tokens", "checkpoint"] {
        let of_kind = |path: &&PathBuf| path.parent().is_some_and(|folder| folder.ends_with(kind));
        // The artifact, and CURRENT.
        assert_eq!(renamed.iter().filter(of_kind).count(), 2, "{kind} in {renamed:#?}");
    }
}

/// Here CURRENT has the key already, and is not written again.
#[test]
fn an_artifact_that_is_made_again_is_on_disk_before_it_has_its_name() {
    let workspace = Workspace::tokenized();
    fs::write(workspace.artifact("vocabulary").join("tokenizer.json"), "{}").unwrap();
    let Some(renamed) = require_durable(&workspace, &["run", "--until", "vocab"], 1) else { return };
    assert!(renamed.contains(&workspace.artifact("vocabulary")), "{renamed:#?}");
}

#[test]
fn a_published_bundle_is_on_disk_before_it_is_published() {
    let workspace = Workspace::published();
    workspace.configure("index.bm25f.fields.name.weight = 7.0");
    workspace.run_until("evaluate");
    let Some(renamed) = require_durable(&workspace, &["run", "--only", "publish"], 3) else { return };
    assert!(renamed.iter().any(|path| path.ends_with("serve/current")), "{renamed:#?}");
    require_durable(&workspace, &["rollback"], 2);
    require_durable(&workspace, &["pin", "good"], 1);
}

#[test]
fn a_retracted_function_stays_deleted_after_a_power_cut() {
    let workspace = Workspace::published();
    let id = workspace.search(&[QUERY, "--limit", "1"])[0]["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids.txt"), id).unwrap();
    let Some(renamed) = require_durable(&workspace, &["retract", "ids.txt"], 4) else { return };
    for name in ["retracted", "tombstones.parquet", "CHECKSUMS", "current"] {
        assert!(renamed.iter().any(|path| path.ends_with(name)), "{name} in {renamed:#?}");
    }
}

#[test]
fn a_restored_artifact_is_on_disk_before_it_has_its_name() {
    let workspace = Workspace::trained();
    let url = workspace.path("saved").display().to_string();
    workspace.run(&["save", "--of", "encoder", "--to", &url, "--with", "all"]);
    let other = Workspace::empty();
    let Some(renamed) = require_durable(&other, &["restore", "--from", &url, "--with", "all"], 12) else { return };
    assert!(renamed.iter().any(|path| path.parent().is_some_and(|folder| folder.ends_with("checkpoint"))), "{renamed:#?}");
    assert!(renamed.iter().any(|path| path.parent().is_some_and(|folder| folder.ends_with("runs"))), "{renamed:#?}");
}

#[test]
fn a_promoted_release_is_on_disk_before_it_has_its_name() {
    let workspace = Workspace::published();
    let Some(renamed) = require_durable(&workspace, &["model", "promote"], 2) else { return };
    assert!(renamed.iter().any(|path| path.ends_with("models/current")), "{renamed:#?}");
}

/// All stages of a night, the release, the bundle, the report: the first night trains, the second one extends the bundle of the first.
#[test]
fn what_a_night_writes_is_on_disk_before_it_has_its_name() {
    let workspace = Workspace::tokenized();
    let Some(renamed) = require_durable(&workspace, &["nightly"], 12) else { return };
    for end in ["models/current", "serve/current", "bundle/CURRENT", "encoder/CURRENT"] {
        assert!(renamed.iter().any(|path| path.ends_with(end)), "{end} in {renamed:#?}");
    }
    fs::write(workspace.path("corpus/math/more.py"), "def triple(number):\n    \"\"\"Multiply by three.\"\"\"\n    return 3 * number\n")
        .unwrap();
    let Some(renamed) = require_durable(&workspace, &["nightly"], 12) else { return };
    for kind in ["raw", "functions", "syntax", "embeddings", "bundle", "scores", "serve"] {
        assert!(renamed.iter().any(|path| path.parent().is_some_and(|folder| folder.ends_with(kind))), "{kind} in {renamed:#?}");
    }
}

/// Objects get their names before they are synced, and a record is written after its objects.
#[test]
fn a_saved_snapshot_is_on_disk() {
    let workspace = Workspace::trained();
    let url = workspace.path("saved");
    let Some(trace) = trace(&workspace, &["save", "--of", "encoder", "--to", url.to_str().unwrap(), "--with", "all"]) else {
        return skip("processes cannot be traced here");
    };
    let files: Vec<PathBuf> = everything_below(&url).into_iter().filter(|path| path.is_file()).collect();
    assert!(files.len() > 12, "{files:#?}");
    for path in files.iter().flat_map(|file| file.ancestors()).filter(|path| path.starts_with(&url)) {
        assert!(trace.synced.contains(&inode(path).unwrap()), "{} is not synced", path.display());
    }
}

/// An artifact that is not current: no `CURRENT` is written next to it.
#[test]
fn a_restored_artifact_that_is_not_current_is_on_disk() {
    let workspace = Workspace::trained();
    let url = workspace.path("saved").display().to_string();
    workspace.configure("vocab.size = 480");
    workspace.run_until("vocab");
    workspace.run(&["save", "--of", "encoder", "--to", &url, "--with", "all"]);
    let other = Workspace::empty();
    let Some(renamed) = require_durable(&other, &["restore", "--from", &url, "--with", "all"], 11) else { return };
    assert!(!renamed.iter().any(|path| path.ends_with("vocabulary/CURRENT")), "{renamed:#?}");
}
