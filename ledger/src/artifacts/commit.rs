//! The commit that a tool was built from, and the changes on top of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, durable::write_atomically, error::Result};

/// Name of the folder of diffs in a data folder.
pub(crate) const DIFFS: &str = "diffs";
/// A longer diff is recorded as a digest without its text.
const LONGEST_DIFF: usize = 4 << 20;

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Full id; none outside of a checkout.
    pub id: Option<String>,
    /// Were there changes that are not committed?
    pub dirty: bool,
    /// Digest of `git diff HEAD` of a dirty checkout. The text is in the data folder: [`Commit::diff_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Digest>,
}

impl Commit {
    /// The commit of [`Commit::here`]; the text of its diff is written to the data folder.
    pub(crate) fn recorded_in(data: &Path) -> Result<Self> {
        let (commit, diff) = Self::checkout();
        if let Some((digest, text)) = commit.diff.zip(diff.as_ref()) {
            let path = Self::diff_file(data, digest);
            if !path.exists() {
                write_atomically(&path, text)?;
            }
        }
        Ok(commit.clone())
    }

    /// The checkout that the tool was built in.
    pub fn here() -> &'static Self {
        &Self::checkout().0
    }

    /// The commit, and the text of its diff where it is short enough to record.
    fn checkout() -> &'static (Self, Option<Vec<u8>>) {
        static HERE: LazyLock<(Commit, Option<Vec<u8>>)> = LazyLock::new(|| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
            let id = git(folder, &["rev-parse", "HEAD"]).map(|id| String::from_utf8_lossy(&id).trim().to_owned());
            let diff = git(folder, &["diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD"]).filter(|text| !text.is_empty());
            let commit = Commit { id, dirty: diff.is_some(), diff: diff.as_ref().map(|text| Digest::of_bytes(text)) };
            (commit, diff.filter(|text| text.len() <= LONGEST_DIFF))
        });
        &HERE
    }

    /// Folder in a data folder for the texts of diffs.
    pub fn diffs_dir(data: &Path) -> PathBuf {
        data.join(DIFFS)
    }

    /// File in a data folder for the text of a diff.
    pub fn diff_file(data: &Path, diff: Digest) -> PathBuf {
        Self::diffs_dir(data).join(format!("{diff}.diff"))
    }
}

/// Output of a git command in a checkout; none where it fails. No program that the checkout configures (a hook, a file system monitor, a
/// diff driver) runs.
fn git(folder: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]).args(args);
    let output = command.output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Text of a recorded diff, if the data folder has it.
pub(crate) fn recorded_diff(data: &Path, commit: &Commit) -> Option<PathBuf> {
    commit.diff.map(|digest| Commit::diff_file(data, digest)).filter(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        assert!(Command::new("git").arg("-C").arg(folder).args(identity).args(args).output().unwrap().status.success(), "{args:?}");
    }

    #[test]
    fn no_program_of_the_checkout_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, ran) = (dir.path().join("checkout"), dir.path().join("ran"));
        fs::create_dir(&folder).unwrap();
        run(&folder, &["init", "-q"]);
        fs::write(folder.join("a.txt"), "1\n").unwrap();
        run(&folder, &["add", "."]);
        run(&folder, &["commit", "-q", "-m", "one"]);
        fs::write(folder.join("a.txt"), "2\n").unwrap();
        fs::write(folder.join(".gitattributes"), "*.txt diff=own\n").unwrap();
        let program = format!("touch {}; true", ran.display());
        for key in ["diff.own.command", "diff.own.textconv", "core.fsmonitor", "diff.external"] {
            run(&folder, &["config", key, &program]);
        }
        let diff = git(&folder, &["diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD"]).unwrap();
        assert!(String::from_utf8_lossy(&diff).contains("+2"));
        assert!(!ran.exists());
    }
}
