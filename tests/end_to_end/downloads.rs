//! The `urls` source with servers that close the connection, send wrong lengths, refuse, or send other bytes.

use std::{
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

use crate::workspace::{Workspace, source, texts};
use Answer::*;

/// How a path of the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Good,
    /// Sends a quarter of the file, then closes the connection; supports ranges.
    Drops,
    /// Sends a quarter of the file, always from its beginning.
    DropsWithoutRanges,
    /// Always starts at the beginning, and closes the connection after different lengths.
    VaryingDrops,
    /// Announces more bytes than it sends.
    AnnouncesMore,
    /// Announces and sends half of the file.
    AnnouncesLess,
    /// The right length, other bytes.
    Wrong,
    /// More bytes than the file has.
    Endless,
    Missing,
    /// Busy twice, then good.
    Busy,
    /// Sends another range than requested.
    WrongRange,
}

/// Each request: which answer it gets, and the start of its range.
type Log = Mutex<Vec<(Answer, Option<usize>)>>;

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

    fn url(&self, answer: Answer) -> String {
        format!("{}/{answer:?}", self.address)
    }

    fn range_starts(&self, answer: Answer) -> Vec<Option<usize>> {
        self.requests.lock().unwrap().iter().filter(|(other, _)| *other == answer).map(|(_, start)| *start).collect()
    }
}

fn serve(mut stream: TcpStream, file: &[u8], log: &Log, busy: &AtomicUsize) -> std::io::Result<()> {
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
    let all = [Good, Drops, DropsWithoutRanges, VaryingDrops, AnnouncesMore, AnnouncesLess, Wrong, Endless, Missing, Busy, WrongRange];
    let answer = all.into_iter().find(|answer| format!("{answer:?}") == path).expect("a known path");
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    log.lock().unwrap().push((answer, range));
    let status = match answer {
        Missing => Some("404 Not Found"),
        Busy if busy.fetch_add(1, Ordering::Relaxed) < 2 => Some("503 Service Unavailable"),
        _ => None,
    };
    if let Some(status) = status {
        return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let start = range.filter(|_| !matches!(answer, DropsWithoutRanges | VaryingDrops)).unwrap_or_default();
    if start >= file.len() {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut body = file[start..].to_vec();
    match answer {
        Wrong => body.iter_mut().for_each(|byte| *byte ^= 0x55),
        Endless => body.resize(file.len() * 3, 7),
        AnnouncesLess => body.truncate(body.len() / 2),
        _ => {}
    }
    let announced = if answer == AnnouncesMore { body.len() + 1000 } else { body.len() };
    let sent = if matches!(answer, Drops | DropsWithoutRanges) { body.len().min(file.len() / 4 + 1) } else { body.len() };
    let sent = if answer == VaryingDrops { file.len() / (3 + busy.fetch_add(1, Ordering::Relaxed) % 3) } else { sent };
    let first = if answer == WrongRange && start > 0 { start + 10 } else { start };
    let status = if start > 0 {
        format!("206 Partial Content\r\ncontent-range: bytes {first}-{}/{}", file.len() - 1, file.len())
    } else {
        "200 OK".to_owned()
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {announced}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(&body[..sent])
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    texts(&output).0.split_whitespace().next().unwrap().to_owned()
}

/// A workspace, a server of one of its files, the SHA-256 of the file, and its length.
fn served() -> (Workspace, Server, String, u64) {
    let workspace = Workspace::tokenized();
    let raw = workspace.artifact("raw").join("python/final/jsonl/train/python_train_0.jsonl.gz");
    let sha256 = sha256(&raw);
    let bytes = fs::read(&raw).unwrap();
    let length = bytes.len() as u64;
    fs::remove_dir_all(workspace.path("data/raw")).unwrap();
    (workspace, Server::of(bytes), sha256, length)
}

/// Configures files by name, SHA-256, length and mirrors, and forgets what was harvested and downloaded before.
fn configure(workspace: &Workspace, files: &[(&str, &str, Option<u64>, Vec<String>)]) {
    let files: Vec<String> = files
        .iter()
        .map(|(name, sha256, bytes, mirrors)| {
            let bytes = bytes.map(|bytes| format!("bytes = {bytes},")).unwrap_or_default();
            format!("{{ name = \"{name}\", sha256 = \"{sha256}\", {bytes} mirrors = {mirrors:?} }}")
        })
        .collect();
    workspace.configure(&source("urls", &format!("files = [{}]", files.join(", "))));
    let _ = fs::remove_dir_all(workspace.path("data/cache"));
    let _ = fs::remove_dir_all(workspace.path("data/raw"));
}

const NAME: &str = "python/final/jsonl/train/python_train_0.jsonl.gz";

/// Downloads the file from mirrors with these answers; the server and the messages.
fn download(answers: &[Answer]) -> (Workspace, Server, String) {
    let (workspace, server, sha256, length) = served();
    configure(&workspace, &[(NAME, &sha256, Some(length), answers.iter().map(|&answer| server.url(answer)).collect())]);
    let messages = workspace.run_only("harvest");
    assert_eq!(workspace.manifest("raw")["report"]["csn_files"], 1, "{answers:?}");
    let file = workspace.artifact("raw").join("urls-0").join(NAME);
    assert_eq!(self::sha256(&file), sha256, "{answers:?}");
    (workspace, server, messages)
}

#[test]
fn an_interrupted_download_is_resumed_where_it_stopped() {
    let (_, server, messages) = download(&[Drops]);
    let starts = server.range_starts(Drops);
    assert!(starts.len() >= 4 && starts[0].is_none(), "{starts:?}");
    assert!(starts.windows(2).all(|pair| pair[1] > pair[0]), "{starts:?}");
    assert!(!messages.is_empty(), "the interruption is reported");
}

#[test]
fn a_busy_server_is_asked_again() {
    let (_, server, _) = download(&[Busy]);
    assert_eq!(server.range_starts(Busy).len(), 3);
}

#[test]
fn a_server_that_announces_more_than_it_sends_is_accepted_when_the_digest_is_right() {
    download(&[AnnouncesMore]);
}

#[test]
fn a_server_that_never_completes_gives_way_to_the_next_mirror() {
    for answer in [DropsWithoutRanges, VaryingDrops, AnnouncesLess] {
        let (_, server, _) = download(&[answer, Good]);
        assert_eq!(server.range_starts(Good).len(), 1, "{answer:?}");
    }
}

#[test]
fn wrong_bytes_give_way_to_the_next_mirror_with_a_message() {
    assert!(download(&[Wrong, Good]).2.contains("sha256"));
    assert!(download(&[Endless, Good]).2.contains("more than"));
    assert!(download(&[Missing, Good]).2.contains("404"));
}

#[test]
fn a_downloaded_file_is_not_downloaded_again() {
    let (workspace, server, _) = download(&[Good]);
    let before = server.requests.lock().unwrap().len();
    workspace.run_until("ingest");
    fs::remove_dir_all(workspace.path("data/raw")).unwrap();
    workspace.run_only("harvest");
    assert_eq!(server.requests.lock().unwrap().len(), before, "the cache has the file");
}

#[test]
fn a_file_that_no_mirror_has_fails_with_the_answer_of_each() {
    let (workspace, server, sha256, length) = served();
    let other = "0a".repeat(32);
    let mirrors = [Missing, Good].map(|answer| server.url(answer)).into();
    configure(&workspace, &[("a.jsonl.gz", &sha256, Some(length), vec![server.url(Good)]), ("b.jsonl.gz", &other, None, mirrors)]);
    let error = workspace.fail_only("harvest");
    assert!(error.contains("b.jsonl.gz") && error.contains("404") && error.contains(&sha256), "{error}");
    assert!(error.contains("HTTPS_PROXY"), "{error}");
    assert!(!workspace.path("data/raw/CURRENT").exists());
}

/// Writes 100 bytes that are not the beginning of the file.
fn write_wrong_part(workspace: &Workspace, sha256: &str) {
    let part = workspace.path("data/cache/urls").join(sha256).with_extension("part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![9u8; 100]).unwrap();
}

#[test]
fn a_partial_file_with_other_bytes_is_downloaded_anew() {
    let (workspace, server, sha256, length) = served();
    configure(&workspace, &[("a.jsonl.gz", &sha256, Some(length), vec![server.url(Good)])]);
    write_wrong_part(&workspace, &sha256);
    workspace.run_only("harvest");
    assert_eq!(server.range_starts(Good), [Some(100), None]);
}

#[test]
fn an_answer_with_another_range_is_not_used() {
    let (workspace, server, sha256, length) = served();
    configure(&workspace, &[("a.jsonl.gz", &sha256, Some(length), [WrongRange, Good].map(|answer| server.url(answer)).into())]);
    write_wrong_part(&workspace, &sha256);
    assert!(workspace.run_only("harvest").contains("range"));
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let (workspace, server, sha256, _) = served();
    configure(&workspace, &[("a.jsonl.gz", &sha256, None, vec!["http://nowhere.invalid/Good".to_owned()])]);
    let mut command = workspace.command(&["run", "--only", "harvest"]);
    command.env_remove("NO_PROXY").env_remove("no_proxy").env("HTTP_PROXY", &server.address).env("http_proxy", &server.address);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    assert_eq!(server.range_starts(Good).len(), 1);
}
