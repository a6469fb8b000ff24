//! Commands on recorded artifacts: save, restore, trace, verify, delete.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use archive::{
    address::{latest, resolve},
    compare, gc as garbage, lineage as lineages, outbox, page,
    remote::Remote,
    restore as restoring,
    snapshot::Selection,
    tree,
};
use clap::Args;
use indexer::bundle_diff;
use ledger::{ArtifactId, Bundle, Recordable, Registry, Scores, Serve, Store, report_path, write_report, write_report_file};
use serde_json::{Map, Value, json};
use trainer::tracking::{Sent, Synced, UploadedRun, sync};

use crate::{options::Options, releases::score_of};

/// What is saved, and where.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// URL to save to; a new folder is created
    #[arg(long, value_name = "URL")]
    to: String,
    /// Artifact: a kind, kind:key, or a folder [default: the last in stage order]
    #[arg(long, value_name = "ARTIFACT")]
    of: Option<String>,
    /// Files to save besides model and scores: dataset, index, bundle, runs, all, or artifact kinds
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    with: Vec<String>,
    /// Name of the snapshot
    #[arg(long, default_value = "latest")]
    name: String,
}

/// What is restored, and from where.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// URL of the snapshot
    #[arg(long, value_name = "URL")]
    from: String,
    /// Files to restore besides model and scores: dataset, index, bundle, runs, or artifact kinds [default: all that were saved]
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    with: Vec<String>,
    /// Name or digest of the snapshot
    #[arg(long, default_value = "latest")]
    name: String,
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// The store and the artifact that an argument names; without one, the last artifact made.
fn artifact(store: &Store, name: Option<&str>) -> Result<(Store, ArtifactId)> {
    match name {
        Some(name) => Ok(resolve(store, name)?),
        None => Ok((store.sibling(store.root()), latest(store)?)),
    }
}

/// `save`.
pub fn save(registry: &Registry, options: &Options, args: &SaveArgs) -> Result<()> {
    let here = options.store(registry);
    let (store, target) = artifact(&here, args.of.as_deref())?;
    let selection = Selection::of(&args.with, store.kinds())?;
    let config = options.load(registry)?.resolved()?;
    let remote = Remote::open(&args.to, true)?;
    let (id, sent) = archive::save::save(&store, &target, &remote, &args.name, &selection, config)?;
    options.print(
        &format!(
            "{} {} is saved at {} as {} ({}): {} files, {:.1} MiB, of which {} objects, {:.1} MiB were new",
            target.kind,
            target.key,
            args.to,
            args.name,
            id.short(),
            sent.files,
            mib(sent.bytes),
            sent.sent_objects,
            mib(sent.sent_bytes)
        ),
        &json!({ "kind": target.kind, "key": target.key, "record": id, "files": sent.files, "bytes": sent.bytes,
            "sent_objects": sent.sent_objects, "sent_bytes": sent.sent_bytes }),
    )?;
    Ok(())
}

/// `restore`.
pub fn restore(registry: &Registry, options: &Options, args: &RestoreArgs) -> Result<()> {
    let store = options.store(registry);
    let selection = if args.with.is_empty() { Selection::all(store.kinds()) } else { Selection::of(&args.with, store.kinds())? };
    let _lock = store.lock_run()?;
    let restored = restoring::restore(&store, &Remote::open(&args.from, false)?, &args.name, &selection)?;
    let missing = if restored.without_files.is_empty() {
        String::new()
    } else {
        format!("\nmanifests without files: {}", restored.without_files.join(", "))
    };
    let data = options.data.display();
    options.print(
        &format!(
            "{} artifacts restored, {} were here already, {} runs, {:.1} MiB fetched{missing}\nnext: codenets status --data {data} --conf {data}/{}",
            restored.artifacts,
            restored.kept,
            restored.runs,
            mib(restored.fetched_bytes),
            restoring::CONFIG
        ),
        &json!({ "artifacts": restored.artifacts, "kept": restored.kept, "runs": restored.runs,
            "fetched_bytes": restored.fetched_bytes, "without_files": restored.without_files }),
    )?;
    Ok(())
}

/// Names of the snapshots at a remote.
fn names(remote: &Remote) -> Result<Vec<String>> {
    let names: Vec<String> = remote.list("refs")?.into_iter().map(|(path, _)| path.trim_start_matches("refs/").to_owned()).collect();
    ensure!(!names.is_empty(), "{} has no snapshots: save one with `codenets save --to {0}`", remote.address());
    Ok(names)
}

/// `snapshots`.
pub fn snapshots(options: &Options, from: &str) -> Result<()> {
    let remote = Remote::open(from, false)?;
    let (mut text, mut rows) = (String::new(), Vec::new());
    for name in names(&remote)? {
        let (id, tree) = tree::find(&remote, &name)?;
        let bytes: u64 = tree.files.values().map(|file| file.bytes).sum();
        let about: Vec<String> = tree.about.iter().map(|(name, value)| format!("{name} {value}")).collect();
        text += &format!("{name}  {id}  {} files, {:.1} MiB  {}\n", tree.files.len(), mib(bytes), about.join(", "));
        rows.push(json!({ "name": name, "record": id, "kind": tree.kind, "files": tree.files.len(), "bytes": bytes, "about": tree.about }));
    }
    options.print(&text, &Value::Array(rows))?;
    Ok(())
}

/// `lineage`.
pub fn lineage(registry: &Registry, options: &Options, of: Option<&str>) -> Result<()> {
    let here = options.store(registry);
    let (store, target) = artifact(&here, of)?;
    let lineage = lineages::Lineage::of(&store, &target)?;
    write_report_file(here.root(), "lineage.html", page::html(&lineage).as_bytes())?;
    write_report_file(here.root(), "lineage.svg", page::svg(&lineage).as_bytes())?;
    options.print(&lineage.text(), &lineage.json()?)?;
    here.progress().message(&format!("graph: {}", report_path(here.root(), "lineage.html").display()));
    Ok(())
}

/// `diff`.
pub fn diff(registry: &Registry, options: &Options, a: &str, b: &str) -> Result<()> {
    let here = options.store(registry);
    let lineage = |name: &str| -> Result<_> {
        let (store, id) = resolve(&here, name)?;
        let lineage = lineages::Lineage::of(&store, &id)?;
        Ok((store, lineage))
    };
    let [score_a, score_b] = [a, b].map(|name| Path::new(name).join(Scores::FILE));
    let ((store_a, a), (store_b, b)) = (lineage(a)?, lineage(b)?);
    let kinds = compare::diff(&a, &b, here.kinds());
    let (mut text, mut value) = (compare::text(&kinds), serde_json::to_value(&kinds)?);
    let bundles = compare::nearest(&a, Bundle::KIND).zip(compare::nearest(&b, Bundle::KIND));
    if let Some((a, b)) = bundles.filter(|(a, b)| a != b) {
        let (a, b) = (store_a.artifact::<Bundle>(&a)?, store_b.artifact::<Bundle>(&b)?);
        if a.is_here() && b.is_here() {
            let change = bundle_diff::bundle_diff(&a.open()?.dir, &b.open()?.dir)?;
            let scores = score_in(&score_a).zip(score_in(&score_b));
            let scores = scores.map(|(a, b)| format!("; mrr@corpus {a:.4} -> {b:.4}")).unwrap_or_default();
            text = format!("{change}{scores}\n{text}{}", bundle_diff::render(&change.functions));
            let bundle = value.as_array_mut().into_iter().flatten().find(|kind| kind["kind"] == Bundle::KIND);
            if let Some(bundle) = bundle {
                bundle["functions"] = serde_json::to_value(&change.functions)?;
                bundle["gone_repositories"] = serde_json::to_value(&change.gone)?;
                bundle["new_repositories"] = serde_json::to_value(&change.new)?;
            }
        } else {
            text += "functions are not compared: the files of a bundle are not available locally; run `codenets restore --with bundle`\n";
        }
    }
    options.print(&text, &value)
}

/// The score of hybrid search in the file of scores of a published bundle.
fn score_in(file: &Path) -> Option<f64> {
    score_of(&serde_json::from_slice(&fs::read(file).ok()?).ok()?)
}

/// `events`.
pub fn events(registry: &Registry, options: &Options, to: &str) -> Result<()> {
    let (sent, skipped) = outbox::send(&options.store(registry), to)?;
    let torn = if skipped > 0 { format!(" ({skipped} lines are not events)") } else { String::new() };
    options.print(&format!("{sent} events sent to {to}{torn}"), &json!({ "sent": sent, "skipped": skipped }))?;
    Ok(())
}

/// `journal`.
pub fn journal(registry: &Registry, options: &Options) -> Result<()> {
    let store = options.store(registry);
    let (text, flat) = ledger::journal(&store);
    write_report(store.root(), "journal", &flat)?;
    options.print(&text, &Value::Object(flat))?;
    Ok(())
}

/// `gc`.
pub fn gc(registry: &Registry, options: &Options, yes: bool) -> Result<()> {
    let store = options.store(registry);
    let is_unsent = |work_dir: &Path| trainer::tracking::is_unsent(work_dir);
    let found = if yes { garbage::collect(&store, &is_unsent)? } else { garbage::plan(&store, &is_unsent)? };
    let total: u64 = found.iter().map(|one| one.bytes).sum();
    let mut lines: Vec<String> =
        found.iter().map(|one| format!("{:>9.1} MiB  {}  ({})", mib(one.bytes), one.path.display(), one.why)).collect();
    lines.push(match (found.is_empty(), yes) {
        (true, _) => "nothing to delete: every artifact is referenced".to_owned(),
        (false, true) => format!("{:>9.1} MiB deleted", mib(total)),
        (false, false) => format!("{:>9.1} MiB would be deleted: run `codenets gc --yes`", mib(total)),
    });
    options.print(&lines.join("\n"), &json!({ "removed": yes, "bytes": total, "garbage": found }))?;
    Ok(())
}

/// `pin`, or the list of pins.
pub fn pin(registry: &Registry, options: &Options, name: Option<&str>, of: Option<&str>) -> Result<()> {
    let store = options.store(registry);
    let Some(name) = name else {
        let pins = store.pins()?;
        let text: String = pins.iter().map(|(name, id)| format!("{name} {} {}\n", id.kind, id.key)).collect();
        let rows: Vec<Value> = pins.iter().map(|(name, id)| json!({ "name": name, "kind": id.kind, "key": id.key })).collect();
        if !pins.is_empty() || options.json {
            options.print(&text, &Value::Array(rows))?;
        }
        return Ok(());
    };
    let (_, target) = artifact(&store, of)?;
    store.pin(name, &target)?;
    let text = format!("{} {} is pinned as {name}", target.kind, target.key);
    options.print(&text, &json!({ "name": name, "kind": target.kind, "key": target.key }))
}

/// `unpin`.
pub fn unpin(registry: &Registry, options: &Options, name: &str) -> Result<()> {
    options.store(registry).unpin(name)?;
    options.print(&format!("the pin {name} is removed"), &json!({ "removed": name }))
}

/// `verify`.
pub fn verify(registry: &Registry, options: &Options, from: Option<&str>) -> Result<()> {
    match from {
        Some(from) => verify_remote(options, &Remote::open(from, false)?),
        None => verify_data(registry, options),
    }
}

fn verify_data(registry: &Registry, options: &Options) -> Result<()> {
    let store = options.store(registry);
    let damaged = store.verify()?;
    let flat = Map::from_iter([("damaged_files".to_owned(), Value::from(damaged.len()))]);
    if let Err(error) = write_report(&options.data, "verify", &flat) {
        store.progress().message(&format!("reports/verify.json is not written: {error:#}"));
    }
    let is_published = Serve::of(&options.data).current().exists();
    let paths: Vec<String> = damaged.iter().map(|path| path.display().to_string()).collect();
    let mut text: String = paths.iter().map(|path| format!("damaged: {path}\n")).collect();
    if damaged.is_empty() {
        text += "every file of the recorded artifacts is intact\n";
    }
    let published = if is_published { indexer::publish::verify(&options.data).context("the published bundle") } else { Ok(()) };
    if is_published && published.is_ok() {
        text += "the published bundle is intact\n";
    }
    let published_error = published.as_ref().err().map(|error| format!("{error:#}"));
    options.print(&text, &json!({ "damaged": paths, "published": is_published, "published_error": published_error }))?;
    ensure!(
        damaged.is_empty(),
        "{} damaged files: `codenets run` makes current artifacts again, `codenets gc` deletes unreferenced ones",
        damaged.len()
    );
    published
}

fn verify_remote(options: &Options, remote: &Remote) -> Result<()> {
    let (mut damaged, mut intact) = (Vec::new(), 0);
    for name in names(remote)? {
        match tree::find(remote, &name) {
            Ok((_, tree)) => {
                let total: u64 = tree.files.values().map(|file| file.bytes).sum();
                let bar = ledger::Progress::new(options.quiet).bar("verify", total >> 10, "KiB");
                damaged.extend(tree::check(remote, &tree, &bar)?);
                bar.finish();
                intact += 1;
            }
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    damaged.sort();
    damaged.dedup();
    let mut text: String = damaged.iter().map(|one| format!("damaged: {one}\n")).collect();
    if damaged.is_empty() {
        text += &format!("{intact} snapshots at {} are intact", remote.address());
    }
    options.print(&text, &json!({ "damaged": damaged, "intact_snapshots": intact }))?;
    if !damaged.is_empty() {
        bail!("{} damaged objects at {}: delete them and run `codenets save` again", damaged.len(), remote.address());
    }
    Ok(())
}

/// `mlflow sync`. What was uploaded is printed also where the server stops to answer.
pub fn mlflow_sync(registry: &Registry, options: &Options) -> Result<()> {
    let mut synced = Synced::default();
    let outcome = sync(&options.store(registry), &mut synced);
    let mut text: String = synced.runs.iter().filter(|run| run.error.is_none()).map(uploaded).collect();
    if synced.runs.is_empty() && outcome.is_ok() {
        text += &format!("nothing to upload: {} has all of {} runs", synced.address, synced.complete);
    }
    if !text.is_empty() || options.json {
        options.print(&text, &serde_json::to_value(&synced.runs)?)?;
    }
    Ok(outcome?)
}

/// A line about a run that was uploaded.
fn uploaded(run: &UploadedRun) -> String {
    let rest = if run.under_way { "; the training is still running" } else { "" };
    let Sent { metrics, artifacts, versions } = run.sent;
    format!("{}: uploaded {metrics} metrics, {artifacts} artifacts, {versions} model versions (run {}){rest}\n", run.run, run.id)
}
