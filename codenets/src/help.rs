//! Help texts that clap does not make by itself: commands in groups, the list of stages, versions, completions, the man page.

use std::{fmt::Write as _, io::Write as _, str::FromStr, sync::LazyLock};

use anyhow::{Result, anyhow};
use ledger::Registry;

/// Groups of commands, in the order of the help.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Build", &["run", "plan", "status", "explain", "setup", "adopt"]),
    ("Nightly build", &["nightly", "fetch", "model"]),
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

/// Prints help, or what is wrong with the arguments, and ends the process. Help that cannot be written is an error, except where its
/// reader has closed the pipe.
pub fn exit(error: &clap::Error) -> ! {
    let is_written = error.print().map_or_else(|error| error.kind() == std::io::ErrorKind::BrokenPipe, |()| true);
    std::process::exit(if is_written { error.exit_code() } else { 1 })
}

/// Version of the program, its commit, the ONNX Runtime that `setup` fetches with the API that the program needs, the bundle format.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (commit {}, ONNX Runtime {}, API {}, bundle format {})",
            env!("CARGO_PKG_VERSION"),
            env!("CODENETS_COMMIT").get(..12).unwrap_or("unknown"),
            inference::PINNED_VERSION,
            inference::API_VERSION,
            bundle::FORMAT
        )
    });
    VERSION.as_str()
}

/// Prints completions for a shell, or the man page (`man`) with every subcommand.
pub fn completions(mut command: clap::Command, shell: &str) -> Result<()> {
    let mut text = Vec::new();
    if shell == "man" {
        command.build();
        clap_mangen::Man::new(command.clone()).render(&mut text)?;
        for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            let name = format!("codenets {}", subcommand.get_name());
            let page = clap_mangen::Man::new(subcommand.clone().display_name(name));
            page.render_name_section(&mut text)?;
            page.render_synopsis_section(&mut text)?;
            page.render_options_section(&mut text)?;
        }
    } else {
        let shell = clap_complete::Shell::from_str(shell).map_err(|error| anyhow!("{error}"))?;
        clap_complete::generate(shell, &mut command, "codenets", &mut text);
    }
    Ok(std::io::stdout().write_all(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = crate::cli::complete_command(&crate::stages::registry());
        let mut names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(names, grouped);
    }
    #[test]
    fn every_command_says_what_it_reads_and_writes_with_an_example() {
        let mut command = crate::cli::complete_command(&crate::stages::registry());
        command.build();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let examples = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(
                about.contains("Reads ") && ["writes ", "deletes ", "prints "].iter().any(|verb| about.contains(verb)),
                "{name}: {about}"
            );
            assert!(examples.contains("Example: ") && examples.contains(&format!("codenets {name}")), "{name}: {examples}");
        }
    }
}
