//! A record at a place: a list of its files by digest, and the objects with their bytes.
//!
//! ```text
//! objects/ab/abcd…      at most CHUNK bytes, under their BLAKE3 digest
//! chunks/ab/abcd….json  of a longer file: the digests of its chunks, in order
//! records/<digest>.json a Tree, under the digest of its bytes
//! refs/<name>           the digest of the record that was last saved under this name
//! ```
//! Objects are only ever added. Two who save at once write the same bytes under the same names, or different names; of two `refs` of one
//! name the later stands.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ledger::{Bar, Content, Digest, FileRecord, Files, Progress, Recordable, is_plain};
use serde::{Deserialize, Serialize};

use crate::remote::Remote;

/// Of the list's form.
const FORMAT: u32 = 1;
/// Bytes of an object, at most. A file that is longer is cut, so that what was sent of it stays sent.
pub const CHUNK: u64 = 16 << 20;
/// Bytes of a list, at most.
const LONGEST_LIST: u64 = 256 << 20;
/// Chunks of a file, at most: 16 TiB.
const MOST_CHUNKS: u64 = 1 << 20;
/// Files that are under way at once: with CHUNK they bound the memory.
const WORKERS: usize = 6;

/// The files of a record at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub archive: u32,
    pub kind: String,
    pub version: u32,
    /// What it is, for people who look for it.
    pub about: BTreeMap<String, String>,
    pub files: BTreeMap<PathBuf, FileRecord>,
}

/// What came of saving.
#[derive(Debug, Default)]
pub struct Sent {
    pub files: u64,
    pub bytes: u64,
    pub sent_objects: u64,
    pub sent_bytes: u64,
}

fn object(digest: Digest) -> String {
    let hex = digest.to_string();
    format!("objects/{}/{hex}", &hex[..2])
}

fn chunk_list(digest: Digest) -> String {
    let hex = digest.to_string();
    format!("chunks/{}/{hex}.json", &hex[..2])
}

fn record(digest: Digest) -> String {
    format!("records/{digest}.json")
}

/// Saves a record under a name; the digest that finds it again.
pub fn push<R: Recordable>(
    remote: &Remote,
    value: &R,
    about: BTreeMap<String, String>,
    name: &str,
    progress: &Progress,
) -> Result<(Digest, Sent)> {
    require_name(name)?;
    let files = Files::of(value)?;
    let total: u64 = files.iter().map(|(_, content)| size(content)).sum();
    let bar = progress.bar("save", total >> 10, "KiB");
    let (sent_objects, sent_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let put = |name: &str, bytes: Vec<u8>| -> Result<()> {
        let length = bytes.len() as u64;
        if remote.size(name)? != Some(length) {
            remote.put(name, bytes)?;
            sent_objects.fetch_add(1, Ordering::Relaxed);
            sent_bytes.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    };
    let records = Mutex::new(BTreeMap::new());
    each(files.iter(), |(path, content)| {
        let record = push_file(remote, content, &put).with_context(|| format!("saving {}", path.display()))?;
        bar.add(size(content) >> 10);
        records.lock().expect("no holder panics").insert(path.clone(), record);
        Ok(())
    })?;
    bar.finish();
    let files = records.into_inner().expect("no holder panics");
    let (count, bytes) = (files.len() as u64, files.values().map(|file| file.bytes).sum());
    let tree = Tree { archive: FORMAT, kind: R::KIND.to_owned(), version: R::VERSION, about, files };
    let list = serde_json::to_vec_pretty(&tree)?;
    let id = Digest::of_bytes(&list);
    // The list last, and the name after it: who finds a list finds its objects.
    put(&record(id), list)?;
    remote.put(&format!("refs/{name}"), id.to_string().into_bytes())?;
    let sent = Sent { files: count, bytes, sent_objects: sent_objects.into_inner(), sent_bytes: sent_bytes.into_inner() };
    Ok((id, sent))
}

fn size(content: &Content) -> u64 {
    match content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::File(_, Some(record)) => record.bytes,
        Content::File(path, None) => path.metadata().map_or(0, |meta| meta.len()),
    }
}

/// Puts what is not there yet of one file.
fn push_file(remote: &Remote, content: &Content, put: &impl Fn(&str, Vec<u8>) -> Result<()>) -> Result<FileRecord> {
    let (path, known) = match content {
        Content::Bytes(bytes) => {
            let record = FileRecord { bytes: bytes.len() as u64, blake3: Digest::of_bytes(bytes) };
            put(&object(record.blake3), bytes.clone())?;
            return Ok(record);
        }
        Content::File(path, known) => (path, known),
    };
    if let Some(known) = known
        && is_there(remote, known)?
    {
        return Ok(known.clone());
    }
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut whole = Digest::hasher();
    let mut chunks = Vec::new();
    let mut bytes = 0;
    loop {
        let mut chunk = Vec::new();
        (&mut file).take(CHUNK).read_to_end(&mut chunk).with_context(reading)?;
        if chunk.is_empty() && bytes > 0 {
            break;
        }
        let (length, digest) = (chunk.len() as u64, Digest::of_bytes(&chunk));
        whole.update(&chunk);
        chunks.push(digest);
        bytes += length;
        if let Some(known) = known {
            let so_far = if known.bytes <= CHUNK { digest == known.blake3 } else { bytes <= known.bytes };
            ensure!(so_far, "{} is damaged: run `make verify`, then make it again", path.display());
        }
        put(&object(digest), chunk)?;
        if length < CHUNK {
            break;
        }
    }
    let record = FileRecord { bytes, blake3: whole.digest() };
    ensure!(known.as_ref().is_none_or(|known| *known == record), "{} is damaged: run `make verify`, then make it again", path.display());
    if record.bytes > CHUNK {
        put(&chunk_list(record.blake3), serde_json::to_vec(&chunks)?)?;
    }
    Ok(record)
}

/// Are all bytes of a file at the remote, by their sizes?
fn is_there(remote: &Remote, file: &FileRecord) -> Result<bool> {
    if file.bytes <= CHUNK {
        return Ok(remote.size(&object(file.blake3))? == Some(file.bytes));
    }
    let Some(chunks) = chunks_of(remote, file)? else { return Ok(false) };
    for (place_of, digest) in chunks.iter().enumerate() {
        if remote.size(&object(*digest))? != Some(chunk_length(file, place_of)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn chunk_length(file: &FileRecord, number: usize) -> u64 {
    (file.bytes - CHUNK * number as u64).min(CHUNK)
}

/// The chunks of a long file, if their list is there and whole.
fn chunks_of(remote: &Remote, file: &FileRecord) -> Result<Option<Vec<Digest>>> {
    let count = file.bytes.div_ceil(CHUNK);
    ensure!(count <= MOST_CHUNKS, "a file of {} bytes is more than a place can hold", file.bytes);
    let Some(bytes) = remote.get(&chunk_list(file.blake3), 64 + 80 * count)? else { return Ok(None) };
    let chunks: Option<Vec<Digest>> = serde_json::from_slice(&bytes).ok();
    Ok(chunks.filter(|chunks| chunks.len() as u64 == count))
}

/// Finds a record by `name` or by its digest.
pub fn find(remote: &Remote, name: &str) -> Result<(Digest, Tree)> {
    let id = match Digest::try_from(name.to_owned()) {
        Ok(id) => id,
        Err(_) => {
            require_name(name)?;
            let saved = || format!("{} has no record `{name}`: `archive list` shows those that it has", remote.address());
            let text = remote.get(&format!("refs/{name}"), 128)?.with_context(saved)?;
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            Digest::try_from(text).with_context(|| format!("{} is damaged", remote.address_of(&format!("refs/{name}"))))?
        }
    };
    let at = remote.address_of(&record(id));
    let list = remote.get(&record(id), LONGEST_LIST)?.with_context(|| format!("{at} is missing"))?;
    ensure!(Digest::of_bytes(&list) == id, "{at} is damaged: save the record again");
    let tree: Tree = serde_json::from_slice(&list).with_context(|| format!("{at} is not a record"))?;
    ensure!(tree.archive == FORMAT, "{at} has form {}, this tool reads {FORMAT}", tree.archive);
    if let Some(path) = tree.files.keys().find(|path| !is_plain(path)) {
        bail!("{at} names {}, which is outside of it", path.display());
    }
    Ok((id, tree))
}

/// Fetches one file and checks every byte; there is all of it under `target`, or nothing.
pub fn fetch(remote: &Remote, file: &FileRecord, target: &Path) -> Result<()> {
    let dir = target.parent().context("a file lies in a folder")?;
    let writing = || format!("writing {}", target.display());
    let mut part = tempfile::NamedTempFile::new_in(dir).with_context(writing)?;
    read(remote, file, |bytes| std::io::Write::write_all(&mut part, bytes).with_context(writing))?;
    part.as_file().sync_all().with_context(writing)?;
    part.persist(target).with_context(writing)?;
    Ok(())
}

/// Reads one file and checks every byte.
pub fn read(remote: &Remote, file: &FileRecord, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let get = |digest: Digest, length: u64| -> Result<Vec<u8>> {
        let name = object(digest);
        let bytes = remote.get(&name, length)?.ok_or_else(|| Corrupt(remote.address_of(&name), "is missing"))?;
        if Digest::of_bytes(&bytes) != digest {
            bail!(Corrupt(remote.address_of(&name), "is damaged"));
        }
        Ok(bytes)
    };
    if file.bytes <= CHUNK {
        return take(&get(file.blake3, file.bytes)?);
    }
    let list = chunk_list(file.blake3);
    let chunks = chunks_of(remote, file)?.ok_or_else(|| Corrupt(remote.address_of(&list), "is missing or damaged"))?;
    let mut whole = Digest::hasher();
    for (number, digest) in chunks.iter().enumerate() {
        let bytes = get(*digest, chunk_length(file, number))?;
        whole.update(&bytes);
        take(&bytes)?;
    }
    if whole.digest() != file.blake3 {
        bail!(Corrupt(remote.address_of(&list), "is damaged"));
    }
    Ok(())
}

/// An object that is not what its name says.
#[derive(Debug)]
pub struct Corrupt(pub String, pub &'static str);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: remove it and save the record again from where it was made", self.0, self.1)
    }
}

impl std::error::Error for Corrupt {}

/// Runs `work` on each item on several threads; the first error ends all.
pub fn each<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let items = Mutex::new(items.into_iter().collect::<Vec<_>>().into_iter());
    let failed = AtomicBool::new(false);
    let next = || if failed.load(Ordering::Relaxed) { None } else { items.lock().expect("no holder panics").next() };
    let worker = || -> Result<()> {
        while let Some(item) = next() {
            if let Err(error) = work(item) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a worker failed"))));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Everything that a record consists of, hashed again; names what is damaged or missing.
pub fn check(remote: &Remote, tree: &Tree, bar: &Bar) -> Result<Vec<String>> {
    let damaged = Mutex::new(Vec::new());
    let mut distinct: Vec<&FileRecord> = tree.files.values().collect();
    distinct.sort_by_key(|file| file.blake3);
    distinct.dedup();
    each(distinct, |file| {
        match read(remote, file, |_| Ok(())) {
            Ok(()) => {}
            Err(error) => match error.downcast::<Corrupt>() {
                Ok(corrupt) => damaged.lock().expect("no holder panics").push(format!("{} {}", corrupt.0, corrupt.1)),
                Err(error) => return Err(error),
            },
        }
        bar.add(file.bytes >> 10);
        Ok(())
    })?;
    let mut damaged = damaged.into_inner().expect("no holder panics");
    damaged.sort();
    Ok(damaged)
}

fn require_name(name: &str) -> Result<()> {
    let plain =
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ensure!(plain, "{name:?} cannot name a record: letters, digits, `-`, `_` and `.` can");
    Ok(())
}
