//! A folder with a configuration and a copy of the fixture corpus, and the tools run in it.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Small sizes; salt `s16` puts `text` into the test split, `store` into validation.
const CONF: &str = r#"
include "base.conf"
harvest {
  source { kind = dir, path = ${vars.corpus}, each-subfolder = true }
  split { valid = 0.2, test = 0.2, salt = s16 }
}
ingest.shards = 3
vocab { size = 500, min-frequency = 1 }
train { encoder.dimension = 32, epochs = 6, batch.size = 8, schedule.warmup-steps = 4 }
export.max-mrr-loss = 0.2
index.segment-rows = 20
publish { min-mrr = 0.01, min-share-of-current = 0.5 }
"#;

pub const STAGES: [&str; 10] = ["harvest", "ingest", "parse", "vocab", "tokenize", "train", "export", "embed", "index", "evaluate"];

pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    /// With the fixture corpus.
    pub fn new() -> Self {
        let world = Self::empty();
        copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus"), &world.path("corpus"));
        world
    }

    pub fn empty() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::copy(Path::new(ROOT).join("conf/base.conf"), world.path("base.conf")).unwrap();
        world.configure("");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration with something more behind it.
    pub fn configure(&self, more: &str) {
        let corpus = self.path("corpus");
        fs::write(self.path("road.conf"), format!("{CONF}\nvars.corpus = \"{}\"\n{more}\n", corpus.display())).unwrap();
    }

    pub fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let program = match tool {
            "pipeline" => env!("CARGO_BIN_EXE_road-pipeline"),
            "trainer" => env!("CARGO_BIN_EXE_road-trainer"),
            "indexer" => env!("CARGO_BIN_EXE_road-indexer"),
            "archive" => env!("CARGO_BIN_EXE_road-archive"),
            other => panic!("no tool {other}"),
        };
        let mut command = Command::new(program);
        command.args(arguments).arg("--conf").arg(self.path("road.conf")).arg("--data").arg(self.path("data"));
        // Servers of the tests are asked directly, whatever proxy there is.
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        if std::env::var_os("ORT_DYLIB_PATH").is_none() {
            let library = Path::new(ROOT).join("data/runtime/libonnxruntime.so");
            assert!(library.is_file(), "onnxruntime is not here: run `make setup`, or `make test`");
            command.env("ORT_DYLIB_PATH", library);
        }
        command
    }

    pub fn try_run(&self, tool: &str, arguments: &[&str]) -> Output {
        self.command(tool, arguments).output().unwrap()
    }

    /// Runs a tool that must succeed; standard output and standard error.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> (String, String) {
        let output = self.try_run(tool, arguments);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{tool} {arguments:?} failed:\n{err}");
        (out, err)
    }

    /// Runs a tool that must fail, without a panic; its standard error.
    pub fn fail(&self, tool: &str, arguments: &[&str]) -> String {
        let output = self.try_run(tool, arguments);
        let (_, err) = texts(&output);
        assert!(!output.status.success(), "{tool} {arguments:?} should fail");
        assert!(err.contains("error: ") && !err.contains("panicked"), "{err}");
        err
    }

    /// The whole road; what was said.
    pub fn road(&self, more: &[&str]) -> String {
        let arguments = [&["run"], more].concat();
        ["pipeline", "trainer", "indexer"].map(|tool| self.run(tool, &arguments).1).concat()
    }

    pub fn spawn(&self, tool: &str, arguments: &[&str]) -> Child {
        self.command(tool, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The manifest that `CURRENT` of a kind names.
    pub fn manifest(&self, kind: &str) -> Value {
        serde_json::from_slice(&fs::read(self.artifact(kind).join("manifest.json")).unwrap()).unwrap()
    }

    pub fn artifact(&self, kind: &str) -> PathBuf {
        let folder = self.path("data").join(kind);
        let key = fs::read_to_string(folder.join("CURRENT")).unwrap();
        folder.join(key.trim())
    }

    /// For every kind, what its files digest to.
    pub fn digests(&self) -> BTreeMap<&'static str, Value> {
        ledger::ARTIFACT_KINDS.into_iter().map(|kind| (kind, self.manifest(kind)["outputs"].clone())).collect()
    }
}

pub fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A port of this machine that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens at a port of this machine.
pub fn wait_for_port(port: u16) {
    let is_up = (0..1200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    assert!(is_up, "nobody listens at port {port}");
}

/// The stages that ran, by what the tools said.
pub fn ran(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(" runs: ")).filter_map(|line| line.split_whitespace().next()).collect()
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
