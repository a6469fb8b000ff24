//! Records the commit of the checkout that this program is built from.

use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        // No hook, filter or file system monitor of the checkout may run.
        let output =
            Command::new("git").args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CODENETS_COMMIT={commit}");
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo::rerun-if-changed={folder}/HEAD");
        println!("cargo::rerun-if-changed={folder}/logs/HEAD");
    }
}
