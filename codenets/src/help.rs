//! Help texts that clap does not make by itself: commands in groups, the list of stages, versions, completions, the man page.

use std::{fmt::Write, str::FromStr, sync::LazyLock};

use anyhow::{Result, anyhow};
use ledger::Registry;

/// Groups of commands, in the order of the help.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Build", &["run", "plan", "status", "explain", "setup", "adopt"]),
    ("Search", &["search", "evaluate", "compare", "predictions", "tour", "rollback", "retract", "prune"]),
    (
        "Records",
        &["save", "restore", "snapshots", "reproduce", "lineage", "diff", "events", "journal", "gc", "pin", "unpin", "verify", "mlflow"],
    ),
    ("Inspect", &["inspect", "doctor", "files", "fidelity", "duplicates", "explore", "config", "completions"]),
];

/// Shows the subcommands in groups.
pub fn grouped(command: clap::Command) -> clap::Command {
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(text, "{group}:");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        text.push('\n');
    }
    let template = format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{{options}}\n{{after-help}}");
    command
        .help_template(template)
        .after_help("\nExample: codenets run --conf conf/demo.conf, then: codenets search \"parse an iso date\"\nHelp of one command: codenets help COMMAND")
}

/// The stages with what they do, for the help of `run`.
pub fn stages(registry: &Registry) -> String {
    let mut text = String::from("Stages:\n");
    for stage in registry.stages() {
        let _ = writeln!(text, "  {:<9} {}", stage.name(), stage.about());
    }
    text + "\nExample: codenets run --conf conf/demo.conf --data data"
}

/// Version of the program, its commit, the ONNX Runtime API and the bundle format.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (commit {}, ONNX Runtime API {}, bundle format {})",
            env!("CARGO_PKG_VERSION"),
            env!("CODENETS_COMMIT"),
            inference::API_VERSION,
            bundle::FORMAT
        )
    });
    VERSION.as_str()
}

/// Prints completions for a shell, or the man page (`man`).
pub fn completions(registry: &Registry, shell: &str) -> Result<()> {
    let mut command = crate::cli::command(registry);
    let mut out = std::io::stdout().lock();
    if shell == "man" {
        clap_mangen::Man::new(command).render(&mut out)?;
        return Ok(());
    }
    let shell = clap_complete::Shell::from_str(shell).map_err(|error| anyhow!("{error}"))?;
    clap_complete::generate(shell, &mut command, "codenets", &mut out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = crate::cli::command(&crate::stages::registry());
        let mut names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(names, grouped);
    }
}
