//! `events`: sends the OpenLineage events of a data folder on, to a server or to a file, each once.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use ledger::{Digest, Store, append_event, event_file, write_atomically};
use reqwest::blocking::Client;
use serde_json::Value;

/// Where events go.
#[derive(Debug)]
enum Receiver {
    /// `POST` of one event, as Marquez and other servers of the OpenLineage API take it.
    Server(Client, String),
    File(PathBuf),
}

/// Path of the API where the address has none.
const API: &str = "/api/v1/lineage";

/// Sends what the receiver does not have yet; how many events, and how many lines were no events.
pub fn send(store: &Store, to: &str) -> Result<(u64, u64)> {
    let receiver = Receiver::of(to)?;
    let path = event_file(store.root());
    if !path.exists() {
        return Ok((0, 0));
    }
    let mark = store.root().join("events").join(format!("sent-{}", Digest::of_bytes(to.as_bytes()).short()));
    let mut position: u64 = fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    let mut file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    if position > file.metadata()?.len() {
        // The file was removed, and began anew.
        position = 0;
    }
    file.seek(SeekFrom::Start(position))?;
    let mut reader = BufReader::new(file);
    let (mut sent, mut skipped) = (0, 0);
    loop {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        // A line without an end is being written, or was when its writer was killed.
        if length == 0 || line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(event) => {
                receiver
                    .take(&event)
                    .with_context(|| format!("{sent} events were sent before: run the same command again for the rest"))?;
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
        ensure!(!to.contains('@'), "an address with a name and a password ends up in logs: use OPENLINEAGE_API_KEY");
        if !to.starts_with("http://") && !to.starts_with("https://") {
            bail!("{to} is neither a file nor the http address of a server");
        }
        let client = Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(30)).build()?;
        let path = to.splitn(4, '/').nth(3).unwrap_or_default();
        let address = if path.is_empty() { format!("{}{API}", to.trim_end_matches('/')) } else { to.to_owned() };
        Ok(Self::Server(client, address))
    }

    fn take(&self, event: &Value) -> Result<()> {
        match self {
            Self::File(path) => append_event(path, event).with_context(|| format!("writing {}", path.display())),
            Self::Server(client, address) => {
                let mut request = client.post(address).header("content-type", "application/json").body(event.to_string());
                if let Ok(key) = std::env::var("OPENLINEAGE_API_KEY") {
                    request = request.bearer_auth(key);
                }
                let answer = request.send().with_context(|| format!("asking {address}"))?;
                let status = answer.status();
                if !status.is_success() {
                    let said: String = answer.text().unwrap_or_default().chars().take(200).collect();
                    bail!("{address} answered with {status}: {said}");
                }
                Ok(())
            }
        }
    }
}
