//! The program git, started so that only the configuration of the user has an effect.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

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

/// Starts git.
#[derive(Debug, Clone, Copy)]
pub struct Git {
    /// Longest time of a call.
    pub timeout: Duration,
}

impl Git {
    /// Makes an empty bare repository.
    pub fn init(self, folder: &Path) -> Result<()> {
        self.run(folder, &["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "."]).map(drop)
    }

    /// Replaces the configuration of a repository.
    pub fn reset_configuration(self, repository: &Path) -> Result<()> {
        let text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
        Ok(ledger::write_atomically(&repository.join("config"), text.as_bytes())?)
    }

    /// The branch that `HEAD` of a remote names: `refs/heads/main`.
    pub fn branch_of_head(self, repository: &Path, url: &str) -> Result<String> {
        let text = self.run(repository, &["ls-remote", "--symref", "--", url, "HEAD"])?;
        let branch = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        let branch = branch.context("its HEAD names no branch: it has no commit")?;
        ensure!(branch.starts_with("refs/heads/") && !branch.contains(['*', ':']), "its HEAD names no branch");
        Ok(branch.to_owned())
    }

    /// Fetches one branch, or all branches and tags.
    pub fn fetch(self, repository: &Path, url: &str, branch: Option<&str>, depth: Option<u32>) -> Result<()> {
        let depth = depth.map(|depth| format!("--depth={depth}"));
        let mut arguments = vec!["fetch", "--quiet", "--force", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        arguments.extend(depth.as_deref());
        arguments.extend(["--", url]);
        let refs = match branch {
            Some(branch) => vec![format!("+{branch}:{branch}")],
            None => ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned).to_vec(),
        };
        arguments.extend(refs.iter().map(String::as_str));
        self.run(repository, &arguments).map(drop)
    }

    /// Makes a branch the `HEAD` of a repository.
    pub fn set_head(self, repository: &Path, branch: &str) -> Result<()> {
        Ok(ledger::write_atomically(&repository.join("HEAD"), format!("ref: {branch}\n").as_bytes())?)
    }

    /// Runs git in a repository; its output.
    fn run(self, repository: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") && !KEPT_VARIABLES.iter().any(|kept| name == *kept) {
                command.env_remove(name);
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").current_dir(repository);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting])).args(arguments);
        // A group of its own, so that the programs that git starts end with it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting git: install it, or remove nightly.fetch")?;
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = wait(&mut child, self.timeout);
        let [out, err] = [out, err].map(|reader| reader.join().unwrap_or_default());
        ensure!(status?.success(), "git {}: {}", arguments[0], err.trim());
        Ok(out)
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            // The rest is dropped, so that git does not wait for a reader.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a process; ends it and what it started after the longest time.
fn wait(child: &mut Child, timeout: Duration) -> Result<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > timeout {
            let group = rustix_pid(child);
            let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
            child.wait()?;
            bail!("git does not end within {}: raise nightly.fetch.timeout", humantime::format_duration(timeout));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn rustix_pid(child: &Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(child.id().try_into().ok()?)
}
