//! Runs on an MLflow server: a real one, started here, with a real client to read it; dead, killed and started again.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    outside::folder,
    world::{World, free_port, texts, wait_for_port},
};

/// A training of a transformer that lasts some seconds and leaves many checkpoints.
const LONG: &str = "train.encoder = null\n\
    train.encoder { kind = bert, dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1 }\n\
    train { epochs = 150, batch.size = 4, checkpoints.every-steps = 3, stop.patience = 150 }";

/// Three encoders by how they rank the few validation rows: 0.61, 0.69, 0.56.
const WEAK: &str = "train { epochs = 1, optimizer.learning-rate = 1e-9 }";
const GOOD: &str = "train { epochs = 12, seed = 8, stop.patience = 50 }";
const WEAKER: &str = "train { epochs = 1, seed = 8, optimizer.learning-rate = 1e-9 }";

/// A server's process group, killed at the end.
struct Server {
    process: Child,
}

impl Server {
    fn start(venv: &Path, world: &World, port: u16) -> Self {
        let store = format!("sqlite:///{}", world.path("mlflow.db").display());
        let process = Command::new(venv.join("bin/python"))
            .args([
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--workers",
                "1",
                "--backend-store-uri",
                &store,
            ])
            .arg("--artifacts-destination")
            .arg(world.path("artifacts"))
            .current_dir(world.dir.path())
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // With its workers, which outlive it otherwise.
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self { process };
        wait_for_port(port);
        server
    }

    fn kill(&mut self) {
        Command::new("kill").args(["-9", "--", &format!("-{}", self.process.id())]).status().unwrap();
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

fn command(world: &World, tool: &str, address: &str) -> Command {
    let mut command = world.command("trainer", &[tool]);
    command.env("MLFLOW_TRACKING_URI", address).env("MLFLOW_EXPERIMENT_NAME", "road");
    for name in ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "CODENETS_MLFLOW_MODEL", "CODENETS_MLFLOW_PROMOTE"] {
        command.env_remove(name);
    }
    command
}

fn succeed(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{}", texts(output).1);
    texts(output)
}

/// What the real client sees, with artifacts downloaded to a folder.
fn look(venv: &Path, address: &str, downloads: &Path) -> Value {
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(folder().join("read_mlflow.py")).args([address, "road", "codenets-encoder"]).arg(downloads);
    let output = command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run_of<'a>(seen: &'a Value, name: &str) -> &'a Value {
    let runs: Vec<_> = seen["runs"].as_array().unwrap().iter().filter(|run| run["name"] == name).collect();
    assert_eq!(runs.len(), 1, "one run of {name}");
    runs[0]
}

/// Each step once, and nothing but the recorded values.
fn is_whole(run: &Value, report: &Value) {
    let steps = report["steps"].as_u64().unwrap();
    for metric in ["train/loss", "train/mrr", "train/learning-rate", "train/gradient-norm", "train/samples-per-s"] {
        let seen: Vec<u64> = run["metrics"][metric].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
        assert_eq!(seen, (1..=steps).collect::<Vec<_>>(), "{metric}");
    }
    let epochs = report["epochs"].as_array().unwrap();
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

/// Files on the server that are those recorded here.
fn are_equal(downloaded: &Path, recorded: &Path, files: &[&str]) {
    for file in files {
        assert!(fs::read(downloaded.join(file)).unwrap() == fs::read(recorded.join(file)).unwrap(), "{file}");
    }
}

/// Waits for something that a training does; false where it ended first.
fn waits(child: &mut Child, seen: impl Fn() -> bool) -> bool {
    while !seen() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn runs_reach_a_server_whole_whatever_happens_to_it() {
    let Some(venv) = mlflow() else {
        eprintln!("skipped: mlflow cannot be installed here");
        return;
    };
    let world = World::new();
    world.run("pipeline", &["run"]);
    let port = free_port();
    let address = format!("http://127.0.0.1:{port}");
    let train = |setting: &str| {
        world.configure(setting);
        let said = succeed(&command(&world, "run", &address).output().unwrap()).1;
        (world.artifact("checkpoint"), world.artifact("encoder"), world.manifest("checkpoint")["report"].clone(), said)
    };
    let name = |checkpoint: &Path| format!("train-{}", checkpoint.file_name().unwrap().to_string_lossy());
    let sync = || command(&world, "sync", &address).output().unwrap();

    // Nothing listens there yet: training and export end well, and say it once between them.
    let (weak, weak_encoder, weak_report, said) = train(WEAK);
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");
    assert!(said.contains("trainer sync"), "{said}");
    let refused = sync();
    assert!(!refused.status.success() && texts(&refused).1.contains("error: sending train-"), "{}", texts(&refused).1);

    let mut server = Server::start(&venv, &world, port);
    let sent = succeed(&sync());
    assert!(sent.0.contains(&format!("{}: ", name(&weak))) && sent.0.contains("3 artifacts, 1 model versions"), "{sent:?}");
    assert!(sent.1.contains("version 1 is the champion"), "{sent:?}");
    assert!(succeed(&sync()).0.contains("nothing to send"));

    // A better one while the server lives, a worse one, and one on other tokens.
    let (good, good_encoder, good_report, said) = train(GOOD);
    assert!(said.contains("version 2 is the champion") && !said.contains("goes on without"), "{said}");
    let said = succeed(&command(&world, "run", &address).output().unwrap()).1;
    assert!(!said.contains("mlflow"), "all is fresh, all is sent: {said}");
    let (_, _, _, said) = train(WEAKER);
    assert!(said.contains("version 3 is not the champion: its mrr is"), "{said}");
    world.configure("tokenize.code-tokens = 20\ntrain.epochs = 1");
    world.run("pipeline", &["run"]);
    let (_, _, _, said) = train("tokenize.code-tokens = 20\ntrain.epochs = 1");
    assert!(said.contains("version 4 is not the champion: version 2, which is, was measured on other data"), "{said}");
    world.configure("");
    world.run("pipeline", &["run"]);

    // A training is killed; it goes on; then the server is killed, and comes back when all is over.
    world.configure(LONG);
    let runs = world.path("data/runs");
    let known = fs::read_dir(&runs).unwrap().count();
    let run = || {
        let folders: Vec<PathBuf> = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.into_iter().find(|folder| folder.join("checkpoints").is_dir())
    };
    let below = |folder: &str, prefix: &str, suffix: &str| {
        let entries = run().and_then(|run| fs::read_dir(run.join(folder)).ok()).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(name).filter(|name| name.starts_with(prefix) && name.ends_with(suffix)).count()
    };
    let spawn = || command(&world, "train", &address).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = spawn();
    assert!(waits(&mut child, || below("checkpoints", "step-", "") > 0 && below("mlflow", "", ".json") > 0), "it is under way");
    let (out, err) = succeed(&sync());
    assert!(out.contains("nothing to send") || err.contains("is being sent by another process"), "the training sends it: {out}{err}");
    assert!(child.try_wait().unwrap().is_none(), "it is killed on its way");
    child.kill().unwrap();
    child.wait().unwrap();
    // What a kill leaves of a line.
    let spool = run().unwrap().join("mlflow/spool.jsonl");
    fs::OpenOptions::new().append(true).open(&spool).unwrap().write_all(b"{\"op\":\"metr").unwrap();
    let stopped = succeed(&sync());
    assert!(stopped.0.contains("train-"), "it was killed, and that is sent: {stopped:?}");
    let mut child = spawn();
    let lines = fs::read_to_string(&spool).unwrap().lines().count();
    assert!(waits(&mut child, || fs::read_to_string(&spool).unwrap().lines().count() > lines + 20), "it goes on");
    server.kill();
    assert!(child.try_wait().unwrap().is_none(), "the server is killed while it trains");
    let said = succeed(&child.wait_with_output().unwrap()).1;
    assert!(said.contains("goes on from step") && said.matches("cannot be reached").count() == 1, "{said}");
    assert_eq!(fs::read_dir(&runs).unwrap().count(), known + 1);
    let (long, long_report) = (world.artifact("checkpoint"), world.manifest("checkpoint")["report"].clone());

    let _server = Server::start(&venv, &world, port);
    let sent = succeed(&sync());
    assert!(sent.0.contains(&format!("{}: ", name(&long))), "{sent:?}");
    assert!(succeed(&sync()).0.contains("nothing to send"));
    // Exported again by another process: no second version.
    world.configure(GOOD);
    world.run("trainer", &["train"]);
    succeed(&command(&world, "export", &address).output().unwrap());
    // Even where it is forgotten what was sent, nothing is there twice.
    for entry in fs::read_dir(runs.join(name(&good)).join("mlflow")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(succeed(&sync()).0.contains("0 model versions sent"));

    let downloads = world.path("downloads");
    let seen = look(&venv, &address, &downloads);
    assert_eq!(seen["runs"].as_array().unwrap().len(), 5);
    for (checkpoint, report) in [(&weak, &weak_report), (&good, &good_report), (&long, &long_report)] {
        is_whole(run_of(&seen, &name(checkpoint)), report);
        are_equal(&downloads.join(name(checkpoint)).join("checkpoint"), checkpoint, &["context.json", "report.html", "encoder.json"]);
    }
    let run = run_of(&seen, &name(&good));
    assert_eq!(run["params"]["encoder.kind"], "nbow");
    assert_eq!(run["params"]["optimizer.learning-rate"], "0.008");
    let key = good.file_name().unwrap().to_string_lossy().into_owned();
    for (tag, value) in [("codenets.stage", "train"), ("codenets.key", &key), ("mlflow.source.type", "LOCAL")] {
        assert_eq!(run["tags"][tag], value);
    }
    for tag in ["codenets.tokens", "codenets.vocabulary", "codenets.version", "mlflow.source.name"] {
        assert!(run["tags"][tag].is_string(), "{tag}");
    }
    for (checkpoint, encoder) in [(&weak, &weak_encoder), (&good, &good_encoder)] {
        let folder = downloads.join(name(checkpoint)).join("model").join(encoder.file_name().unwrap());
        are_equal(&folder, encoder, &["encoder.onnx", "encoder.json", "tokenizer.json"]);
    }
    let versions = seen["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 4, "{versions:?}");
    assert_eq!((&seen["champion"], &versions[1]["run"]), (&Value::from(2), &run["id"]));
    assert_eq!(versions[1]["tags"]["codenets.encoder"], good_encoder.file_name().unwrap().to_string_lossy().as_ref());
    assert_eq!((seen["width"].as_u64().unwrap(), seen["opset"].as_u64().unwrap()), (32, 20));
    assert!((seen["length"].as_f64().unwrap() - 1.0).abs() < 1e-4);
}

/// What is wrong is told before anything is trained, credentials go to the server alone, and a run that stands on disk is
/// read whatever else stands there.
#[test]
fn servers_that_are_none_and_credentials() {
    let world = World::empty();
    for (tool, address, expected) in [
        ("sync", "", "MLFLOW_TRACKING_URI is not set"),
        ("sync", "databricks", "is not the http address of a server"),
        ("train", "file:./mlruns", "is not the http address of a server"),
        ("export", "sqlite:///a.db", "is not the http address of a server"),
    ] {
        let output = command(&world, tool, address).output().unwrap();
        let said = texts(&output).1;
        assert!(!output.status.success() && said.contains(expected) && !said.contains("panicked"), "{tool} {address}: {said}");
    }
    assert!(succeed(&command(&world, "sync", "http://127.0.0.1:9").output().unwrap()).0.contains("nothing to send"));
    let spool = world.path("data/runs/train-a/mlflow/spool.jsonl");
    fs::create_dir_all(spool.parent().unwrap()).unwrap();
    let begin = r#"{"op":"begin","id":"a","name":"train-a","time":1,"params":{},"tags":{}}"#;
    let garbage = "\u{0}\nnull\n{\"op\":\"metrics\"}\n";
    fs::write(&spool, format!("{begin}\n{garbage}{{\"op\":\"end\",\"status\":\"FINISHED\",\"time\":2}}\n")).unwrap();
    let (asked, requests) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).unwrap();
            asked.send(String::from_utf8_lossy(&request[..read]).to_lowercase()).unwrap();
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwho?").unwrap();
        }
    });
    let refuse = |address: String, name: &str, secret: &str| {
        let output = command(&world, "sync", &address).env(name, secret).env("MLFLOW_TRACKING_PASSWORD", "se-cret").output().unwrap();
        let (out, err) = texts(&output);
        assert!(!output.status.success() && err.contains("with 401") && err.contains("set MLFLOW_TRACKING_TOKEN"), "{err}");
        assert!(!err.contains("cret") && !out.contains("cret"), "{err}");
        requests.recv().unwrap()
    };
    assert!(refuse(format!("http://{address}"), "MLFLOW_TRACKING_TOKEN", "tok-se-cret").contains("authorization: bearer tok-se-cret"));
    // me:se-cret, in lower case.
    let basic = "authorization: basic bwu6c2uty3jldA==".to_lowercase();
    assert!(refuse(format!("http://{address}"), "MLFLOW_TRACKING_USERNAME", "me").contains(&basic));
    assert!(refuse(format!("http://me:se-cret@{address}/"), "UNRELATED", "").contains(&basic));
}

/// An environment with mlflow, made once.
fn mlflow() -> Option<PathBuf> {
    const PACKAGES: [&str; 3] = ["mlflow>=3,<4", "onnx>=1.19", "onnxruntime>=1.24"];
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mlflow");
    let stamp = venv.join("made.txt");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&PACKAGES.join("\n")) {
        let _ = fs::remove_dir_all(&venv);
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status().unwrap().success();
        let pip = || {
            Command::new(venv.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"]).args(PACKAGES).status()
        };
        if !made || !pip().unwrap().success() {
            return None;
        }
        fs::write(&stamp, PACKAGES.join("\n")).unwrap();
    }
    Some(venv)
}
