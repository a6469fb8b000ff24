//! Source files of a repository, before functions are extracted.

use std::{borrow::Cow, sync::Arc};

use gix::ObjectId;
use ledger::Language;

use super::{left_out::LeftOut, revision::Revision};

/// A source file of a repository.
pub struct SourceFile {
    pub path: String,
    pub language: Language,
    /// Digest of the bytes.
    pub content: String,
    pub bytes: FileBytes,
}

/// The bytes of a source file.
pub enum FileBytes {
    Read(Vec<u8>),
    /// A git object, which is read where the bytes are needed.
    Object {
        revision: Arc<Revision>,
        id: ObjectId,
        max_bytes: u64,
    },
}

impl FileBytes {
    /// The bytes; none where a git object is missing or damaged.
    pub fn get(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Read(bytes) => Some(Cow::Borrowed(bytes)),
            Self::Object { revision, id, max_bytes } => revision.bytes(*id, *max_bytes).map(Cow::Owned),
        }
    }
}

/// The files of a repository.
#[derive(Default)]
pub struct RepoFiles {
    /// Sorted by path.
    pub files: Vec<SourceFile>,
    /// Paths that are not read. Empty unless the reader lists them.
    pub left_out: Vec<(String, LeftOut)>,
}
