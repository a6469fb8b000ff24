//! Training runs on an MLflow server: a real server, started here, and a real client that reads it. The server is missing, killed and
//! started again.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    python_readers::{folder, python},
    workspace::{Workspace, encoder, free_port, texts, wait_for_port},
};

/// Three trainings, by how their encoders rank the few validation rows: 0.61, 0.69, 0.56.
const WEAK: &str = "train { epochs = 1, optimizer.learning-rate = 1e-9 }";
const GOOD: &str = "train { epochs = 12, seed = 8, stop.patience = 50 }";
const WEAKER: &str = "train { epochs = 1, seed = 8, optimizer.learning-rate = 1e-9 }";
/// A training on other tokens, whose scores cannot be compared with the others.
const OTHER_TOKENS: &str = "tokenize.code-tokens = 20\ntrain.epochs = 1";

/// A training of a transformer that lasts some seconds and writes many checkpoints.
fn long_training() -> String {
    encoder("bert", "dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1")
        + "train { epochs = 150, batch.size = 4, checkpoints.every-steps = 3, stop.patience = 150 }"
}

/// A server's process group, killed at the end.
struct Server {
    process: Child,
}

impl Server {
    fn start(workspace: &Workspace, port: u16) -> Self {
        let process = Command::new(python())
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"])
            .args(["--backend-store-uri", &format!("sqlite:///{}", workspace.path("mlflow.db").display())])
            .arg("--artifacts-destination")
            .arg(workspace.path("artifacts"))
            .current_dir(workspace.root())
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            // A killed server leaves its folders there.
            .env("TMPDIR", workspace.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its workers survive the server otherwise.
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self { process };
        wait_for_port(port);
        server
    }

    fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.kill();
        }
    }
}

/// `codenets` with the server in its environment.
pub fn command(workspace: &Workspace, arguments: &[&str], address: &str) -> Command {
    let mut command = workspace.command(arguments);
    command.env("MLFLOW_TRACKING_URI", address).env("MLFLOW_EXPERIMENT_NAME", "end-to-end");
    for name in ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "CODENETS_MLFLOW_MODEL", "CODENETS_MLFLOW_PROMOTE"] {
        command.env_remove(name);
    }
    command
}

pub const SYNC: [&str; 2] = ["mlflow", "sync"];
pub const TRAIN: [&str; 3] = ["run", "--only", "train"];

pub fn succeed(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{}", texts(output).1);
    texts(output)
}

/// A training and its export.
struct Trained {
    checkpoint: PathBuf,
    encoder: PathBuf,
    report: Value,
    messages: String,
}

impl Trained {
    /// Name of the run on the server.
    fn name(&self) -> String {
        format!("train-{}", file_name(&self.checkpoint))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A workspace, the address of a server, and what happened so far.
struct Client {
    workspace: Workspace,
    port: u16,
}

impl Client {
    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start_server(&self) -> Server {
        Server::start(&self.workspace, self.port)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(&self.workspace, arguments, &self.address()).output().unwrap()
    }

    fn train(&self, settings: &str) -> Trained {
        self.workspace.configure(settings);
        let messages = succeed(&self.run(&["run", "--only", "train,export"])).1;
        self.recorded(messages)
    }

    fn recorded(&self, messages: String) -> Trained {
        let [checkpoint, encoder] = ["checkpoint", "encoder"].map(|kind| self.workspace.artifact(kind));
        Trained { checkpoint, encoder, report: self.workspace.manifest("checkpoint")["report"].clone(), messages }
    }

    /// Folder of the training that is not finished.
    fn run_folder(&self) -> Option<PathBuf> {
        let folders = fs::read_dir(self.workspace.path("data/runs")).unwrap().map(|entry| entry.unwrap().path());
        folders.into_iter().find(|folder| folder.join("checkpoints").is_dir())
    }

    fn count_in_run(&self, folder: &str, prefix: &str, suffix: &str) -> usize {
        let entries = self.run_folder().and_then(|run| fs::read_dir(run.join(folder)).ok()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix) && name.ends_with(suffix)).count()
    }

    fn spawn_training(&self) -> Child {
        command(&self.workspace, &TRAIN, &self.address()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits for an effect of a training; false if the training ended first.
fn wait_for(child: &mut Child, is_seen: impl Fn() -> bool) -> bool {
    while !is_seen() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// All that happened between the workspace and the server; the tests look at the parts.
struct History {
    /// Trained before any server ran.
    weak: Trained,
    refused: Output,
    first_sync: (String, String),
    second_sync: String,
    good: Trained,
    /// A run in which every stage is up to date.
    idle_messages: String,
    weaker: Trained,
    other_tokens: Trained,
    interrupted: Interrupted,
    long: Trained,
    last_sync: (String, String),
    sync_without_state: String,
    /// What the client sees on the server, and the artifacts that it downloaded.
    seen: Value,
    downloads: PathBuf,
}

/// A training that is killed, and resumed while the server is killed.
struct Interrupted {
    sync_during: (String, String),
    sync_after_kill: String,
    messages: String,
    new_runs: usize,
}

static HISTORY: LazyLock<History> = LazyLock::new(|| {
    let workspace = Workspace::shared("mlflow");
    workspace.replace_with(&Workspace::tokenized());
    History::of(&Client { workspace, port: free_port() })
});

fn history() -> &'static History {
    &HISTORY
}

impl History {
    fn of(client: &Client) -> Self {
        let weak = client.train(WEAK);
        let refused = client.run(&SYNC);
        let mut server = client.start_server();
        let first_sync = succeed(&client.run(&SYNC));
        let second_sync = succeed(&client.run(&SYNC)).0;
        let good = client.train(GOOD);
        let idle_messages = succeed(&client.run(&["run", "--only", "train,export"])).1;
        let weaker = client.train(WEAKER);
        client.workspace.configure(OTHER_TOKENS);
        client.workspace.run_until("tokenize");
        let other_tokens = client.train(OTHER_TOKENS);
        client.workspace.configure("");
        client.workspace.run_until("tokenize");
        client.workspace.configure(&long_training());
        let interrupted = Interrupted::of(client, &mut server);
        // Not exported: its encoder is the one of the training before.
        let long = client.recorded(String::new());
        let _server = client.start_server();
        let last_sync = succeed(&client.run(&SYNC));
        let sync_without_state = sync_without_state(client, &good);
        let downloads = client.workspace.path("downloads");
        let seen = look(client, &downloads);
        Self {
            weak,
            refused,
            first_sync,
            second_sync,
            good,
            idle_messages,
            weaker,
            other_tokens,
            interrupted,
            long,
            last_sync,
            sync_without_state,
            seen,
            downloads,
        }
    }
}

impl Interrupted {
    fn of(client: &Client, server: &mut Server) -> Self {
        let runs = || fs::read_dir(client.workspace.path("data/runs")).unwrap().count();
        let before = runs();
        let mut child = client.spawn_training();
        let is_under_way = || client.count_in_run("checkpoints", "step-", "") > 0 && client.count_in_run("mlflow", "", ".json") > 0;
        assert!(wait_for(&mut child, is_under_way), "the training ended early");
        let sync_during = succeed(&client.run(&SYNC));
        assert!(child.try_wait().unwrap().is_none(), "the training ended early");
        child.kill().unwrap();
        child.wait().unwrap();
        // A kill may leave an incomplete line.
        let spool = client.run_folder().unwrap().join("mlflow/spool.jsonl");
        fs::OpenOptions::new().append(true).open(&spool).unwrap().write_all(b"{\"op\":\"metr").unwrap();
        let sync_after_kill = succeed(&client.run(&SYNC)).0;
        let mut child = client.spawn_training();
        let lines = || fs::read_to_string(&spool).unwrap().lines().count();
        let before_resume = lines();
        assert!(wait_for(&mut child, || lines() > before_resume + 20), "the training ended early");
        server.kill();
        assert!(child.try_wait().unwrap().is_none(), "the training ended early");
        let messages = succeed(&child.wait_with_output().unwrap()).1;
        Self { sync_during, sync_after_kill, messages, new_runs: runs() - before }
    }
}

/// Exports again in another process, deletes the record of what was sent, and uploads.
fn sync_without_state(client: &Client, good: &Trained) -> String {
    client.workspace.configure(GOOD);
    client.workspace.run_only("train");
    succeed(&client.run(&["run", "--only", "export"]));
    for entry in fs::read_dir(client.workspace.path("data/runs").join(good.name()).join("mlflow")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    succeed(&client.run(&SYNC)).0
}

/// What the client of MLflow sees; it downloads the artifacts of each run to a folder.
fn look(client: &Client, downloads: &Path) -> Value {
    let mut command = Command::new(python());
    command.arg(folder().join("read_mlflow.py")).args([&client.address(), "end-to-end", "codenets-encoder"]).arg(downloads);
    // The client leaves folders there.
    command.env("TMPDIR", client.workspace.root());
    let output = command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run_of<'a>(seen: &'a Value, name: &str) -> &'a Value {
    let runs: Vec<_> = seen["runs"].as_array().unwrap().iter().filter(|run| run["name"] == name).collect();
    assert_eq!(runs.len(), 1, "one run of {name}");
    runs[0]
}

#[test]
fn a_training_without_a_server_succeeds_with_one_message_for_each_stage() {
    let history = history();
    let messages = &history.weak.messages;
    assert_eq!(messages.matches("cannot be reached").count(), ["train", "export"].len(), "{messages}");
    assert!(messages.contains("codenets mlflow sync"), "{messages}");
    let (_, error) = texts(&history.refused);
    assert!(!history.refused.status.success() && error.contains("error: ") && error.contains(&history.weak.name()), "{error}");
}

#[test]
fn sync_uploads_each_run_once() {
    let history = history();
    let (out, err) = &history.first_sync;
    assert!(out.contains(&history.weak.name()) && out.contains("3 artifacts, 1 model versions"), "{out}");
    assert!(err.contains("version 1 is the champion"), "{err}");
    assert!(history.second_sync.contains("nothing to"), "{}", history.second_sync);
    assert!(!history.idle_messages.contains("mlflow"), "{}", history.idle_messages);
}

#[test]
fn only_a_better_encoder_becomes_the_champion() {
    let history = history();
    let (good, weaker, other) = (&history.good.messages, &history.weaker.messages, &history.other_tokens.messages);
    assert!(good.contains("version 2 is the champion") && !good.contains("cannot be reached"), "{good}");
    assert!(weaker.contains("version 3 is not the champion") && weaker.contains("mrr"), "{weaker}");
    assert!(other.contains("version 4 is not the champion") && other.contains("version 2") && other.contains("other data"), "{other}");
    let versions = history.seen["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 4, "{versions:?}");
    assert_eq!(history.seen["champion"], 2);
    assert_eq!(versions[1]["run"], run_of(&history.seen, &history.good.name())["id"]);
    assert_eq!(versions[1]["tags"]["codenets.encoder"], file_name(&history.good.encoder).as_str());
}

#[test]
fn a_killed_training_is_uploaded_and_resumed_in_the_same_run() {
    let history = history();
    let interrupted = &history.interrupted;
    let (out, err) = &interrupted.sync_during;
    assert!(out.contains("nothing to") || err.contains("another process"), "the training itself uploads: {out}{err}");
    assert!(interrupted.sync_after_kill.contains("train-"), "{}", interrupted.sync_after_kill);
    assert!(interrupted.messages.contains("resumes at step"), "{}", interrupted.messages);
    assert_eq!(interrupted.new_runs, 1);
}

#[test]
fn a_training_goes_on_when_its_server_is_killed() {
    let history = history();
    let messages = &history.interrupted.messages;
    assert_eq!(messages.matches("cannot be reached").count(), 1, "{messages}");
    assert!(history.last_sync.0.contains(&history.long.name()), "{:?}", history.last_sync);
}

#[test]
fn nothing_is_uploaded_twice_without_the_record_of_what_was_sent() {
    let history = history();
    assert!(history.sync_without_state.contains("0 model versions"), "{}", history.sync_without_state);
    assert_eq!(history.seen["runs"].as_array().unwrap().len(), 5);
}

/// Each step once, with the recorded values.
#[test]
fn the_server_has_the_metrics_of_every_step_and_epoch() {
    let history = history();
    for trained in [&history.weak, &history.good, &history.long] {
        let run = run_of(&history.seen, &trained.name());
        let steps = trained.report["steps"].as_u64().unwrap();
        for metric in ["train/loss", "train/mrr", "train/learning-rate", "train/gradient-norm", "train/samples-per-s"] {
            let points = run["metrics"][metric].as_array().unwrap().iter();
            assert_eq!(points.map(|point| point[0].as_u64().unwrap()).collect::<Vec<_>>(), (1..=steps).collect::<Vec<_>>(), "{metric}");
        }
        let epochs = trained.report["epochs"].as_array().unwrap();
        for (metric, of) in [("valid/mrr", "mrr"), ("valid/loss", "loss"), ("valid/ndcg", "ndcg")] {
            let points = run["metrics"][metric].as_array().unwrap();
            assert_eq!(points.len(), epochs.len(), "{metric}");
            for (point, epoch) in points.iter().zip(epochs) {
                assert!((point[1].as_f64().unwrap() - epoch["valid"][of].as_f64().unwrap()).abs() < 1e-8, "{metric}");
            }
        }
        assert_eq!(run["status"], "FINISHED");
        assert!(run["seconds"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_server_has_parameters_and_tags() {
    let history = history();
    let run = run_of(&history.seen, &history.good.name());
    assert_eq!(run["params"]["encoder.kind"], "nbow");
    assert_eq!(run["params"]["optimizer.learning-rate"], "0.008");
    let key = file_name(&history.good.checkpoint);
    for (tag, value) in [("codenets.stage", "train"), ("codenets.key", &key), ("mlflow.source.type", "LOCAL")] {
        assert_eq!(run["tags"][tag], value);
    }
    for tag in ["codenets.tokens", "codenets.vocabulary", "codenets.version", "mlflow.source.name"] {
        assert!(run["tags"][tag].is_string(), "{tag}");
    }
}

fn require_equal_files(downloaded: &Path, recorded: &Path, files: &[&str]) {
    for file in files {
        assert!(fs::read(downloaded.join(file)).unwrap() == fs::read(recorded.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn the_server_has_the_recorded_files() {
    let history = history();
    for trained in [&history.weak, &history.good, &history.long] {
        let downloaded = history.downloads.join(trained.name()).join("checkpoint");
        require_equal_files(&downloaded, &trained.checkpoint, &["context.json", "report.html", "encoder.json"]);
    }
    for trained in [&history.weak, &history.good] {
        let encoder = history.downloads.join(trained.name()).join("model").join(trained.encoder.file_name().unwrap());
        require_equal_files(&encoder, &trained.encoder, &["encoder.onnx", "encoder.json", "tokenizer.json"]);
    }
}

#[test]
fn the_champion_is_loaded_as_a_model() {
    let history = history();
    let seen = &history.seen;
    assert_eq!((seen["width"].as_u64().unwrap(), seen["opset"].as_u64().unwrap()), (32, 20));
    assert!((seen["length"].as_f64().unwrap() - 1.0).abs() < 1e-4);
}
