//! The `archive` tool's command line.

use std::ffi::OsString;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};
use ledger::{
    Store,
    cli::{Common, write_report},
    write_atomically,
};
use serde_json::{Map, Value, json};

use crate::{
    address::{furthest, resolve},
    compare, gc,
    lineage::Lineage,
    outbox, page,
    place::Place,
    reproduce, restore, save,
    savepoint::Wanted,
    tree,
};

/// What is recorded: saved, restored, traced, verified, cleaned.
///
/// An address is a folder, s3://bucket/path, gs://bucket/path or az://container/path. Credentials are those of the environment, by the
/// names of the clouds' own tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT, AWS_ALLOW_HTTP;
/// AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY; GOOGLE_SERVICE_ACCOUNT.
///
/// An artifact (OF, A, B) is a kind (its current one), kind:key (first digits suffice), or the folder of an artifact or of a
/// published bundle, also of another data folder.
#[derive(Debug, Parser)]
#[command(name = "archive", version, after_help = "Example: archive save --to s3://bucket/codenets --with dataset,bundle --data data")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put an artifact with all that it came from at one address: manifests always, and the files that are asked for
    Save {
        /// Address
        #[arg(long)]
        to: String,
        /// Artifact (default: what lies furthest down the road)
        #[arg(long)]
        of: Option<String>,
        /// Besides model and scores: dataset, index, bundle, runs, all, or kinds of artifacts
        #[arg(long, value_delimiter = ',')]
        with: Vec<String>,
        /// Name by which it is found again
        #[arg(long, default_value = "latest")]
        name: String,
    },
    /// Rebuild the ledger from an address; what is here already stays, an interrupted restore goes on
    Restore {
        /// Address
        #[arg(long)]
        from: String,
        /// Only these files, besides model and scores (default: all that were saved): dataset, index, bundle, runs, or kinds
        #[arg(long, value_delimiter = ',')]
        with: Vec<String>,
        /// Name or digest of what was saved
        #[arg(long, default_value = "latest")]
        name: String,
    },
    /// What an address has
    List {
        /// Address
        #[arg(long)]
        from: String,
    },
    /// Say how what was saved differs from what is here (commit, tool, system), and restore it into --data to run its stages again
    Reproduce {
        /// Address
        #[arg(long)]
        from: String,
        #[arg(long, default_value = "latest")]
        name: String,
    },
    /// From a score, a bundle or a checkpoint back to the digests of the raw files; also reports/lineage.html and .svg
    Lineage {
        #[arg(long)]
        of: Option<String>,
    },
    /// What changed between two builds: code, configuration, inputs, rows, scores
    Diff { a: String, b: String },
    /// Send OpenLineage events on, to an http server or a file; each once
    Events {
        #[arg(long, env = "OPENLINEAGE_URL")]
        to: String,
    },
    /// Show what nothing reaches any more; remove it with --yes
    Gc {
        #[arg(long)]
        yes: bool,
    },
    /// Keep an artifact, and all it came from, whatever is made later; without an artifact: list the pins
    Pin {
        name: Option<String>,
        #[arg(long)]
        of: Option<String>,
    },
    /// Let go of a pinned artifact
    Unpin { name: String },
    /// Hash every recorded file again, or everything that was saved at an address, and name what is damaged
    Verify {
        /// Address
        #[arg(long)]
        from: Option<String>,
    },
}

/// Runs the tool with these arguments (the first is its name).
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let Cli { command, common } = Cli::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    let store = common.store_with(common.threads);
    let of = |said: &Option<String>| match said {
        Some(said) => resolve(&store, said),
        None => Ok((Store::at(store.root(), *store.progress(), 1), furthest(&store)?)),
    };
    match command {
        Command::Save { to, of: said, with, name } => {
            let (store, target) = of(&said)?;
            let wanted = Wanted::of(&with)?;
            let config = common.load()?.resolved()?;
            let place = Place::open(&to, true)?;
            let (id, sent) = save::save(&store, &target, &place, &name, &wanted, config)?;
            common.print(
                &format!(
                    "{} {} is saved at {to} as {name} ({}): {} files, {:.1} MiB, of which {} objects, {:.1} MiB were new",
                    target.kind,
                    target.key,
                    id.short(),
                    sent.files,
                    mib(sent.bytes),
                    sent.sent_objects,
                    mib(sent.sent_bytes)
                ),
                &json!({ "kind": target.kind, "key": target.key, "record": id, "files": sent.files, "bytes": sent.bytes,
                    "sent_objects": sent.sent_objects, "sent_bytes": sent.sent_bytes }),
            );
            Ok(())
        }
        Command::Restore { from, with, name } => {
            let wanted = if with.is_empty() { Wanted::all() } else { Wanted::of(&with)? };
            let restored = restore::restore(&store, &Place::open(&from, false)?, &name, &wanted)?;
            tell_restored(&common, &restored);
            Ok(())
        }
        Command::List { from } => list(&common, &Place::open(&from, false)?),
        Command::Reproduce { from, name } => {
            let restored = restore::restore(&store, &Place::open(&from, false)?, &name, &Wanted::all())?;
            store.progress().say(&format!("restored {} artifacts to {}", restored.artifacts + restored.kept, store.root().display()));
            let differences = reproduce::differences(&store)?;
            print!("{}", reproduce::text(&differences));
            if differences.is_empty() {
                println!("commit, tool and system are those that it was made with");
            }
            Ok(())
        }
        Command::Lineage { of: said } => {
            let (from, target) = of(&said)?;
            let lineage = Lineage::of(&from, &target)?;
            let reports = store.root().join("reports");
            write_atomically(&reports.join("lineage.html"), page::html(&lineage).as_bytes())?;
            write_atomically(&reports.join("lineage.svg"), page::svg(&lineage).as_bytes())?;
            common.print(lineage.text().trim_end(), &lineage.json()?);
            store.progress().say(&format!("drawn in {}", reports.join("lineage.html").display()));
            Ok(())
        }
        Command::Diff { a, b } => {
            let lineage = |said: &str| resolve(&store, said).and_then(|(store, id)| Lineage::of(&store, &id));
            let kinds = compare::diff(&lineage(&a)?, &lineage(&b)?);
            common.print(compare::text(&kinds).trim_end(), &serde_json::to_value(&kinds)?);
            Ok(())
        }
        Command::Events { to } => {
            let (sent, skipped) = outbox::send(&store, &to)?;
            let torn = if skipped > 0 { format!(" ({skipped} lines were no events)") } else { String::new() };
            common.print(&format!("{sent} events sent to {to}{torn}"), &json!({ "sent": sent, "skipped": skipped }));
            Ok(())
        }
        Command::Gc { yes } => collect(&common, &store, yes),
        Command::Pin { name: None, .. } => {
            for (name, id) in store.pins()? {
                println!("{name} {} {}", id.kind, id.key);
            }
            Ok(())
        }
        Command::Pin { name: Some(name), of: said } => {
            let (_, target) = of(&said)?;
            store.pin(&name, &target)?;
            println!("{} {} is kept as {name}", target.kind, target.key);
            Ok(())
        }
        Command::Unpin { name } => store.unpin(&name),
        Command::Verify { from: None } => verify(&common, &store),
        Command::Verify { from: Some(from) } => verify_place(&common, &Place::open(&from, false)?),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn tell_restored(common: &Common, restored: &restore::Restored) {
    let left = if restored.without_files.is_empty() {
        String::new()
    } else {
        format!("\nwithout their files: {}", restored.without_files.join(", "))
    };
    let next = format!("\nnext: make status DATA={0} CONF={0}/{1}", common.data.display(), restore::CONFIG);
    common.print(
        &format!(
            "{} artifacts are restored, {} were here, {} runs, {:.1} MiB fetched{left}{next}",
            restored.artifacts,
            restored.kept,
            restored.runs,
            mib(restored.fetched_bytes)
        ),
        &json!({ "artifacts": restored.artifacts, "kept": restored.kept, "runs": restored.runs,
            "fetched_bytes": restored.fetched_bytes, "without_files": restored.without_files }),
    );
}

fn list(common: &Common, place: &Place) -> Result<()> {
    let mut rows = Vec::new();
    for (path, _) in place.list("refs")? {
        let name = path.trim_start_matches("refs/");
        let (id, tree) = tree::find(place, name)?;
        let bytes: u64 = tree.files.values().map(|file| file.bytes).sum();
        rows.push(json!({ "name": name, "record": id, "kind": tree.kind, "files": tree.files.len(), "bytes": bytes, "about": tree.about }));
    }
    let text: Vec<String> = rows
        .iter()
        .map(|row| {
            let about: Vec<String> = row["about"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()))
                .collect();
            let bytes = row["bytes"].as_u64().unwrap_or_default();
            format!(
                "{}  {}  {} files, {:.1} MiB  {}",
                row["name"].as_str().unwrap_or_default(),
                row["record"].as_str().unwrap_or_default(),
                row["files"],
                mib(bytes),
                about.join(", ")
            )
        })
        .collect();
    ensure!(!rows.is_empty(), "{} has no records", place.address());
    common.print(&text.join("\n"), &Value::Array(rows));
    Ok(())
}

fn collect(common: &Common, store: &Store, yes: bool) -> Result<()> {
    let garbage = if yes { gc::collect(store)? } else { gc::plan(store)? };
    let total: u64 = garbage.iter().map(|one| one.bytes).sum();
    let mut text: Vec<String> =
        garbage.iter().map(|one| format!("{:>9.1} MiB  {}  ({})", mib(one.bytes), one.path.display(), one.why)).collect();
    text.push(match (garbage.is_empty(), yes) {
        (true, _) => "nothing to remove: everything is reached".to_owned(),
        (false, true) => format!("{:>9.1} MiB are free again", mib(total)),
        (false, false) => format!("{:>9.1} MiB would be free: make gc YES=1 removes them", mib(total)),
    });
    common.print(&text.join("\n"), &json!({ "removed": yes, "bytes": total, "garbage": garbage }));
    Ok(())
}

fn verify(common: &Common, store: &Store) -> Result<()> {
    let damaged = store.verify()?;
    let flat = Map::from_iter([("damaged_files".to_owned(), Value::from(damaged.len()))]);
    if let Err(error) = write_report(&common.data, "verify", &flat) {
        store.progress().say(&format!("reports/verify.json is not renewed: {error:#}"));
    }
    for path in &damaged {
        println!("damaged: {}", path.display());
    }
    ensure!(
        damaged.is_empty(),
        "{} damaged files: `make run` makes what is current again, `make gc` removes what is not reached",
        damaged.len()
    );
    println!("every file of the recorded artifacts is intact");
    Ok(())
}

fn verify_place(common: &Common, place: &Place) -> Result<()> {
    let (mut damaged, mut records) = (Vec::new(), 0);
    let names: Vec<String> = place.list("refs")?.into_iter().map(|(path, _)| path.trim_start_matches("refs/").to_owned()).collect();
    ensure!(!names.is_empty(), "{} has no records", place.address());
    for name in names {
        match tree::find(place, &name) {
            Ok((_, tree)) => {
                let total: u64 = tree.files.values().map(|file| file.bytes).sum();
                let bar = ledger::Progress::new(common.quiet).bar("verify", total >> 10, "KiB");
                damaged.extend(tree::check(place, &tree, &bar)?);
                bar.finish();
                records += 1;
            }
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    damaged.sort();
    damaged.dedup();
    for one in &damaged {
        println!("damaged: {one}");
    }
    if !damaged.is_empty() {
        bail!("{} damaged objects at {}: remove them and save again", damaged.len(), place.address());
    }
    println!("{records} records at {} are intact", place.address());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::ROAD;

    #[test]
    fn every_kind_can_be_asked_for() {
        for kind in ROAD {
            assert!(Wanted::of(&[kind.to_owned()]).unwrap().has(kind));
        }
        Cli::try_parse_from(["archive", "save", "--to", "x", "--with", "dataset,bundle"]).unwrap();
    }
}
