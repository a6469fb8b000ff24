//! Commands that run stages or say what would run.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use inference::{ChosenBy, InstalledLibrary};
use ledger::{
    AnyStage, Freshness, Registry, ReleaseId, Stage, StageSelection, StageStatus, Store, conf::Conf, render_status, write_report,
};
use serde_json::{Map, Value, json};
use trainer::{Adopt, Train};

use crate::{night_conf, options::Options, stage_process};

/// Which stages run, and where a training starts.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Run these stages only
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "until")]
    pub only: Vec<String>,
    /// Run every stage up to and including this one
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    /// Resume a killed or restored training (with --only train); fail where there is no checkpoint to resume from
    #[arg(long, requires = "only", conflicts_with = "restore")]
    pub resume: bool,
    /// Start the training (with --only train) from a recorded checkpoint, a folder of data/checkpoint
    ///
    /// Without --conf: the checkpoint's configuration, its last weights and the optimizer's moments, for as many epochs again. With
    /// --conf: its best weights and its tokenizer, everything else as configured. The schedule starts anew in both cases.
    #[arg(long, value_name = "FOLDER", requires = "only")]
    pub restore: Option<PathBuf>,
    /// This process is a stage of a run, which has the lock of runs
    #[arg(long, hide = true, requires = "only")]
    pub part_of_run: bool,
    /// Use this release of the encoder in place of a training
    #[arg(long, hide = true, value_name = "ID", requires = "part_of_run")]
    pub release: Option<String>,
    /// Evaluate as a night does
    #[arg(long, hide = true, requires = "part_of_run")]
    pub night: bool,
    /// File with the repositories that are not read
    #[arg(long, hide = true, requires = "part_of_run", value_name = "FILE")]
    pub kept: Option<PathBuf>,
    /// Key of the recorded bundle whose segments are kept
    #[arg(long, hide = true, requires = "part_of_run", value_name = "KEY")]
    pub earlier: Option<String>,
    /// Was --conf given, or is it the default?
    #[arg(skip)]
    pub conf_is_given: bool,
}

/// `run`: the selected stages that are not up to date, each in a process of its own, then unsent events where a server is named.
pub fn run(registry: &Registry, options: &Options, args: &RunArgs) -> Result<()> {
    let selection = match (&args.until, args.only.as_slice()) {
        (Some(stage), _) => StageSelection::Until(stage.clone()),
        (None, []) => StageSelection::All,
        (None, only) => StageSelection::Only(only.to_vec()),
    };
    let conf = configuration(registry, options, args)?;
    let store = options.store_of(registry, &conf)?;
    let _lock = if args.part_of_run { None } else { Some(store.lock_run()?) };
    if args.resume {
        trainer::require_checkpoint(&store, &conf.section(Train::NAME)?)?;
    }
    let stages = registry.prepared(&store, &conf, &selection)?;
    if let (false, Some(text)) = (args.part_of_run, revised(&stages, &store, &conf)) {
        store.progress().message(&text);
    }
    for stage in &stages {
        let is_up_to_date = stage.freshness(&store, &conf).is_ok_and(|freshness| freshness.is_up_to_date());
        let own_process = options.is_program && stages.len() > 1 && !is_up_to_date;
        run_stage(*stage, &store, &conf, own_process.then(|| arguments(stage.name(), options, args)))?;
    }
    send_events(&store);
    Ok(())
}

/// What this version of the program builds again because it writes other bytes than the one that recorded it; none: nothing.
pub fn revised(stages: &[&dyn AnyStage], store: &Store, conf: &Conf) -> Option<String> {
    let is_revised = |stage: &&&dyn AnyStage| matches!(stage.freshness(store, conf), Ok(Freshness::Revised { .. }));
    let names: Vec<&str> = stages.iter().filter(is_revised).map(|stage| stage.name()).collect();
    let after = "and the stages whose inputs change by that";
    (!names.is_empty()).then(|| format!("this version of codenets writes other artifacts: it builds {} again, {after}", names.join(", ")))
}

/// Runs a stage: in a process of its own if that process has arguments, else here.
pub fn run_stage(stage: &dyn AnyStage, store: &Store, conf: &Conf, process: Option<Vec<OsString>>) -> Result<()> {
    match process {
        Some(arguments) => stage_process::run(stage.name(), &arguments),
        None => Ok(stage.run(store, conf)?),
    }
}

/// The arguments of a process that runs one stage of this run.
pub fn arguments(stage: &str, options: &Options, args: &RunArgs) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["run", "--part-of-run", "--only", stage, "--data"].map(OsString::from).to_vec();
    arguments.push(options.data.clone().into());
    if args.conf_is_given {
        arguments.extend(["--conf".into(), options.conf.clone().into()]);
    }
    if let Some(threads) = options.threads {
        arguments.extend(["--threads".into(), threads.to_string().into()]);
    }
    arguments.extend(
        [(options.quiet, "--quiet"), (options.json, "--json")].iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag.into()),
    );
    arguments.extend(args.night.then(|| "--night".into()));
    arguments.extend(args.kept.iter().flat_map(|file| ["--kept".into(), file.clone().into()]));
    arguments.extend(args.earlier.iter().flat_map(|key| ["--earlier".into(), key.into()]));
    arguments.extend(args.release.iter().flat_map(|id| ["--release".into(), id.into()]));
    if stage == Train::NAME {
        arguments.extend(args.resume.then(|| "--resume".into()));
        arguments.extend(args.restore.iter().flat_map(|folder| ["--restore".into(), folder.clone().into()]));
    }
    arguments
}

/// The configuration that a run uses: with `--restore` the training starts from a recorded checkpoint; a night has a release.
pub fn configuration(registry: &Registry, options: &Options, args: &RunArgs) -> Result<Conf> {
    let mut conf = options.load(registry)?;
    if let Some(id) = &args.release {
        let id = ReleaseId::parse(id).with_context(|| format!("{id:?} is no release: `codenets model list` shows them"))?;
        conf = night_conf::with_release(conf, &options.data, &id)?;
    }
    if args.night {
        conf = night_conf::as_night(conf)?;
    }
    if let Some(file) = &args.kept {
        conf = night_conf::with_kept(conf, file)?;
    }
    if args.earlier.is_some() {
        conf = night_conf::with_earlier(conf, args.earlier.clone())?;
    }
    let Some(folder) = &args.restore else { return Ok(conf) };
    let config =
        if args.conf_is_given { trainer::restored_config(conf.section(Train::NAME)?, folder) } else { trainer::recorded_config(folder)? };
    Ok(conf.with_section(Train::NAME, serde_json::to_value(config)?))
}

/// A run is complete without its events: an error is a message.
pub fn send_events(store: &Store) {
    let Some(server) = std::env::var("OPENLINEAGE_URL").ok().filter(|server| !server.is_empty()) else { return };
    if let Err(error) = archive::outbox::send(store, &server) {
        store.progress().message(&format!("events are kept for the next run, or for `codenets events`: {error:#}"));
    }
}

/// `status` and `plan`.
pub fn status(registry: &Registry, options: &Options, is_plan: bool) -> Result<()> {
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    let states = registry.status(&store, &conf)?;
    if let Err(error) = write_report(store.root(), "status", &flat(&states)) {
        // A folder that may only be read has a status too.
        store.progress().message(&format!("reports/status.json is not written: {error:#}"));
    }
    let shown: Vec<StageStatus> = states.into_iter().filter(|state| !is_plan || state.will_run).collect();
    let text = if shown.is_empty() { "nothing to do: every stage is up to date".to_owned() } else { render_status(&shown) };
    options.print(&text, &serde_json::to_value(&shown)?)?;
    Ok(())
}

fn flat(states: &[StageStatus]) -> Map<String, Value> {
    let mut flat = Map::new();
    for state in states {
        let Ok(Value::Object(fields)) = serde_json::to_value(state) else { continue };
        for (name, value) in fields.into_iter().filter(|(name, _)| !["stage", "kind", "inputs"].contains(&name.as_str())) {
            flat.insert(format!("{}_{name}", state.stage), value);
        }
    }
    flat
}

/// `explain`: the state of each stage, and what its recorded artifact was made with where that differs.
pub fn explain(registry: &Registry, options: &Options, name: Option<&str>) -> Result<()> {
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    let states = registry.status(&store, &conf)?;
    let (mut text, mut rows) = (String::new(), Vec::new());
    for stage in registry.stages().filter(|stage| name.is_none_or(|name| name == stage.name())) {
        let Some(state) = states.iter().find(|state| state.stage == stage.name()) else {
            text += &format!("{}: not run by this configuration\n", stage.name());
            continue;
        };
        let details = details(stage, &store, &conf)?;
        text += &format!("{}: {}\n", state.stage, if state.will_run { format!("will run ({})", state.why) } else { state.why.clone() });
        text += &details.iter().map(|line| format!("  {line}\n")).collect::<String>();
        rows.push(json!({ "stage": state.stage, "will_run": state.will_run, "state": state.state, "why": state.why, "details": details }));
    }
    options.print(&text, &Value::Array(rows))?;
    Ok(())
}

/// Lines about what differs from the recorded artifact: keys with both values, files of changed inputs.
fn details(stage: &dyn AnyStage, store: &Store, conf: &Conf) -> Result<Vec<String>> {
    let Some((_, manifest)) = stage.kind().and_then(|kind| store.current_manifest(kind)) else { return Ok(Vec::new()) };
    Ok(match stage.freshness(store, conf)? {
        Freshness::ConfigChanged { keys } => {
            let now = stage.config(conf)?;
            let value = |config: &Value, key: &str| config.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or(Value::Null);
            keys.iter().map(|key| format!("{}.{key}: {} -> {}", stage.name(), value(&manifest.config, key), value(&now, key))).collect()
        }
        Freshness::InputsChanged { inputs } => inputs
            .iter()
            .flat_map(|input| match &input.files {
                Some(files) => files.iter().map(|file| format!("{} changed: {file}", input.kind)).collect(),
                None => vec![format!("{} changed", input.kind)],
            })
            .collect(),
        Freshness::Damaged { files } => files.iter().map(|file| format!("damaged: {}", file.display())).collect(),
        _ => Vec::new(),
    })
}

/// `adopt`: records an encoder from a folder.
pub fn adopt(registry: &Registry, options: &Options, from: Option<&Path>) -> Result<()> {
    let mut conf = options.load(registry)?;
    if let Some(folder) = from {
        conf = conf.with_section(Adopt::NAME, json!({ "from": folder }));
    }
    ensure!(
        conf.adopts()?,
        "no encoder to adopt: name its folder, `codenets adopt FOLDER`, or set adopt.from in {}",
        options.conf.display()
    );
    let store = options.store_of(registry, &conf)?;
    let _lock = store.lock_run()?;
    registry.run(&store, &conf, &StageSelection::Only(vec![Adopt::NAME.to_owned()]))?;
    Ok(())
}

/// Pinned wheels of ONNX Runtime, and the script that unpacks one.
const FETCH: &str = include_str!("../../../conf/runtime/fetch.py");
const WHEEL: &str = include_str!("../../../conf/runtime/onnxruntime.txt");
const GPU_WHEEL: &str = include_str!("../../../conf/runtime/onnxruntime-gpu.txt");

/// `setup`: ONNX Runtime for this user, unless it is installed or ORT_DYLIB_PATH names another one.
pub fn setup(options: &Options, gpu: bool) -> Result<()> {
    match inference::installed() {
        Ok(library) if library.chosen_by != ChosenBy::Setup => return report_library(options, &library),
        Err(error @ inference::Error::NoSuchLibrary(_)) => return Err(error.into()),
        _ => {}
    }
    let folder = inference::user_folder(gpu).context(
        "there is no home folder to install ONNX Runtime into: set HOME or XDG_DATA_HOME, or ORT_DYLIB_PATH to a libonnxruntime.so",
    )?;
    let library = InstalledLibrary { path: folder.join(inference::LIBRARY), chosen_by: ChosenBy::Setup };
    if !library.path.is_file() || library.check().is_err() {
        fetch(&folder, if gpu { GPU_WHEEL } else { WHEEL })?;
        library.check()?;
    }
    report_library(options, &library)
}

fn report_library(options: &Options, library: &InstalledLibrary) -> Result<()> {
    options.print(&format!("ONNX Runtime: {}", library.path.display()), &json!({ "onnxruntime": library.path }))
}

/// Unpacks a pinned wheel into a folder.
fn fetch(folder: &Path, wheel: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut requirements = tempfile::NamedTempFile::new().context("creating a temporary file")?;
    requirements.write_all(wheel.as_bytes())?;
    let requirements = requirements.into_temp_path();
    // Python imports modules from the folder that it is started in.
    let python =
        Command::new("python3").current_dir(folder).arg("-c").arg(FETCH).args([requirements.as_os_str(), folder.as_os_str()]).status();
    match python {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("ONNX Runtime was not fetched: see the message above"),
        Err(error) => bail!("python3 cannot be started ({error}): install Python 3 with pip, or set ORT_DYLIB_PATH to a libonnxruntime.so"),
    }
}
