//! Runs a stage in a process of its own.
//!
//! Code pages, freed memory that threads keep, ONNX Runtime's arenas and memory on a GPU stay with a process until it ends. With one
//! process for each stage the peak memory of a stage is its own, whatever ran before it: docs/decisions/0017.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail};
use thiserror::Error;

/// The process of the stage has printed its error.
#[derive(Debug, Error)]
#[error("stage {0} failed: see the message above")]
pub struct StageFailed(String);

/// Runs the stage in a new process of this program with the arguments.
///
/// # Errors
/// [`StageFailed`] where the process has printed an error itself; another error where it could not start or was killed.
pub fn run(stage: &str, arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new(executable()?);
    // Events are sent once, after the last stage.
    command.args(arguments).env_remove("OPENLINEAGE_URL");
    end_with_parent(&mut command);
    let status = command.status().with_context(|| format!("starting a process for stage {stage}"))?;
    outcome(stage, status)
}

fn outcome(stage: &str, status: ExitStatus) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        None if status.success() => Ok(()),
        None => Err(StageFailed(stage.to_owned()).into()),
        Some(libc::SIGKILL) => bail!(
            "stage {stage} was killed by signal 9 (if nobody sent it, the system ran out of memory: `dmesg` tells): run the command \
             again, finished stages do not run again"
        ),
        Some(signal) => bail!("stage {stage} was killed by signal {signal}: run the command again, finished stages do not run again"),
    }
}

/// The file that this process runs. Where the file was replaced since (by an update), the kernel's link to the old one, so that all
/// stages of a run are of one version.
fn executable() -> io::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let (path, link) = (std::env::current_exe()?, PathBuf::from("/proc/self/exe"));
    let file = |path: &PathBuf| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let is_replaced = file(&link).is_some_and(|running| file(&path) != Some(running));
    Ok(if is_replaced { link } else { path })
}

/// Kills the process when this one ends first, however it ends.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let tie = move || {
        // SAFETY: prctl with PR_SET_PDEATHSIG and getppid are system calls that touch no memory and may be called after a fork.
        let (tied, is_alive) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0, libc::getppid().cast_unsigned() == parent) };
        match (tied, is_alive) {
            (true, true) => Ok(()),
            (false, _) => Err(io::Error::last_os_error()),
            (true, false) => Err(io::ErrorKind::Interrupted.into()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock: it only makes two system calls.
    unsafe { command.pre_exec(tie) };
}

/// Other systems cannot tie processes: a stage whose run was killed goes on to its end.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: &mut Command) {}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_killed_stage_is_told_from_a_failed_one() {
        assert!(outcome("train", ExitStatus::from_raw(0)).is_ok());
        assert!(outcome("train", ExitStatus::from_raw(1 << 8)).unwrap_err().is::<StageFailed>());
        let killed = outcome("train", ExitStatus::from_raw(libc::SIGKILL)).unwrap_err();
        assert!(killed.to_string().starts_with("stage train was killed by signal 9"), "{killed}");
    }
}
