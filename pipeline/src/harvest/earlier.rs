//! The list of source files in an artifact of `harvest`, from which a later run takes the records of unchanged files.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Component, Path, PathBuf},
};

use ledger::{Digest, Language};
use serde::{Deserialize, Serialize};

use super::{
    extraction::{Counts, Extracted, with_sha},
    left_out::LeftOut,
};
use crate::{
    error::{Context, Result},
    repositories::FILES,
};

/// A source file: one line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of all that the records depend on.
    pub key: Digest,
    pub repo: String,
    pub path: String,
    pub language: Language,
    /// Field `sha` of the records.
    pub sha: String,
    #[serde(flatten)]
    pub counts: Counts,
    /// Where the records are; none where there is no record.
    pub member: Option<Member>,
}

/// A gzip member of a data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Relative to the artifact.
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    pub digest: Digest,
}

/// The part of an [`Entry`] that says where the records are.
#[derive(Debug, Deserialize)]
pub struct MemberEntry {
    /// Digest of all that the rows of the records depend on: the field `sha` gives no column.
    pub key: Digest,
    pub repo: String,
    pub path: String,
    pub member: Option<Member>,
}

/// Where the records of the source files are, in the folder of an artifact.
///
/// # Errors
/// The list is missing or damaged.
pub fn member_entries(raw: &Path) -> Result<impl Iterator<Item = Result<MemberEntry>>> {
    let path = raw.join(FILES);
    let damaged = move || format!("{} is missing or damaged: run `codenets verify`, then `codenets run`", path.display());
    let lines = BufReader::new(File::open(raw.join(FILES)).with_context(&damaged)?).lines();
    Ok(lines.map(move |line| serde_json::from_str(&line.with_context(&damaged)?).with_context(&damaged)))
}

/// Writes the list.
pub struct EntriesWriter(BufWriter<File>);

impl EntriesWriter {
    /// Creates the list in the folder of an artifact.
    pub fn create(raw: &Path) -> Result<Self> {
        let path = raw.join(FILES);
        Ok(Self(BufWriter::new(File::create(&path).with_context(|| format!("creating {}", path.display()))?)))
    }

    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        serde_json::to_writer(&mut self.0, entry)?;
        Ok(self.0.write_all(b"\n")?)
    }

    pub fn finish(mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

/// The files of an earlier artifact.
pub struct Earlier {
    dir: PathBuf,
    entries: HashMap<Digest, Entry>,
}

impl Earlier {
    /// The files of an artifact.
    ///
    /// # Errors
    /// The list is missing or damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILES);
        let damaged = || format!("{} is missing or damaged: run `codenets verify`, then `codenets run`", path.display());
        let mut entries = HashMap::new();
        for line in BufReader::new(File::open(&path).with_context(damaged)?).lines() {
            let entry: Entry = serde_json::from_str(&line.with_context(damaged)?).with_context(damaged)?;
            entries.insert(entry.key, entry);
        }
        Ok(Self { dir: dir.to_owned(), entries })
    }

    /// The files of a repository, in the order of their paths.
    pub fn of_repository(&self, name: &str) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().filter(|entry| entry.repo == name).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    /// The records of an unchanged file with this value of their field `sha`; none where the artifact does not have them, or they are damaged.
    pub fn get(&self, key: &Digest, sha: &str) -> Option<Extracted> {
        // A git object that was missing may be there now.
        let is_missing = |entry: &&Entry| entry.counts.skipped.contains_key(&LeftOut::Unreadable.report_key());
        let entry = self.entries.get(key).filter(|entry| !is_missing(entry))?;
        let Extracted { counts, member } = self.records(entry)?;
        let is_other = !member.is_empty() && entry.sha != sha;
        let member = if is_other { with_sha(&member, &entry.sha, sha)? } else { member };
        Some(Extracted { counts, member })
    }

    /// The records of a file of the list; none where they are damaged.
    pub fn records(&self, entry: &Entry) -> Option<Extracted> {
        let member = entry.member.as_ref().map_or(Some(Vec::new()), |member| self.read(member))?;
        Some(Extracted { counts: entry.counts.clone(), member })
    }

    fn read(&self, member: &Member) -> Option<Vec<u8>> {
        let is_inside = Path::new(&member.file).components().all(|part| matches!(part, Component::Normal(_)));
        let path = is_inside.then(|| self.dir.join(&member.file))?;
        let size = fs::metadata(&path).ok()?.len();
        let fits = member.offset.checked_add(member.bytes).is_some_and(|end| end <= size);
        let mut bytes = fits.then(|| vec![0; usize::try_from(member.bytes).unwrap_or_default()])?;
        File::open(&path).ok()?.read_exact_at(&mut bytes, member.offset).ok()?;
        (Digest::of_bytes(&bytes) == member.digest).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str, offset: u64, content: &[u8]) -> Entry {
        let member = Member { file: file.to_owned(), offset, bytes: content.len() as u64, digest: Digest::of_bytes(content) };
        let (key, repo, path) = (Digest::of_bytes(file.as_bytes()), "r".to_owned(), file.to_owned());
        Entry {
            key,
            repo,
            path,
            language: Language::Go,
            sha: String::new(),
            counts: Counts { seen: 3, ..Counts::default() },
            member: Some(member),
        }
    }

    #[test]
    fn records_are_read_unless_they_are_damaged_or_outside() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        fs::create_dir(&raw).unwrap();
        fs::write(raw.join("a.gz"), b"0123456789").unwrap();
        fs::write(dir.path().join("secret"), b"0123456789").unwrap();
        let entries = [entry("a.gz", 2, b"2345"), entry("b.gz", 0, b"0"), entry("../secret", 0, b"0"), entry("./a.gz", 7, b"other")];
        let mut writer = EntriesWriter::create(&raw).unwrap();
        entries.iter().for_each(|entry| writer.write(entry).unwrap());
        writer.finish().unwrap();
        assert!(Earlier::open(dir.path()).is_err());
        let earlier = Earlier::open(&raw).unwrap();
        let found: Vec<Option<Vec<u8>>> = entries.iter().map(|entry| Some(earlier.get(&entry.key, "")?.member)).collect();
        assert_eq!(found, [Some(b"2345".to_vec()), None, None, None]);
        assert_eq!(earlier.get(&entries[0].key, "").unwrap().counts.seen, 3);
        fs::write(raw.join("a.gz"), b"01234").unwrap();
        assert!(earlier.get(&entries[0].key, "").is_none(), "cut short");
    }
}
