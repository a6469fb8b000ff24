//! A temporary folder with a configuration and the fixture corpus, and the `codenets` command run in it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::Duration,
};

use serde_json::Value;

/// Root of the repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
/// Name of the configuration file in a workspace.
pub const CONF: &str = "pipeline.conf";

/// Small sizes. With the salt `s16` the repository `text` is in the test split and `store` in the validation split. The path of the
/// corpus is relative, so that a copy of a workspace has the same artifact keys.
const SETTINGS: &str = r#"
include "base.conf"
harvest {
  source { kind = dir, dir { path = corpus, each-subfolder = true } }
  split { valid = 0.2, test = 0.2, salt = s16 }
}
ingest.shards = 3
vocab { size = 500, min-frequency = 1 }
train { encoder.nbow.dimension = 32, epochs = 6, batch.size = 8, schedule.warmup-steps = 4 }
export.max-mrr-loss = 0.2
index.segment-rows = 20
publish { min-mrr = 0.01, min-share-of-current = 0.5 }
"#;

/// Stages that write an artifact, in order.
pub const STAGES: [&str; 10] = ["harvest", "ingest", "parse", "vocab", "tokenize", "train", "export", "embed", "index", "evaluate"];
/// Artifact kinds that the stages up to `tokenize` write.
pub const CORPUS_KINDS: [&str; 5] = ["raw", "functions", "syntax", "vocabulary", "tokens"];

fn select(key: &str, kind: &str, settings: &str) -> String {
    format!("{key} {{ kind = {kind}, {kind} {{ {settings} }} }}\n")
}

/// Settings that select another encoder kind.
pub fn encoder(kind: &str, settings: &str) -> String {
    select("train.encoder", kind, settings)
}

/// Settings that select another loss.
pub fn loss(kind: &str, settings: &str) -> String {
    select("train.loss", kind, settings)
}

/// Settings that select another fusion of lexical and vector search.
pub fn fusion(kind: &str, settings: &str) -> String {
    select("index.fusion", kind, settings)
}

/// Settings that select another source of code.
pub fn source(kind: &str, settings: &str) -> String {
    select("harvest.source", kind, settings)
}

pub struct Workspace {
    root: PathBuf,
    /// Deletes the folder at the end; none where tests share it.
    _temporary: Option<tempfile::TempDir>,
}

/// Where tests share workspaces, deleted when the process ends. Not below the target folder: git ignores it, so that harvest would leave
/// out the corpus.
static SHARED: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("codenets-end-to-end-").tempdir().unwrap().keep();
    delete_at_exit(&folder);
    folder
});

/// Deletes a folder when this process has ended, however it ends: its end closes the pipe that the deleting process waits for.
fn delete_at_exit(folder: &Path) {
    let mut wait = Command::new("sh");
    wait.args(["-c", "cat > /dev/null; rm -rf -- \"$1\"", "sh"]).arg(folder);
    // Its own group: the terminal's signals do not end it first.
    wait.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    std::mem::forget(wait.spawn().unwrap());
}

/// All stages up to `tokenize` have run.
static TOKENIZED: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("tokenized");
    workspace.fill();
    workspace.run_until("tokenize");
    workspace
});

/// The checkpoint and the encoder are recorded, too.
static TRAINED: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("trained");
    workspace.replace_with(&TOKENIZED);
    workspace.run_until("export");
    workspace
});

/// Every stage has run, and the bundle is published.
static PUBLISHED: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("published");
    workspace.replace_with(&TRAINED);
    workspace.run_all();
    workspace
});

impl Workspace {
    /// The configuration alone.
    pub fn empty() -> Self {
        let workspace = Self::blank();
        workspace.write_configuration();
        workspace
    }

    /// With the fixture corpus; nothing has run.
    pub fn new() -> Self {
        let workspace = Self::blank();
        workspace.fill();
        workspace
    }

    /// A copy of a workspace in which all stages up to `tokenize` have run.
    pub fn tokenized() -> Self {
        Self::copy_of(&TOKENIZED)
    }

    /// A copy of a workspace in which all stages up to `export` have run.
    pub fn trained() -> Self {
        Self::copy_of(&TRAINED)
    }

    /// A copy of a workspace with a published bundle.
    pub fn published() -> Self {
        Self::copy_of(&PUBLISHED)
    }

    /// Digests of the artifacts of [`Workspace::published`].
    pub fn expected_digests() -> BTreeMap<&'static str, Value> {
        PUBLISHED.digests()
    }

    /// A folder that the tests of this process share, empty.
    pub fn shared(name: &str) -> Self {
        let root = SHARED.join(name);
        fs::create_dir_all(&root).unwrap();
        Self { root, _temporary: None }
    }

    fn blank() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self { root: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    /// A copy of another workspace.
    pub fn copy_of(other: &Self) -> Self {
        let workspace = Self::blank();
        workspace.replace_with(other);
        workspace
    }

    /// Copies all files of another workspace.
    pub fn replace_with(&self, other: &Self) {
        copy_exactly(&other.root, &self.root);
    }

    fn fill(&self) {
        self.write_configuration();
        copy_tree(&Path::new(FIXTURES).join("corpus"), &self.path("corpus"));
    }

    fn write_configuration(&self) {
        fs::copy(Path::new(ROOT).join("conf/base.conf"), self.path("base.conf")).unwrap();
        self.configure("");
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes the configuration with more settings after it.
    pub fn configure(&self, more: &str) {
        fs::write(self.path(CONF), format!("{SETTINGS}\n{more}\n")).unwrap();
    }

    /// Uses the configuration that a restore wrote.
    pub fn use_restored_configuration(&self) {
        fs::copy(self.path("data/restored.conf"), self.path(CONF)).unwrap();
    }

    /// `codenets` with these arguments and the configuration and data folder of this workspace, started in its folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_with(&self.path(CONF), arguments)
    }

    /// The same with another configuration.
    pub fn command_with(&self, conf: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
        command.args(arguments).arg("--conf").arg(conf).arg("--data").arg(self.path("data")).current_dir(&self.root);
        set_environment(&mut command);
        command
    }

    pub fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; its standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (String, String) {
        let output = self.try_run(arguments);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "codenets {arguments:?} failed:\n{err}");
        (out, err)
    }

    /// Runs a command that must fail with an error message and without a panic; its standard error.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let (_, err) = texts(&output);
        assert!(!output.status.success(), "codenets {arguments:?} should fail");
        assert!(err.contains("error: ") && !err.contains("panicked"), "{err}");
        err
    }

    /// Runs every stage; the messages.
    pub fn run_all(&self) -> String {
        self.run(&["run"]).1
    }

    /// Runs every stage up to this one; the messages.
    pub fn run_until(&self, stage: &str) -> String {
        self.run(&["run", "--until", stage]).1
    }

    /// Runs these stages alone, separated by commas; the messages.
    pub fn run_only(&self, stages: &str) -> String {
        self.run(&["run", "--only", stages]).1
    }

    /// Runs stages that must fail; the messages.
    pub fn fail_only(&self, stages: &str) -> String {
        self.fail(&["run", "--only", stages])
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Hits of a search.
    pub fn search(&self, arguments: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.run(&[&["search", "--json"], arguments].concat()).0).unwrap()
    }

    /// Rows of `status`.
    pub fn status(&self) -> Vec<Value> {
        serde_json::from_str(&self.run(&["status", "--json"]).0).unwrap()
    }

    /// What `status` does not call up to date: stage and reason.
    pub fn stale(&self) -> Vec<String> {
        let rows = self.status();
        rows.iter().filter(|row| !is_up_to_date(row)).map(|row| format!("{}: {}", row["stage"], row["why"])).collect()
    }

    /// The current manifest of a kind.
    pub fn manifest(&self, kind: &str) -> Value {
        read_json(&self.artifact(kind).join("manifest.json"))
    }

    /// The folder of the current artifact of a kind.
    pub fn artifact(&self, kind: &str) -> PathBuf {
        let folder = self.path("data").join(kind);
        let key = fs::read_to_string(folder.join("CURRENT")).unwrap();
        folder.join(key.trim())
    }

    /// Digests of the files of each current artifact.
    pub fn digests(&self) -> BTreeMap<&'static str, Value> {
        ledger::ARTIFACT_KINDS.into_iter().map(|kind| (kind, self.manifest(kind)["outputs"].clone())).collect()
    }

    /// Digests of the files of the artifacts up to `tokens`.
    pub fn corpus_digests(&self) -> [Value; 5] {
        CORPUS_KINDS.map(|kind| self.manifest(kind)["outputs"].clone())
    }

    /// `reports/NAME.json`.
    pub fn report(&self, name: &str) -> Value {
        read_json(&self.path("data/reports").join(format!("{name}.json")))
    }

    /// Manifest of the published bundle.
    pub fn bundle_manifest(&self) -> Value {
        read_json(&self.path("data/serve/current/manifest.json"))
    }

    /// What the link to the published bundle names.
    pub fn published_bundle(&self) -> PathBuf {
        fs::read_link(self.path("data/serve/current")).unwrap()
    }
}

/// Requests to servers of the tests use no proxy; ONNX Runtime is the one of the checkout.
pub fn set_environment(command: &mut Command) {
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        let library = inference::installed().expect("ONNX Runtime is missing: run `make setup`, or `make test`");
        command.env("ORT_DYLIB_PATH", library.path);
    }
}

/// Reports that the running test cannot run on this machine. CI sets `CODENETS_SKIP_NO_TEST`: the test fails there.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CODENETS_SKIP_NO_TEST").is_none(), "this machine must run every test: {reason}");
    skip_also_in_ci(reason);
}

/// Reports that the running test needs a setting. `make test` prints the reasons in its last line.
pub fn skip_also_in_ci(reason: &str) {
    let thread = thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(file) = std::env::var_os("CODENETS_SKIPPED_TESTS") {
        let opened = fs::File::options().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
}

/// Is this row of `status` up to date?
pub fn is_up_to_date(row: &Value) -> bool {
    row["will_run"] == false && (row["state"] == "up to date" || row["state"] == "fresh")
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs git in a folder, with an identity; its output.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "git {arguments:?}: {err}");
    out.trim().to_owned()
}

/// A port of this machine on which nothing listens.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until a server listens on a port of this machine.
pub fn wait_for_port(port: u16) {
    let is_up = (0..1200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    assert!(is_up, "nothing listens on port {port}");
}

/// The stages that ran, by their messages.
pub fn ran(messages: &str) -> Vec<&str> {
    messages.lines().filter(|line| line.contains(" runs: ")).filter_map(|line| line.split_whitespace().next()).collect()
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

/// Copies what is in a folder with its symbolic and hard links.
pub fn copy_exactly(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success(), "copying {}", from.display());
}

/// All files of a folder, sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    ledger::files_below(folder).unwrap().into_iter().map(|path| folder.join(path)).collect()
}
