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
    extraction::{Counts, Extracted},
    left_out::LeftOut,
};
use crate::{
    error::{Context, Result},
    repositories::FILES,
};

/// First line of the list.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// Digest of the settings that all records depend on.
    settings: Digest,
}

/// A source file: one line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of all that the records depend on.
    pub key: Digest,
    pub repo: String,
    pub path: String,
    pub language: Language,
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

/// Writes the list.
pub struct EntriesWriter(BufWriter<File>);

impl EntriesWriter {
    /// Creates the list in the folder of an artifact.
    pub fn create(raw: &Path, settings: Digest) -> Result<Self> {
        let path = raw.join(FILES);
        let mut file = BufWriter::new(File::create(&path).with_context(|| format!("creating {}", path.display()))?);
        writeln!(file, "{}", serde_json::to_string(&Head { settings })?)?;
        Ok(Self(file))
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
    /// The files of an artifact that was made with these settings; none where it has other settings or no readable list.
    pub fn open(dir: &Path, settings: Digest) -> Option<Self> {
        let mut lines = BufReader::new(File::open(dir.join(FILES)).ok()?).lines();
        let head: Head = serde_json::from_str(&lines.next()?.ok()?).ok()?;
        if head != (Head { settings }) {
            return None;
        }
        let entries =
            lines.map(|line| serde_json::from_str(&line.ok()?).ok()).map(|entry: Option<Entry>| Some((entry.as_ref()?.key, entry?)));
        Some(Self { dir: dir.to_owned(), entries: entries.collect::<Option<_>>()? })
    }

    /// The files of any artifact of `harvest`.
    ///
    /// # Errors
    /// The list is missing or damaged.
    pub fn of_artifact(dir: &Path) -> Result<Self> {
        let path = dir.join(FILES);
        let damaged = || format!("{} is missing or damaged: correct harvest.kept, or run `codenets nightly`", path.display());
        let head = File::open(&path).ok().and_then(|file| BufReader::new(file).lines().next()?.ok()).with_context(damaged)?;
        let head: Head = serde_json::from_str(&head).with_context(damaged)?;
        Self::open(dir, head.settings).with_context(damaged)
    }

    /// The files of a repository, in the order of their paths.
    pub fn of_repository(&self, name: &str) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().filter(|entry| entry.repo == name).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    /// The records of a file; none where the artifact does not have them, or they are damaged.
    pub fn get(&self, key: &Digest) -> Option<Extracted> {
        // A git object that was missing may be there now.
        let is_missing = |entry: &&Entry| entry.counts.skipped.contains_key(&LeftOut::Unreadable.report_key());
        let entry = self.entries.get(key).filter(|entry| !is_missing(entry))?;
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
        Entry { key, repo, path, language: Language::Go, counts: Counts { seen: 3, ..Counts::default() }, member: Some(member) }
    }

    #[test]
    fn records_are_read_with_the_same_settings_only_and_unless_they_are_damaged_or_outside() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        fs::create_dir(&raw).unwrap();
        fs::write(raw.join("a.gz"), b"0123456789").unwrap();
        fs::write(dir.path().join("secret"), b"0123456789").unwrap();
        let settings = Digest::of_bytes(b"settings");
        let entries = [entry("a.gz", 2, b"2345"), entry("b.gz", 0, b"0"), entry("../secret", 0, b"0"), entry("./a.gz", 7, b"other")];
        let mut writer = EntriesWriter::create(&raw, settings).unwrap();
        entries.iter().for_each(|entry| writer.write(entry).unwrap());
        writer.finish().unwrap();
        assert!(Earlier::open(&raw, Digest::of_bytes(b"other")).is_none());
        let earlier = Earlier::open(&raw, settings).unwrap();
        let found: Vec<Option<Vec<u8>>> = entries.iter().map(|entry| Some(earlier.get(&entry.key)?.member)).collect();
        assert_eq!(found, [Some(b"2345".to_vec()), None, None, None]);
        assert_eq!(earlier.get(&entries[0].key).unwrap().counts.seen, 3);
        fs::write(raw.join("a.gz"), b"01234").unwrap();
        assert!(earlier.get(&entries[0].key).is_none(), "cut short");
    }
}
