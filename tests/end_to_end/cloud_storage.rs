//! The same by the network: a real S3 server (s3s-fs, in this process) and a real Azure one (azurite, by npm), and a line that breaks.

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

use crate::world::{World, free_port, texts, wait_for_port};

const KEY: &str = "AKEXAMPLE";
const SECRET: &str = "SKEXAMPLE";
const KINDS: [&str; 5] = ["raw", "functions", "syntax", "vocabulary", "tokens"];

/// An S3 server with one bucket, `codenets`, on a folder; for who has the key, or for all.
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
                // Who is open to all does not read what others sign with.
                let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                    if is_open {
                        request.headers_mut().remove("authorization");
                    }
                    hyper::service::Service::call(&service, request)
                });
                tokio::spawn(async move {
                    // A client that goes away is no fault of the server.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    address
}

/// A line to a server that breaks after so many bytes, each time it is taken up, until its breaks are used up.
#[derive(Debug, Clone)]
struct Line {
    address: SocketAddr,
    breaks: Arc<AtomicI64>,
    broken: Arc<AtomicU64>,
}

impl Line {
    fn to(server: SocketAddr, bytes: u64, breaks: i64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let line = Self { address: listener.local_addr().unwrap(), breaks: Arc::new(AtomicI64::new(breaks)), broken: Arc::default() };
        let kept = line.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
                let line = kept.clone();
                thread::spawn(move || line.carry(&client, &server, bytes));
            }
        });
        line
    }

    fn carry(&self, client: &TcpStream, server: &TcpStream, bytes: u64) {
        let passed = Arc::new(AtomicU64::new(0));
        let pump = |mut from: TcpStream, mut to: TcpStream| {
            let (line, passed) = (self.clone(), passed.clone());
            move || {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if passed.fetch_add(count as u64, Ordering::SeqCst) > bytes && line.breaks.fetch_sub(1, Ordering::SeqCst) > 0 {
                        line.broken.fetch_add(1, Ordering::SeqCst);
                        // In the middle: half of what came goes on.
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

fn archive(world: &World, server: SocketAddr, arguments: &[&str]) -> Output {
    world
        .command("archive", arguments)
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

fn outputs(world: &World) -> [serde_json::Value; 5] {
    KINDS.map(|kind| world.manifest(kind)["outputs"].clone())
}

/// More than one chunk long, so that it is cut: a configuration's includes would not be.
fn with_a_long_file(world: &World) {
    let dir = world.path("data/runs/train-0123456789ab/checkpoints");
    fs::create_dir_all(&dir).unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..(archive::tree::CHUNK * 2 + 12_345)).map(|_| next()).collect();
    fs::write(dir.join("long.bin"), bytes).unwrap();
}

const TO: &str = "s3://codenets/builds/one";

#[test]
fn a_build_travels_over_s3_also_when_the_line_breaks() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    with_a_long_file(&world);
    let server = s3(&world.path("s3"), false);
    // The line breaks a few times: that is made up for without a word.
    let line = Line::to(server, 300_000, 5);
    let said = succeed(&archive(&world, line.address, &["save", "--to", TO, "--with", "all"]));
    assert!(said.contains("is saved at s3://codenets/builds/one"), "{said}");
    assert!(line.broken.load(Ordering::SeqCst) >= 3, "the line was to break");
    let long = fs::read_dir(world.path("s3/codenets/builds/one/chunks")).unwrap().count();
    assert_eq!(long, 1, "the long file is cut");

    // It is cut for good: the error says where, and what came stays.
    let other = World::empty();
    let line = Line::to(server, 1_000_000, i64::MAX);
    let output = archive(&other, line.address, &["restore", "--from", TO, "--with", "all"]);
    let said = texts(&output).1;
    assert!(!output.status.success() && said.contains(TO) && said.contains("run the same command again"), "{said}");
    assert!(!other.path("data/raw").exists() && other.path("data/.restoring/objects").is_dir());
    let fetched = |said: &str| serde_json::from_str::<serde_json::Value>(said).unwrap()["fetched_bytes"].as_u64().unwrap();
    let rest = fetched(&succeed(&archive(&other, server, &["restore", "--from", TO, "--with", "all", "--json"])));
    let whole = World::empty();
    let all = fetched(&succeed(&archive(&whole, server, &["restore", "--from", TO, "--with", "all", "--json"])));
    assert!(rest < all, "{rest} of {all} were left to fetch");
    assert_eq!((outputs(&other), outputs(&whole)), (outputs(&world), outputs(&world)));
    let long = "data/runs/train-0123456789ab/checkpoints/long.bin";
    assert_eq!(fs::read(other.path(long)).unwrap(), fs::read(world.path(long)).unwrap());
    succeed(&archive(&other, server, &["verify"]));

    // One bit of one chunk.
    assert!(succeed(&archive(&world, server, &["verify", "--from", TO])).contains("1 records"));
    let objects = world.path("s3/codenets/builds/one/objects");
    let chunk = files(&objects).into_iter().find(|path| path.metadata().unwrap().len() == archive::tree::CHUNK).unwrap();
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[777] ^= 4;
    fs::write(&chunk, bytes).unwrap();
    let output = archive(&world, server, &["verify", "--from", TO]);
    let digest = chunk.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!output.status.success() && texts(&output).0.contains(&digest), "{:?}", texts(&output));

    // Two at once, from two machines.
    let second = World::new();
    second.configure("vocab.size = 480");
    second.run("pipeline", &["run"]);
    let outputs = thread::scope(|scope| {
        let savers = [&world, &second]
            .map(|world| scope.spawn(|| archive(world, server, &["save", "--to", "s3://codenets/both", "--with", "dataset"])));
        savers.map(|saver| saver.join().unwrap())
    });
    outputs.iter().for_each(|output| drop(succeed(output)));
    succeed(&archive(&world, server, &["verify", "--from", "s3://codenets/both"]));

    // Who may not, or asks for nothing, is told.
    let wrong = world
        .command("archive", &["list", "--from", TO])
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", "wrong")
        .env("AWS_ENDPOINT", format!("http://{server}"))
        .env("AWS_ALLOW_HTTP", "true")
        .output()
        .unwrap();
    let said = texts(&wrong).1;
    assert!(!wrong.status.success() && said.contains("listing s3://codenets/builds/one/refs") && !said.contains("wrong\""), "{said}");
    let nothing = archive(&world, server, &["restore", "--from", "s3://codenets/nothing"]);
    assert!(texts(&nothing).1.contains("has no record `latest`"), "{:?}", texts(&nothing));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    ledger::files_below(dir).unwrap().into_iter().map(|path| dir.join(path)).collect()
}

/// Google's XML interface is that of S3 but for how requests are signed, so an open S3 server answers it.
#[test]
fn a_build_travels_over_googles_interface() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let server = s3(&world.path("gs"), true);
    let archive = |world: &World, arguments: &[&str]| {
        world
            .command("archive", arguments)
            .env("GOOGLE_BASE_URL", format!("http://{server}"))
            .env(
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                r#"{"private_key": "none", "private_key_id": "none", "client_email": "none", "disable_oauth": true}"#,
            )
            .env("GOOGLE_ALLOW_HTTP", "true")
            .output()
            .unwrap()
    };
    succeed(&archive(&world, &["save", "--to", "gs://codenets/one", "--with", "all"]));
    let other = World::empty();
    succeed(&archive(&other, &["restore", "--from", "gs://codenets/one"]));
    assert_eq!(outputs(&other), outputs(&world));
    assert!(succeed(&archive(&other, &["list", "--from", "gs://codenets/one"])).contains("latest"));
}

/// azurite by npm, installed once; none where npm is not.
fn azurite() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    let program = folder.join("node_modules/.bin/azurite-blob");
    if !program.exists() {
        fs::create_dir_all(&folder).unwrap();
        let install =
            Command::new("npm").args(["install", "--no-audit", "--no-fund", "--silent", "azurite@3"]).current_dir(&folder).status();
        if !install.is_ok_and(|status| status.success()) || !program.exists() {
            return None;
        }
    }
    Some(program)
}

struct Azurite(Child);

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_build_travels_over_azure() {
    let Some(program) = azurite() else {
        eprintln!("skipped: azurite cannot be installed here (npm)");
        return;
    };
    let world = World::new();
    world.run("pipeline", &["run"]);
    let port = free_port();
    let _server = Azurite(
        Command::new(program)
            .args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
                "--location",
            ])
            .arg(world.path("azure"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for_port(port);
    make_container(port);
    let archive = |world: &World, arguments: &[&str]| {
        world
            .command("archive", arguments)
            .env("AZURE_STORAGE_USE_EMULATOR", "true")
            .env("AZURITE_BLOB_STORAGE_URL", format!("http://127.0.0.1:{port}"))
            .output()
            .unwrap()
    };
    let to = "az://codenets/builds";
    succeed(&archive(&world, &["save", "--to", to, "--with", "all"]));
    let again = succeed(&archive(&world, &["save", "--to", to, "--with", "all", "--json"]));
    assert!(again.contains("\"sent_bytes\":0"), "{again}");
    let other = World::empty();
    succeed(&archive(&other, &["restore", "--from", to, "--with", "all"]));
    assert_eq!(outputs(&other), outputs(&world));
    succeed(&archive(&other, &["verify", "--from", to]));
    assert!(succeed(&archive(&other, &["list", "--from", to])).contains("latest"));
}

/// By Azure's own client, with the account and key that every emulator has (published with it, no secret).
fn make_container(port: u16) {
    let script = format!(
        "const {{BlobServiceClient}} = require('@azure/storage-blob');\
         BlobServiceClient.fromConnectionString('DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=\
         Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
         BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1').createContainer('codenets').then(() => 0)"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    if !folder.join("node_modules/@azure/storage-blob").is_dir() {
        let install = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "@azure/storage-blob@12"])
            .current_dir(&folder)
            .status();
        assert!(install.unwrap().success(), "azure's client is installed");
    }
    let output = Command::new("node").args(["-e", &script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
}
