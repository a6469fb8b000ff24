//! Records the checkout that this program is built from: the commit, and whether it had changes. The text of the changes may hold
//! passwords: it is recorded only with `CODENETS_RECORD_DIFF=1` in the environment of the build.

use std::{env, fs, path::Path, process::Command};

/// Folders whose changes build the program again.
const SOURCES: [&str; 8] = ["ledger", "archive", "inference", "pipeline", "trainer", "indexer", "codenets", "conf"];
const RECORD_DIFF: &str = "CODENETS_RECORD_DIFF";

fn main() {
    let git = |arguments: &[&str]| {
        // No hook, filter or file system monitor of the checkout may run.
        let output =
            Command::new("git").args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]).args(arguments).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let line = |arguments: &[&str]| git(arguments).map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    let commit = line(&["rev-parse", "HEAD"]).unwrap_or_default();
    let diff = git(&["diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD"]).unwrap_or_default();
    println!("cargo::rustc-env=CODENETS_COMMIT={commit}");
    println!("cargo::rustc-env=CODENETS_DIRTY={}", !diff.is_empty());
    let recorded = if env::var(RECORD_DIFF).is_ok_and(|value| value == "1") { diff } else { Vec::new() };
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("changes.diff"), recorded).expect("cargo's folder is writable");
    println!("cargo::rerun-if-env-changed={RECORD_DIFF}");
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed=../{source}"));
    if let Some(folder) = line(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo::rerun-if-changed={folder}/HEAD");
        println!("cargo::rerun-if-changed={folder}/logs/HEAD");
    }
}
