//! The `urls` source against servers that break off, lie about lengths, refuse, and send something else.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::world::{World, texts};

/// What a path of the server does with the file it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Manner {
    Good,
    /// Sends a quarter of what is asked for, then hangs up; takes ranges.
    Drops,
    /// The same, but always starts at the beginning.
    DropsWithoutRanges,
    /// Always starts at the beginning, and hangs up now earlier, now later.
    Wavers,
    /// Promises more than comes.
    PromisesMore,
    /// Promises half of the file, and sends that.
    PromisesLess,
    /// The right length, other bytes.
    Wrong,
    /// More bytes than the file has.
    Endless,
    Missing,
    /// Busy twice, then good.
    Busy,
    /// Resumes somewhere else than asked.
    WrongRange,
}

/// Each request: its manner, and where it asked to start.
type Log = Mutex<Vec<(Manner, Option<usize>)>>;

struct Server {
    address: String,
    requests: Arc<Log>,
}

impl Server {
    fn of(file: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Log> = Arc::default();
        let log = requests.clone();
        let busy = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (file, log, busy) = (file.clone(), log.clone(), busy.clone());
                thread::spawn(move || drop(serve(stream.unwrap(), &file, &log, &busy)));
            }
        });
        Self { address, requests }
    }

    fn url(&self, manner: Manner) -> String {
        format!("{}/{manner:?}", self.address)
    }

    fn seen(&self, manner: Manner) -> Vec<Option<usize>> {
        self.requests.lock().unwrap().iter().filter(|(other, _)| *other == manner).map(|(_, start)| *start).collect()
    }
}

fn serve(mut stream: TcpStream, file: &[u8], log: &Log, busy: &AtomicUsize) -> std::io::Result<()> {
    use Manner::*;
    let mut head = Vec::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let path = head[0].split(' ').nth(1).unwrap_or_default();
    let path = path.rsplit('/').next().unwrap_or_default();
    let all = [Good, Drops, DropsWithoutRanges, Wavers, PromisesMore, PromisesLess, Wrong, Endless, Missing, Busy, WrongRange];
    let manner = all.into_iter().find(|manner| format!("{manner:?}") == path).expect("a known path");
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    log.lock().unwrap().push((manner, range));
    let status = match manner {
        Missing => Some("404 Not Found"),
        Busy if busy.fetch_add(1, Ordering::Relaxed) < 2 => Some("503 Service Unavailable"),
        _ => None,
    };
    if let Some(status) = status {
        return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let start = range.filter(|_| !matches!(manner, DropsWithoutRanges | Wavers)).unwrap_or_default();
    if start >= file.len() {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut body = file[start..].to_vec();
    match manner {
        Wrong => body.iter_mut().for_each(|byte| *byte ^= 0x55),
        Endless => body.resize(file.len() * 3, 7),
        PromisesLess => body.truncate(body.len() / 2),
        _ => {}
    }
    let promised = if manner == PromisesMore { body.len() + 1000 } else { body.len() };
    let sent = if matches!(manner, Drops | DropsWithoutRanges) { body.len().min(file.len() / 4 + 1) } else { body.len() };
    let sent = if manner == Wavers { file.len() / (3 + busy.fetch_add(1, Ordering::Relaxed) % 3) } else { sent };
    let told = if manner == WrongRange && start > 0 { start + 10 } else { start };
    let status = if start > 0 {
        format!("206 Partial Content\r\ncontent-range: bytes {told}-{}/{}", file.len() - 1, file.len())
    } else {
        "200 OK".to_owned()
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {promised}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(&body[..sent])
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    texts(&output).0.split_whitespace().next().unwrap().to_owned()
}

/// A world whose corpus is served, the file, and its digest.
fn served() -> (World, Server, String, u64) {
    let world = World::new();
    world.run("pipeline", &["harvest"]);
    let raw = world.artifact("raw").join("python/final/jsonl/train/python_train_0.jsonl.gz");
    let sha256 = sha256(&raw);
    let bytes = fs::read(&raw).unwrap();
    let length = bytes.len() as u64;
    (world, Server::of(bytes), sha256, length)
}

fn configure(world: &World, files: &[(&str, &str, Option<u64>, Vec<String>)]) {
    let files: Vec<String> = files
        .iter()
        .map(|(name, sha256, bytes, mirrors)| {
            let bytes = bytes.map(|bytes| format!("bytes = {bytes},")).unwrap_or_default();
            format!("{{ name = \"{name}\", sha256 = \"{sha256}\", {bytes} mirrors = {mirrors:?} }}")
        })
        .collect();
    world.configure(&format!("harvest.source = null\nharvest.source {{ kind = urls, files = [{}] }}", files.join(", ")));
    let _ = fs::remove_dir_all(world.path("data/cache"));
}

#[test]
fn what_breaks_is_taken_up_and_what_is_wrong_gives_way_to_the_next_mirror() {
    use Manner::*;
    let (world, server, sha256, length) = served();
    let name = "python/final/jsonl/train/python_train_0.jsonl.gz";
    let mut told = HashMap::new();
    for (manner, then) in [
        (Good, None),
        (Drops, None),
        (Busy, None),
        (DropsWithoutRanges, Some(Good)),
        (Wavers, Some(Good)),
        (PromisesMore, None),
        (PromisesLess, Some(Good)),
        (Wrong, Some(Good)),
        (Endless, Some(Good)),
        (Missing, Some(Good)),
    ] {
        let mirrors = [Some(manner), then].into_iter().flatten().map(|manner| server.url(manner)).collect();
        configure(&world, &[(name, &sha256, Some(length), mirrors)]);
        fs::remove_dir_all(world.path("data/raw")).unwrap();
        let (_, said) = world.run("pipeline", &["harvest"]);
        let manifest = world.manifest("raw");
        assert_eq!(manifest["report"]["csn_files"], 1, "{manner:?}");
        let file = world.artifact("raw").join("urls-0").join(name);
        assert_eq!(self::sha256(&file), sha256, "{manner:?}");
        told.insert(manner, said);
    }
    // It went on where it broke, and did not start over.
    let starts = server.seen(Drops);
    assert!(starts.len() >= 4 && starts[0].is_none(), "{starts:?}");
    assert!(starts.windows(2).all(|pair| pair[1] > pair[0]), "{starts:?}");
    assert!(told[&Drops].contains("going on"), "{}", told[&Drops]);
    assert!(told[&Wrong].contains("sha256 is") && told[&Endless].contains("sends more than"), "{told:?}");
    assert!(told[&Missing].contains("404"), "{told:?}");

    // What was fetched is fetched no more, and goes down the road.
    let before = server.requests.lock().unwrap().len();
    world.run("pipeline", &["ingest"]);
    fs::remove_dir_all(world.path("data/raw")).unwrap();
    world.run("pipeline", &["harvest"]);
    assert_eq!(server.requests.lock().unwrap().len(), before, "the cache has it");
}

#[test]
fn a_file_that_no_mirror_has_fails_with_what_each_said_and_leaves_nothing() {
    use Manner::*;
    let (world, server, sha256, length) = served();
    fs::remove_dir_all(world.path("data/raw")).unwrap();
    let other = "0a".repeat(32);
    let mirrors = [Missing, Good].map(|manner| server.url(manner)).into();
    configure(&world, &[("a.jsonl.gz", &sha256, Some(length), vec![server.url(Good)]), ("b.jsonl.gz", &other, None, mirrors)]);
    let error = world.fail("pipeline", &["harvest"]);
    assert!(error.contains("b.jsonl.gz") && error.contains("404") && error.contains(&format!("sha256 is {sha256}")), "{error}");
    assert!(error.contains("HTTPS_PROXY"), "{error}");
    assert!(!world.path("data/raw/CURRENT").exists());
}

#[test]
fn a_begun_file_of_other_bytes_is_begun_anew() {
    use Manner::*;
    let (world, server, sha256, length) = served();
    configure(&world, &[("a.jsonl.gz", &sha256, Some(length), vec![server.url(Good)])]);
    let part = world.path("data/cache/urls").join(&sha256).with_extension("part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![9u8; 100]).unwrap();
    fs::remove_dir_all(world.path("data/raw")).unwrap();
    world.run("pipeline", &["harvest"]);
    assert_eq!(server.seen(Good), [Some(100), None]);
    // A server that resumes elsewhere is not believed.
    configure(&world, &[("a.jsonl.gz", &sha256, Some(length), [WrongRange, Good].map(|manner| server.url(manner)).into())]);
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![9u8; 100]).unwrap();
    fs::remove_dir_all(world.path("data/raw")).unwrap();
    let (_, said) = world.run("pipeline", &["harvest"]);
    assert!(said.contains("another range"), "{said}");
}

#[test]
fn the_proxy_of_the_environment_is_asked() {
    let (world, server, sha256, _) = served();
    configure(&world, &[("a.jsonl.gz", &sha256, None, vec!["http://nowhere.invalid/Good".to_owned()])]);
    fs::remove_dir_all(world.path("data/raw")).unwrap();
    let mut command = world.command("pipeline", &["harvest"]);
    command.env_remove("NO_PROXY").env_remove("no_proxy").env("HTTP_PROXY", &server.address).env("http_proxy", &server.address);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    assert_eq!(server.seen(Manner::Good).len(), 1);
}
