//! Where the records of each source file are in the raw files: gzip members, which `harvest` lists.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use ledger::table::RowDigest;

use super::buckets::{Buckets, ShardKey};
use crate::{
    error::{Context, Result},
    harvest::member_entries,
    records::{FREE_BYTES, Hints, MAX_RATIO},
    repositories::{FILES, REPOS},
};

/// The records of a source file.
#[derive(Debug)]
pub struct Member {
    /// Equal for members with equal rows: a commit that leaves the file alone changes the bytes of its records, and no row.
    pub digest: RowDigest,
    /// Bytes of the raw file.
    pub offset: u64,
    pub bytes: u64,
    /// Bytes of the records.
    pub unpacked: u64,
    /// The shard that all of its rows are in.
    pub shard: ShardKey,
}

/// The members of all raw files, by file, in their order.
#[derive(Debug)]
pub struct Members(BTreeMap<PathBuf, Vec<Member>>);

impl Members {
    /// The members of an artifact of `harvest`; none unless all of its data files consist of listed members.
    ///
    /// # Errors
    /// The list is damaged, or a file cannot be read.
    pub fn read(raw: &Path, files: &[PathBuf], buckets: Buckets) -> Result<Option<Self>> {
        let mut members: BTreeMap<PathBuf, Vec<Member>> = BTreeMap::new();
        if !files.iter().any(|file| file.as_os_str() == FILES) {
            return Ok(None);
        }
        for entry in member_entries(raw)? {
            let entry = entry?;
            let Some(member) = entry.member else { continue };
            let Some(split) = Hints::of(&member.file).split else { return Ok(None) };
            let shard = (split, buckets.of(&entry.repo, &entry.path));
            let member_of_file = Member { digest: entry.key.half(), offset: member.offset, bytes: member.bytes, unpacked: 0, shard };
            members.entry(member.file.into()).or_default().push(member_of_file);
        }
        for file in files.iter().filter(|file| [REPOS, FILES].iter().all(|name| file.as_os_str() != *name)) {
            let Some(members) = members.get_mut(file) else { return Ok(None) };
            members.sort_by_key(|member| member.offset);
            let path = raw.join(file);
            let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
            if !fill(&file, members).with_context(|| format!("reading {}", path.display()))? {
                return Ok(None);
            }
        }
        Ok(Some(Self(members)))
    }

    /// The members of a file.
    pub fn of(&self, file: &Path) -> &[Member] {
        self.0.get(file).map(Vec::as_slice).unwrap_or_default()
    }

    /// The members of all files, in the order in which they are read.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.values().flatten()
    }
}

/// Do the members cover the file, so that no part of it holds too much for its size? Reads their unpacked sizes: the last four bytes of a
/// gzip member (RFC 1952).
fn fill(file: &File, members: &mut [Member]) -> std::io::Result<bool> {
    let (mut end, length) = (0, file.metadata()?.len());
    // Unpacked bytes beyond those that the compressed bytes allow, of the members up to the last one that end here.
    let mut excess = 0u64;
    for member in members {
        let next = member.offset.checked_add(member.bytes).filter(|next| member.offset == end && member.bytes >= 4 && *next <= length);
        let Some(next) = next else { return Ok(false) };
        let mut size = [0; 4];
        file.read_exact_at(&mut size, next - 4)?;
        (member.unpacked, end) = (u64::from(u32::from_le_bytes(size)), next);
        excess = (excess + member.unpacked).saturating_sub(member.bytes.saturating_mul(MAX_RATIO));
        if excess > FREE_BYTES {
            return Ok(false);
        }
    }
    Ok(end == length)
}
