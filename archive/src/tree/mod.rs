//! A record at a remote: a list of its files, and the bytes of every file stored under their digests.
//!
//! ```text
//! objects/ab/abcd…      at most CHUNK bytes, under their BLAKE3 digest
//! chunks/ab/abcd….json  for a longer file: the digests of its chunks, in order
//! records/<digest>.json a Tree, under the digest of its bytes
//! refs/<name>           the digest of the record that was last saved under this name
//! ```
//! Objects are only ever added. Two processes that save at the same time write equal bytes under equal names, or different names. Of two
//! `refs` with one name the later wins.

mod push;
mod read;
mod workers;

use std::{collections::BTreeMap, path::PathBuf};

use ledger::{Digest, FileRecord, bail, ensure, is_plain};
use serde::{Deserialize, Serialize};

pub use self::{
    push::{Sent, push},
    read::{check, fetch, read},
    workers::each,
};
use crate::{
    error::{Context, Error, Result},
    remote::Remote,
};

/// Version of the list's form.
const FORMAT: u32 = 1;
/// Largest object in bytes. A longer file is cut, so that a save that was interrupted does not send its first chunks again.
pub const CHUNK: u64 = 16 << 20;
/// Largest list of files in bytes.
const MAX_LIST: u64 = 256 << 20;
/// Most chunks of a file: 16 TiB.
const MAX_CHUNKS: u64 = 1 << 20;

/// The list of a record's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Version of this list's form.
    pub archive: u32,
    /// Kind and version of the record.
    pub kind: String,
    pub version: u32,
    /// Facts for people who look for a record: the artifact, the commit.
    pub about: BTreeMap<String, String>,
    pub files: BTreeMap<PathBuf, FileRecord>,
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

fn reference(name: &str) -> String {
    format!("refs/{name}")
}

fn chunk_length(file: &FileRecord, number: usize) -> u64 {
    (file.bytes - CHUNK * number as u64).min(CHUNK)
}

/// The digests of a long file's chunks; none where the list is missing or damaged.
fn chunks_of(remote: &Remote, file: &FileRecord) -> Result<Option<Vec<Digest>>> {
    let count = file.bytes.div_ceil(CHUNK);
    ensure!(count <= MAX_CHUNKS, "a file of {} bytes is too long: the limit is {} bytes", file.bytes, MAX_CHUNKS * CHUNK);
    let Some(bytes) = remote.get(&chunk_list(file.blake3), 64 + 80 * count)? else { return Ok(None) };
    let chunks: Option<Vec<Digest>> = serde_json::from_slice(&bytes).ok();
    Ok(chunks.filter(|chunks| chunks.len() as u64 == count))
}

/// Finds a record by its name or its digest, and reads the list of its files.
///
/// # Errors
/// There is no such record, or its list is damaged or names a file outside the record.
pub fn find(remote: &Remote, name: &str) -> Result<(Digest, Tree)> {
    let id = match Digest::try_from(name.to_owned()) {
        Ok(id) => id,
        Err(_) => named(remote, name)?,
    };
    let address = remote.address_of(&record(id));
    let damaged = |reason| Error::Damaged { address: address.clone(), reason };
    let list = remote.get(&record(id), MAX_LIST)?.ok_or_else(|| damaged("missing"))?;
    if Digest::of_bytes(&list) != id {
        return Err(damaged("damaged"));
    }
    let tree: Tree = serde_json::from_slice(&list).with_context(|| format!("{address} is not a record"))?;
    ensure!(tree.archive == FORMAT, "{address} has form {}, expected {FORMAT}: use the version of codenets that saved it", tree.archive);
    if let Some(path) = tree.files.keys().find(|path| !is_plain(path)) {
        bail!("{address} names the file {}, which is outside the record", path.display());
    }
    Ok((id, tree))
}

/// The digest of the record that was last saved under a name.
fn named(remote: &Remote, name: &str) -> Result<Digest> {
    require_name(name)?;
    let missing = || format!("{0} has no snapshot `{name}`: `codenets snapshots --from {0}` lists those that it has", remote.address());
    let text = remote.get(&reference(name), 128)?.with_context(missing)?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Digest::try_from(text).map_err(|_| Error::Damaged { address: remote.address_of(&reference(name)), reason: "damaged" })
}

fn require_name(name: &str) -> Result<()> {
    let plain =
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ensure!(plain, "{name:?} is not a name of a snapshot: use letters, digits, `-`, `_` and `.`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{remote::Remote, tests::toy};

    #[test]
    fn the_last_chunk_of_a_long_file_has_the_rest() {
        let lengths = |bytes: u64| {
            let file = FileRecord { bytes, blake3: Digest::of_bytes(b"") };
            (0..bytes.div_ceil(CHUNK) as usize).map(|number| chunk_length(&file, number)).collect::<Vec<_>>()
        };
        assert_eq!(lengths(2 * CHUNK + 5), [CHUNK, CHUNK, 5]);
        assert_eq!(lengths(2 * CHUNK), [CHUNK, CHUNK]);
    }

    /// 32 MiB and a byte: three chunks.
    #[test]
    fn a_long_file_is_sent_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::open(dir.path().join("remote").to_str().unwrap(), true).unwrap();
        let store = toy::store(&dir.path().join("data"));
        let bytes: Vec<u8> = (0..2 * CHUNK + 1).map(|place| b'a' + (place / 1000 % 26) as u8).collect();
        std::fs::write(dir.path().join("long"), &bytes).unwrap();
        let note = toy::NoteConfig { text: format!("copy {}", dir.path().join("long").display()) };
        let notes = store.make::<toy::Note>(&note).unwrap();
        let file = notes.manifest().outputs[std::path::Path::new("notes.txt")].clone();
        let send =
            || push::push(&remote, &notes.open().unwrap(), BTreeMap::new(), "long", &ledger::Progress::new(true)).unwrap().1.sent_objects;
        assert_eq!(send(), 3 + 1 + 1 + 1, "chunks, their list, the label, the list of files");
        assert_eq!(send(), 0);
        let mut read_back = Vec::new();
        read::read(&remote, &file, |part| {
            read_back.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        assert!(read_back == bytes);
        let list = dir.path().join("remote").join(chunk_list(file.blake3));
        assert!(list.is_file(), "{}", list.display());
        std::fs::write(list, "[]").unwrap();
        let error = read::read(&remote, &file, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("missing or damaged"), "{error}");
    }
}
