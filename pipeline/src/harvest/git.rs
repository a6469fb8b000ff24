//! Git checkouts, read by the `git` program.

use std::{path::Path, process::Command};

use ledger::ensure;

use crate::error::{Error, Result};

/// Files of a checkout that git does not ignore, relative to `folder`; none outside a checkout.
pub fn listed_files(folder: &Path) -> Result<Option<Vec<String>>> {
    let listed = git(folder, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    Ok(listed.map(|listed| listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()))
}

/// The commit of a checkout; empty outside a checkout, and before the first commit.
pub fn commit_of(folder: &Path) -> Result<String> {
    let commit = git(folder, &["rev-parse", "--verify", "--quiet", "HEAD"]);
    let without = || git(folder, &["rev-parse", "--git-dir"]).map(|_| None);
    Ok(commit.or_else(|_| without())?.unwrap_or_default().trim().to_owned())
}

/// Output of a git command in a checkout; none outside a checkout. A checkout that git does not read is an error: as a plain
/// folder it would give ignored files and no commit.
///
/// The configuration of a repository can name programs that git starts. The settings of the call switch them off.
fn git(folder: &Path, arguments: &[&str]) -> Result<Option<String>> {
    let Ok(full) = folder.canonicalize() else { return Ok(None) };
    if !full.ancestors().any(|above| above.join(".git").exists()) {
        return Ok(None);
    }
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(|source| Error::ProgramMissing {
            program: "git".to_owned(),
            needed_for: format!("the git checkout {}", folder.display()),
            source,
        })?;
    ensure!(
        output.status.success(),
        "git does not read the checkout {}: {}; repair the checkout, or remove its `.git`",
        folder.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}
