//! Snapshots at S3 (s3s-fs, a server in this process), at Azure (azurite, from npm), at Google's interface, and over connections that
//! break.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};

use crate::workspace::{Workspace, files_below, free_port, skip_also_in_ci, texts, wait_for_port};

const KEY: &str = "AKEXAMPLE";
const SECRET: &str = "SKEXAMPLE";

/// Starts an S3 server with one bucket, `codenets`, on a folder. An open server does not check signatures.
fn s3(folder: &Path, is_open: bool) -> SocketAddr {
    fs::create_dir_all(folder.join("codenets")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    if !is_open {
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    }
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let service = service.clone();
                // The server cannot read signatures of another kind.
                let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                    if is_open {
                        request.headers_mut().remove("authorization");
                    }
                    hyper::service::Service::call(&service, request)
                });
                tokio::spawn(async move {
                    // A client may close the connection at any time.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    address
}

/// A connection to a server that breaks after so many bytes, a limited number of times.
#[derive(Debug, Clone)]
struct Proxy {
    address: SocketAddr,
    breaks: Arc<AtomicI64>,
    broken: Arc<AtomicU64>,
}

impl Proxy {
    fn to(server: SocketAddr, bytes: u64, breaks: i64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), breaks: Arc::new(AtomicI64::new(breaks)), broken: Arc::default() };
        let shared = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
                let proxy = shared.clone();
                thread::spawn(move || proxy.carry(&client, &server, bytes));
            }
        });
        proxy
    }

    fn carry(&self, client: &TcpStream, server: &TcpStream, bytes: u64) {
        let passed = Arc::new(AtomicU64::new(0));
        let pump = |mut from: TcpStream, mut to: TcpStream| {
            let (proxy, passed) = (self.clone(), passed.clone());
            move || {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if passed.fetch_add(count as u64, Ordering::SeqCst) > bytes && proxy.breaks.fetch_sub(1, Ordering::SeqCst) > 0 {
                        proxy.broken.fetch_add(1, Ordering::SeqCst);
                        // Half of the bytes still arrive.
                        let _ = to.write_all(&buffer[..count / 2]);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                        return;
                    }
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            }
        };
        let up = thread::spawn(pump(client.try_clone().unwrap(), server.try_clone().unwrap()));
        pump(server.try_clone().unwrap(), client.try_clone().unwrap())();
        up.join().unwrap();
    }
}

/// `codenets` with the credentials of the server.
fn codenets(workspace: &Workspace, server: SocketAddr, arguments: &[&str]) -> Output {
    workspace
        .command(arguments)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ENDPOINT", format!("http://{server}"))
        .env("AWS_ALLOW_HTTP", "true")
        .output()
        .unwrap()
}

fn succeed(output: &Output) -> String {
    let (out, err) = texts(output);
    assert!(output.status.success(), "{err}");
    out
}

/// Below the folder of a run.
const LONG_FILE: &str = "data/runs/train-0123456789ab/checkpoints/long.bin";

/// Writes a file of more than two chunks, which is saved in pieces.
fn write_long_file(workspace: &Workspace) {
    fs::create_dir_all(workspace.path(LONG_FILE).parent().unwrap()).unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..(archive::tree::CHUNK * 2 + 12_345)).map(|_| next()).collect();
    fs::write(workspace.path(LONG_FILE), bytes).unwrap();
}

const URL: &str = "s3://codenets/builds/one";

/// A workspace that is saved at an S3 server, with a long file; the server stores its objects in the folder `s3`.
fn saved() -> (Workspace, SocketAddr) {
    let workspace = Workspace::tokenized();
    write_long_file(&workspace);
    let server = s3(&workspace.path("s3"), false);
    succeed(&codenets(&workspace, server, &["save", "--to", URL, "--with", "all"]));
    (workspace, server)
}

const RESTORE: [&str; 6] = ["restore", "--from", URL, "--with", "all", "--json"];

fn fetched_bytes(output: &Output) -> u64 {
    serde_json::from_str::<serde_json::Value>(&succeed(output)).unwrap()["fetched_bytes"].as_u64().unwrap()
}

#[test]
fn a_snapshot_is_saved_to_s3_and_restored() {
    let (workspace, server) = saved();
    let chunks = fs::read_dir(workspace.path("s3/codenets/builds/one/chunks")).unwrap().count();
    assert_eq!(chunks, 1, "the long file is saved in pieces");
    let other = Workspace::empty();
    succeed(&codenets(&other, server, &RESTORE));
    assert_eq!(other.corpus_digests(), workspace.corpus_digests());
    assert!(fs::read(other.path(LONG_FILE)).unwrap() == fs::read(workspace.path(LONG_FILE)).unwrap());
    succeed(&codenets(&other, server, &["verify"]));
}

#[test]
fn a_connection_that_breaks_a_few_times_is_retried() {
    let workspace = Workspace::tokenized();
    write_long_file(&workspace);
    let server = s3(&workspace.path("s3"), false);
    let proxy = Proxy::to(server, 300_000, 5);
    let text = succeed(&codenets(&workspace, proxy.address, &["save", "--to", URL, "--with", "all"]));
    assert!(text.contains("is saved at s3://codenets/builds/one"), "{text}");
    assert!(proxy.broken.load(Ordering::SeqCst) >= 3, "the connection did not break");
    succeed(&codenets(&workspace, server, &["verify", "--from", URL]));
}

#[test]
fn a_restore_over_a_connection_that_always_breaks_is_resumed_later() {
    let (workspace, server) = saved();
    let other = Workspace::empty();
    let proxy = Proxy::to(server, 1_000_000, i64::MAX);
    let output = codenets(&other, proxy.address, &RESTORE);
    let error = texts(&output).1;
    assert!(!output.status.success() && error.contains(URL) && error.contains("again"), "{error}");
    assert!(!other.path("data/raw").exists() && other.path("data/.restoring/objects").is_dir());
    let rest = fetched_bytes(&codenets(&other, server, &RESTORE));
    let all = fetched_bytes(&codenets(&Workspace::empty(), server, &RESTORE));
    assert!(rest < all, "{rest} of {all} bytes were fetched again");
    assert_eq!(other.corpus_digests(), workspace.corpus_digests());
}

#[test]
fn a_flipped_bit_of_a_chunk_is_named() {
    let (workspace, server) = saved();
    assert!(succeed(&codenets(&workspace, server, &["verify", "--from", URL])).contains("1 snapshots"));
    let objects = files_below(&workspace.path("s3/codenets/builds/one/objects"));
    let chunk = objects.into_iter().find(|path| path.metadata().unwrap().len() == archive::tree::CHUNK).unwrap();
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[777] ^= 4;
    fs::write(&chunk, bytes).unwrap();
    let output = codenets(&workspace, server, &["verify", "--from", URL]);
    let digest = chunk.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!output.status.success() && texts(&output).0.contains(&digest), "{:?}", texts(&output));
}

#[test]
fn two_machines_save_at_the_same_time() {
    let (workspace, server) = saved();
    let second = Workspace::tokenized();
    second.configure("vocab.size = 480");
    second.run_until("tokenize");
    let outputs = thread::scope(|scope| {
        let savers = [&workspace, &second]
            .map(|workspace| scope.spawn(|| codenets(workspace, server, &["save", "--to", "s3://codenets/both", "--with", "dataset"])));
        savers.map(|saver| saver.join().unwrap())
    });
    outputs.iter().for_each(|output| drop(succeed(output)));
    succeed(&codenets(&workspace, server, &["verify", "--from", "s3://codenets/both"]));
}

#[test]
fn wrong_credentials_are_an_error_that_does_not_show_them() {
    let workspace = Workspace::empty();
    let server = s3(&workspace.path("s3"), false);
    let mut command = workspace.command(&["snapshots", "--from", URL]);
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", "mistaken").env("AWS_REGION", "eu-central-1");
    let output = command.env("AWS_ENDPOINT", format!("http://{server}")).env("AWS_ALLOW_HTTP", "true").output().unwrap();
    let error = texts(&output).1;
    assert!(!output.status.success() && error.contains(URL) && !error.contains("mistaken"), "{error}");
}

#[test]
fn a_url_without_snapshots_is_an_error() {
    let workspace = Workspace::empty();
    let server = s3(&workspace.path("s3"), false);
    let output = codenets(&workspace, server, &["restore", "--from", "s3://codenets/nothing"]);
    let error = texts(&output).1;
    assert!(!output.status.success() && error.contains("`latest`") && error.contains("s3://codenets/nothing"), "{error}");
}

/// Google's XML interface differs from S3 in the signature only, so an open S3 server answers it.
#[test]
fn a_snapshot_is_saved_to_google_and_restored() {
    let workspace = Workspace::tokenized();
    let server = s3(&workspace.path("gs"), true);
    let codenets = |workspace: &Workspace, arguments: &[&str]| {
        let key = r#"{"private_key": "none", "private_key_id": "none", "client_email": "none", "disable_oauth": true}"#;
        let mut command = workspace.command(arguments);
        command.env("GOOGLE_BASE_URL", format!("http://{server}")).env("GOOGLE_SERVICE_ACCOUNT_KEY", key).env("GOOGLE_ALLOW_HTTP", "true");
        command.output().unwrap()
    };
    succeed(&codenets(&workspace, &["save", "--to", "gs://codenets/one", "--with", "all"]));
    let other = Workspace::empty();
    succeed(&codenets(&other, &["restore", "--from", "gs://codenets/one"]));
    assert_eq!(other.corpus_digests(), workspace.corpus_digests());
    assert!(succeed(&codenets(&other, &["snapshots", "--from", "gs://codenets/one"])).contains("latest"));
}

/// Installs packages of npm once, below the target folder; the folder.
fn npm(packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    fs::create_dir_all(&folder).unwrap();
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--silent", "--prefer-offline"]).args(packages).current_dir(&folder);
    assert!(install.status().unwrap().success(), "installing {packages:?}");
    folder
}

struct Azurite(Child);

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts azurite on a folder.
fn start_azurite(folder: &Path) -> (Azurite, u16) {
    let program = npm(&["azurite@3", "@azure/storage-blob@12"]).join("node_modules/.bin/azurite-blob");
    let port = free_port();
    let process = Command::new(program)
        .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
        .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Azurite(process);
    wait_for_port(port);
    create_container(port);
    (server, port)
}

/// Needs npm: `make test-integration` runs it.
#[test]
fn integration_a_snapshot_is_saved_to_azure_and_restored() {
    if std::env::var_os("CODENETS_INTEGRATION").is_none() {
        return skip_also_in_ci("run `make test-integration`");
    }
    let workspace = Workspace::tokenized();
    let (_server, port) = start_azurite(&workspace.path("azure"));
    let codenets = |workspace: &Workspace, arguments: &[&str]| {
        let mut command = workspace.command(arguments);
        command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", format!("http://127.0.0.1:{port}"));
        command.output().unwrap()
    };
    let url = "az://codenets/builds";
    succeed(&codenets(&workspace, &["save", "--to", url, "--with", "all"]));
    let again = succeed(&codenets(&workspace, &["save", "--to", url, "--with", "all", "--json"]));
    assert!(again.contains("\"sent_bytes\":0"), "{again}");
    let other = Workspace::empty();
    succeed(&codenets(&other, &["restore", "--from", url, "--with", "all"]));
    assert_eq!(other.corpus_digests(), workspace.corpus_digests());
    succeed(&codenets(&other, &["verify", "--from", url]));
    assert!(succeed(&codenets(&other, &["snapshots", "--from", url])).contains("latest"));
}

/// Creates a container with Azure's own client, and the account and key of every emulator (they are public).
fn create_container(port: u16) {
    let script = format!(
        "const {{BlobServiceClient}} = require('@azure/storage-blob');\
         BlobServiceClient.fromConnectionString('DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=\
         Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
         BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1').createContainer('codenets').then(() => 0)"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    let output = Command::new("node").args(["-e", &script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
}
