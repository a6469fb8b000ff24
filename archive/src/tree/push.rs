//! Writes a record to a remote.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ledger::{Content, Digest, FileRecord, Files, Invalid, Progress, Recordable, ensure};

use super::{CHUNK, FORMAT, Tree, chunk_length, chunk_list, chunks_of, each, object, record, reference, require_name};
use crate::{
    error::{Context, Result},
    remote::Remote,
};

/// What a save wrote.
#[derive(Debug, Default)]
pub struct Sent {
    /// Files of the record.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Objects that the remote did not have.
    pub sent_objects: u64,
    /// Bytes of these objects.
    pub sent_bytes: u64,
}

/// Saves a record under a name, and returns the digest of its list of files.
///
/// * `about`: facts for people, shown by `codenets snapshots`.
///
/// # Errors
/// A file of the record is damaged, or the remote cannot be written.
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
        records.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), record);
        Ok(())
    })?;
    bar.finish();
    let files = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (count, bytes) = (files.len() as u64, files.values().map(|file| file.bytes).sum());
    let tree = Tree { archive: FORMAT, kind: R::KIND.to_owned(), version: R::VERSION, about, files };
    let list = serde_json::to_vec_pretty(&tree)?;
    let id = Digest::of_bytes(&list);
    // The list after its objects, the name after the list: whoever finds a list finds its objects.
    put(&record(id), list)?;
    remote.put(&reference(name), id.to_string().into_bytes())?;
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

/// Sends the objects of one file that the remote does not have.
fn push_file(remote: &Remote, content: &Content, put: &impl Fn(&str, Vec<u8>) -> Result<()>) -> Result<FileRecord> {
    match content {
        Content::Bytes(bytes) => {
            let record = FileRecord { bytes: bytes.len() as u64, blake3: Digest::of_bytes(bytes) };
            put(&object(record.blake3), bytes.clone())?;
            Ok(record)
        }
        Content::File(_, Some(known)) if is_complete(remote, known)? => Ok(known.clone()),
        Content::File(path, known) => push_chunks(path, known.as_ref(), put),
    }
}

/// Reads a file chunk by chunk and sends each. `known` is what the manifest records about the file.
fn push_chunks(path: &Path, known: Option<&FileRecord>, put: &impl Fn(&str, Vec<u8>) -> Result<()>) -> Result<FileRecord> {
    let damaged = || Invalid(format!("{} is damaged: run `codenets verify`, then `codenets run`", path.display()));
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
        // A short file is checked before it is sent, a long one by its length as far as it was read.
        let is_intact = |known: &FileRecord| if known.bytes <= CHUNK { digest == known.blake3 } else { bytes <= known.bytes };
        if !known.is_none_or(is_intact) {
            return Err(damaged().into());
        }
        put(&object(digest), chunk)?;
        if length < CHUNK {
            break;
        }
    }
    let record = FileRecord { bytes, blake3: whole.digest() };
    ensure!(known.is_none_or(|known| *known == record), "{}", damaged());
    if record.bytes > CHUNK {
        put(&chunk_list(record.blake3), serde_json::to_vec(&chunks)?)?;
    }
    Ok(record)
}

/// Does the remote have all objects of a file, by their sizes?
fn is_complete(remote: &Remote, file: &FileRecord) -> Result<bool> {
    if file.bytes <= CHUNK {
        return Ok(remote.size(&object(file.blake3))? == Some(file.bytes));
    }
    let Some(chunks) = chunks_of(remote, file)? else { return Ok(false) };
    for (number, digest) in chunks.iter().enumerate() {
        if remote.size(&object(*digest))? != Some(chunk_length(file, number)) {
            return Ok(false);
        }
    }
    Ok(true)
}
