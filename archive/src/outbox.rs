//! Sends the OpenLineage events of a data folder to a server or a file, each event once.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use ledger::{Digest, Store, append_event, bail, conf::SecretUrl, ensure, event_file, write_atomically};
use reqwest::blocking::Client;
use serde_json::Value;

use crate::error::{Context, Result};

/// Where events are sent.
#[derive(Debug)]
enum Receiver {
    /// `POST` of one event to this URL: the OpenLineage API, as Marquez and other servers offer it.
    Server(Client, SecretUrl),
    /// One line for each event is appended.
    File(PathBuf),
}

/// Path of the API, added where the URL has no path.
const API: &str = "/api/v1/lineage";

/// Sends the events that were not sent to this receiver before. Returns the numbers of events and of lines that are not events.
///
/// * `to`: the `http://` or `https://` URL of a server, or the path of a file.
///
/// # Errors
/// The address has another scheme or contains credentials, or the receiver does not accept an event. Events before it count as sent.
pub fn send(store: &Store, to: &str) -> Result<(u64, u64)> {
    let receiver = Receiver::of(to)?;
    let path = event_file(store.root());
    if !path.exists() {
        return Ok((0, 0));
    }
    // How far the receiver has the file, in bytes.
    let mark = path.with_file_name(format!("sent-{}", Digest::of_bytes(to.as_bytes()).short()));
    let mut position: u64 = fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    let mut file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    if position > file.metadata()?.len() {
        // The file was deleted and written again.
        position = 0;
    }
    file.seek(SeekFrom::Start(position))?;
    let mut reader = BufReader::new(file);
    let (mut sent, mut skipped) = (0, 0);
    loop {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        // An incomplete line: a stage is writing it, or was killed while it did.
        if length == 0 || line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(event) => {
                receiver.send(&event).with_context(|| format!("{sent} events were sent before this one: run the same command again"))?;
                sent += 1;
            }
            Err(_) => skipped += 1,
        }
        position += length;
        write_atomically(&mark, position.to_string().as_bytes())?;
    }
    Ok((sent, skipped))
}

impl Receiver {
    fn of(to: &str) -> Result<Self> {
        if !to.contains("://") {
            return Ok(Self::File(to.into()));
        }
        ensure!(!to.contains('@'), "a URL with a password is written to logs: put the key in OPENLINEAGE_API_KEY");
        if !to.starts_with("http://") && !to.starts_with("https://") {
            bail!("{} is neither a file nor the http URL of a server: use a path, http://… or https://…", SecretUrl::new(to));
        }
        let client = Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(30)).build()?;
        let path = to.splitn(4, '/').nth(3).unwrap_or_default();
        let address = if path.is_empty() { format!("{}{API}", to.trim_end_matches('/')) } else { to.to_owned() };
        Ok(Self::Server(client, SecretUrl::new(address)))
    }

    fn send(&self, event: &Value) -> Result<()> {
        match self {
            Self::File(path) => append_event(path, event).with_context(|| format!("writing {}", path.display()))?,
            Self::Server(client, address) => {
                let mut request = client.post(address.expose()).header("content-type", "application/json").body(event.to_string());
                if let Ok(key) = std::env::var("OPENLINEAGE_API_KEY") {
                    request = request.bearer_auth(key);
                }
                // The error of `reqwest` contains the URL with its secrets.
                let answer =
                    request.send().map_err(reqwest::Error::without_url).with_context(|| format!("sending an event to {address}"))?;
                let status = answer.status();
                if !status.is_success() {
                    let text: String = answer.text().unwrap_or_default().chars().take(200).collect();
                    bail!("{address} answered with {status}: {text}");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_file_that_was_written_again_are_sent_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::tests::toy::store(&dir.path().join("data"));
        let received = dir.path().join("received.jsonl");
        let sent = || send(&store, received.to_str().unwrap()).unwrap();
        crate::tests::toy::run(&store, "hello");
        assert_eq!((sent(), sent()), ((4, 0), (0, 0)), "two events a stage, each sent once");
        let lines = fs::read_to_string(event_file(store.root())).unwrap();
        let first = lines.lines().next().unwrap();
        fs::write(event_file(store.root()), format!("{first}\nno event\n")).unwrap();
        assert_eq!(sent(), (1, 1));
        assert_eq!(fs::read_to_string(received).unwrap().lines().count(), 5);
    }
}
