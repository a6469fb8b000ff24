//! The program git, started so that only the configuration of the user has an effect.

use std::{
    fs::File,
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

/// Variables of git that a night keeps: how the user reaches servers. Others would name another repository or program.
const KEPT_VARIABLES: [&str; 7] =
    ["GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO"];

/// Settings of every call: no hook and no watcher runs, only these protocols, and a server that sends nothing for a minute is given up.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "submodule.recurse=false",
];

/// Longest output of a call that is read, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// How long a process that must end, and the rest of its output, are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts git.
#[derive(Debug)]
pub struct Git {
    /// Longest time of a call.
    pub timeout: Duration,
    /// The locked folder of the mirrors. git and the processes that it starts hold it too, in place of an input that they do not read.
    pub lock: File,
}

/// What is fetched.
#[derive(Debug, Clone, Copy)]
pub enum Refs<'a> {
    /// One branch of the remote, as the branch [`Refs::ONE`]: a name of a branch can stand in the way of a later one.
    One(&'a str),
    /// All branches and tags, with their names.
    All,
}

impl Refs<'_> {
    const ONE: &'static str = "refs/heads/mirror";

    /// The branch that becomes `HEAD`; none: that of the remote.
    pub fn head(self) -> Option<&'static str> {
        matches!(self, Self::One(_)).then_some(Self::ONE)
    }

    fn refspecs(self) -> Vec<String> {
        match self {
            Self::One(branch) => vec![format!("+{branch}:{}", Self::ONE)],
            Self::All => ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned).to_vec(),
        }
    }
}

impl Git {
    /// Makes an empty bare repository.
    pub fn init(&self, folder: &Path) -> Result<()> {
        self.run(folder, &["init", "--quiet", "--bare", "--template=", "--object-format=sha1"]).map(drop)
    }

    /// Replaces the configuration of a repository.
    pub fn reset_configuration(&self, repository: &Path) -> Result<()> {
        let text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
        Ok(ledger::write_atomically(&repository.join("config"), text.as_bytes())?)
    }

    /// The branch that `HEAD` of a remote names: `refs/heads/main`.
    pub fn branch_of_head(&self, repository: &Path, url: &str) -> Result<String> {
        let text = self.run(repository, &["ls-remote", "--symref", "--", url, "HEAD"])?;
        let branch = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        let branch = branch.context("its HEAD names no branch: it has no commit")?;
        ensure!(branch.starts_with("refs/heads/") && !branch.contains(['*', ':']), "its HEAD names no branch");
        Ok(branch.to_owned())
    }

    /// Fetches one branch, or all branches and tags. `depth`: commits of each; none: the whole history.
    pub fn fetch(&self, repository: &Path, url: &str, refs: Refs<'_>, depth: Option<u32>) -> Result<()> {
        let depth = match depth {
            Some(depth) => Some(format!("--depth={depth}")),
            None => repository.join("shallow").exists().then(|| "--unshallow".to_owned()),
        };
        let mut arguments = vec!["fetch", "--quiet", "--force", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        arguments.extend(depth.as_deref());
        arguments.extend(["--", url]);
        let refspecs = refs.refspecs();
        arguments.extend(refspecs.iter().map(String::as_str));
        self.run(repository, &arguments).map(drop)
    }

    /// Makes a branch, which must exist, the `HEAD` of a repository.
    pub fn set_head(&self, repository: &Path, branch: &str) -> Result<()> {
        self.run(repository, &["rev-parse", "--quiet", "--verify", &format!("{branch}^{{commit}}")])
            .with_context(|| format!("the branch {branch} that its HEAD names does not exist"))?;
        self.run(repository, &["symbolic-ref", "HEAD", branch]).map(drop)
    }

    /// Runs git on a repository; its output.
    fn run(&self, repository: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") && !KEPT_VARIABLES.iter().any(|kept| name == *kept) {
                command.env_remove(name);
            }
        }
        // Never a repository above this folder.
        command.env("GIT_DIR", std::path::absolute(repository)?).current_dir(repository);
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        // ssh asks nothing: it fails.
        command.env("SSH_ASKPASS_REQUIRE", "force");
        if std::env::var_os("SSH_ASKPASS").is_none() {
            command.env("SSH_ASKPASS", "/bin/false");
        }
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting])).args(arguments);
        // A group of its own, so that the programs that git starts end with it.
        command.stdin(self.lock.try_clone()?).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting git: install it, or remove nightly.fetch")?;
        let (out, err) = (output_of(child.stdout.take()), output_of(child.stderr.take()));
        let status = wait(&mut child, self.timeout);
        // A process that went on in the background may hold the other end.
        let [out, err] = [out, err].map(|output| output.recv_timeout(PATIENCE).unwrap_or_default());
        ensure!(status?.success(), "git {}: {}", arguments[0], err.trim());
        Ok(out)
    }
}

/// The text that a process writes, when it is complete.
fn output_of(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            // The rest is dropped, so that git does not wait for a reader.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}

/// Waits for a process. After the longest time it and what it started get the signal to end, and then are ended.
fn wait(child: &mut Child, timeout: Duration) -> Result<ExitStatus> {
    if let Some(status) = wait_for(child, timeout)? {
        return Ok(status);
    }
    let group = group_of(child).context("the process has no number")?;
    let _ = kill_process_group(group, Signal::TERM);
    if wait_for(child, PATIENCE)?.is_none() {
        let _ = kill_process_group(group, Signal::KILL);
        child.wait()?;
    }
    bail!("git does not end within {}: raise nightly.fetch.timeout", humantime::format_duration(timeout));
}

/// Waits so long; none where the process goes on.
fn wait_for(child: &mut Child, longest: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || start.elapsed() > longest {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().try_into().ok()?)
}
