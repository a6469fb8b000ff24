//! Reads files of a record from a remote and checks every byte.

use std::{
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use ledger::{Bar, Digest, FileRecord, scratch_file};

use super::{CHUNK, Tree, chunk_length, chunk_list, chunks_of, each, object};
use crate::{
    error::{Context, Error, Result},
    remote::Remote,
};

/// Fetches one file to `target`, which is written completely or not at all.
///
/// # Errors
/// [`Error::Damaged`] where an object is missing or damaged.
pub fn fetch(remote: &Remote, file: &FileRecord, target: &Path) -> Result<()> {
    let writing = || format!("writing {}", target.display());
    let dir = target.parent().with_context(writing)?;
    let mut part = scratch_file(".part-", dir).with_context(writing)?;
    read(remote, file, |bytes| part.write_all(bytes).with_context(writing))?;
    part.as_file().sync_all().with_context(writing)?;
    part.persist(target).map_err(|error| error.error).with_context(writing)?;
    Ok(())
}

/// Reads one file chunk by chunk. `take` receives each chunk after its digest was checked.
///
/// # Errors
/// [`Error::Damaged`] where an object is missing or damaged, and the errors of `take`.
pub fn read(remote: &Remote, file: &FileRecord, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let damaged = |name: &str, reason| Error::Damaged { address: remote.address_of(name), reason };
    let get = |digest: Digest, length: u64| -> Result<Vec<u8>> {
        let name = object(digest);
        let bytes = remote.get(&name, length)?.ok_or_else(|| damaged(&name, "missing"))?;
        if Digest::of_bytes(&bytes) != digest {
            return Err(damaged(&name, "damaged"));
        }
        Ok(bytes)
    };
    if file.bytes <= CHUNK {
        return take(&get(file.blake3, file.bytes)?);
    }
    let list = chunk_list(file.blake3);
    let chunks = chunks_of(remote, file)?.ok_or_else(|| damaged(&list, "missing or damaged"))?;
    let mut whole = Digest::hasher();
    for (number, digest) in chunks.iter().enumerate() {
        let bytes = get(*digest, chunk_length(file, number))?;
        whole.update(&bytes);
        take(&bytes)?;
    }
    if whole.digest() != file.blake3 {
        return Err(damaged(&list, "damaged"));
    }
    Ok(())
}

/// Hashes every file of a record again, and returns one sorted line for each object that is missing or damaged.
///
/// # Errors
/// The remote cannot be read.
pub fn check(remote: &Remote, tree: &Tree, bar: &Bar) -> Result<Vec<String>> {
    let damaged = Mutex::new(Vec::new());
    let mut distinct: Vec<&FileRecord> = tree.files.values().collect();
    distinct.sort_by_key(|file| file.blake3);
    distinct.dedup();
    each(distinct, |file| {
        match read(remote, file, |_| Ok(())) {
            Ok(()) => {}
            Err(Error::Damaged { address, reason }) => {
                damaged.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{address} is {reason}"));
            }
            Err(error) => return Err(error),
        }
        bar.add(file.bytes >> 10);
        Ok(())
    })?;
    let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    damaged.sort();
    Ok(damaged)
}
