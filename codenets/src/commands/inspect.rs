//! Commands that describe: a bundle, this machine, the sources, the corpus, the configuration.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use ledger::{Registry, Serve, Stage, write_report};
use pipeline::{
    Harvest, Ingest, explore as pages, fidelity as parser,
    ingest::{self, Recall},
};
use serde_json::{Value, json};

use crate::options::Options;

/// Which files are listed.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// List only the files that are left out
    #[arg(long, conflicts_with = "included")]
    excluded: bool,
    /// List only the files that are read
    #[arg(long)]
    included: bool,
}

/// `inspect`.
pub fn inspect(options: &Options, folder: Option<&Path>) -> Result<()> {
    let current = Serve::of(&options.data).current();
    let folder = folder.unwrap_or(&current);
    let manifest = bundle::BundleManifest::read(folder)?;
    options.print(&manifest.describe(), &serde_json::to_value(&manifest)?)?;
    Ok(())
}

/// One check of `doctor`.
struct Check {
    name: &'static str,
    outcome: Result<String>,
}

/// `doctor`.
pub fn doctor(registry: &Registry, options: &Options) -> Result<()> {
    let program = |name: &'static str, purpose: &str| {
        let output = std::process::Command::new(name).arg("--version").output();
        let version =
            output.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        version.with_context(|| format!("{name} is not installed: {purpose} needs it"))
    };
    let serve = Serve::of(&options.data);
    let checks = [
        Check { name: "onnx runtime", outcome: onnxruntime() },
        Check { name: "configuration", outcome: configuration(registry, options) },
        Check { name: "data folder", outcome: writable(&options.data) },
        Check { name: "artifacts", outcome: artifacts(registry, options) },
        Check {
            name: "published bundle",
            outcome: match serve.current_id() {
                None => Ok("nothing is published yet: run `codenets run`".to_owned()),
                Some(id) => indexer::publish::verify(&options.data).map(|()| format!("{id}, checksums match")).map_err(Into::into),
            },
        },
        Check { name: "python3", outcome: program("python3", "`codenets setup`, and harvest of PyPI packages,") },
    ];
    let rows: Vec<Value> = checks
        .iter()
        .map(|check| match &check.outcome {
            Ok(found) => json!({ "check": check.name, "ok": true, "found": found }),
            Err(error) => json!({ "check": check.name, "ok": false, "error": format!("{error:#}") }),
        })
        .collect();
    let text: String = checks
        .iter()
        .map(|check| match &check.outcome {
            Ok(found) => format!("ok      {:<17} {found}\n", check.name),
            Err(error) => format!("FAILED  {:<17} {error:#}\n", check.name),
        })
        .collect();
    options.print(&text, &Value::Array(rows))?;
    let failed = checks.iter().filter(|check| check.outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed: see the lines that begin with FAILED", checks.len());
    }
    Ok(())
}

fn onnxruntime() -> Result<String> {
    let library = inference::installed()?;
    inference::load_installed()?;
    let pinned = if library.is_pinned()? { "the pinned one" } else { "not the pinned one" };
    Ok(format!("{} ({pinned})", library.path.display()))
}

fn configuration(registry: &Registry, options: &Options) -> Result<String> {
    let conf = options.load(registry)?;
    registry.check(&conf)?;
    Ok(format!("{} is valid", options.conf.display()))
}

fn writable(data: &Path) -> Result<String> {
    std::fs::create_dir_all(data).with_context(|| format!("creating {}: is its folder read-only?", data.display()))?;
    tempfile::tempfile_in(data).with_context(|| format!("{} is not writable", data.display()))?;
    Ok(format!("{} is writable", data.display()))
}

fn artifacts(registry: &Registry, options: &Options) -> Result<String> {
    let store = options.store(registry);
    if let Some(kind) = store.kinds().iter().find(|kind| store.has_damaged_pointer(kind)) {
        bail!("{}/{kind}/CURRENT is damaged: `codenets run` sets it again", store.root().display());
    }
    let ids = store.artifacts()?;
    for id in &ids {
        ledger::Manifest::read(&store.dir(id)).with_context(|| format!("{} {}: `codenets verify` names the damage", id.kind, id.key))?;
    }
    Ok(format!("{} artifacts, every manifest is readable", ids.len()))
}

/// `files`.
pub fn files(registry: &Registry, options: &Options, args: &FilesArgs) -> Result<()> {
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    let config = conf.section(Harvest::NAME)?;
    let (mut read, mut left_out, mut printed) = (0u64, 0u64, Ok(()));
    pipeline::harvest::list_files(&config, &store, &mut |file| {
        let reason = file.left_out.map(|reason| reason.to_string());
        if reason.is_some() {
            left_out += 1
        } else {
            read += 1
        }
        if (reason.is_some() && args.included) || (reason.is_none() && args.excluded) {
            return;
        }
        if printed.is_err() {
            return;
        }
        printed = if options.json {
            outln!("{}", json!({ "repo": file.repo, "path": file.path, "left_out": reason }))
        } else {
            let decision = reason.map_or_else(|| "read".to_owned(), |reason| format!("left out: {reason}"));
            outln!("{}  {}  {decision}", file.repo, file.path)
        };
    })?;
    printed?;
    store.progress().message(&format!("{read} files are read, {left_out} are left out"));
    Ok(())
}

/// `fidelity`.
pub fn fidelity(registry: &Registry, options: &Options, csn: &Path) -> Result<()> {
    let store = options.store(registry);
    let fidelity = parser::measure(csn)?;
    let flat = fidelity.flat();
    write_report(store.root(), "fidelity", &flat)?;
    options.print(&fidelity.text(), &Value::Object(flat))?;
    Ok(())
}

/// `duplicates`.
pub fn duplicates(registry: &Registry, options: &Options, csn: &Path, rows: usize) -> Result<()> {
    let store = options.store(registry);
    let thresholds = options.load(registry)?.section::<ingest::Config>(Ingest::NAME)?.duplicates;
    let thresholds = thresholds.context("ingest.duplicates is null: set it to the thresholds to compare with")?;
    let scratch = tempfile::tempdir()?;
    let flat = Recall::measure(csn, rows, &thresholds, scratch.path(), store.progress())?.flat();
    write_report(store.root(), "duplicates", &flat)?;
    let lines: String = flat.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    options.print(&lines, &Value::Object(flat))
}

/// `explore`.
pub fn explore(registry: &Registry, options: &Options) -> Result<()> {
    let page = pages::write(&options.store(registry))?;
    options.print(&page.display().to_string(), &json!({ "page": page }))
}

/// `config`.
pub fn config(registry: &Registry, options: &Options, schema: bool) -> Result<()> {
    if schema {
        outln!("{}", serde_json::to_string_pretty(&registry.schema())?)?;
        return Ok(());
    }
    let conf = options.load(registry)?;
    registry.check(&conf)?;
    options.print(&conf.annotated()?, &serde_json::to_value(conf.resolved()?)?)?;
    Ok(())
}
