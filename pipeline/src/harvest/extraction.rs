//! Records of a source file, and how many there are: what an artifact of `harvest` holds for the file.

use std::collections::BTreeMap;

use gix::objs::Kind;
use ledger::{Digest, Split};
use serde::{Deserialize, Serialize};

use super::{
    config::Config,
    content::{content_of, filter},
    layout::{self, Record},
    source_file::SourceFile,
};
use crate::{error::Result, repositories::Repo};

/// What was found in a source file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Functions of the file.
    pub seen: u64,
    /// Functions that are written.
    pub functions: u64,
    /// Functions that are written and have documentation.
    pub documented: u64,
    /// What was left out, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// The records of a source file.
pub struct Extracted {
    pub counts: Counts,
    /// A gzip member with the records; empty where no function is written.
    pub member: Vec<u8>,
}

/// The digest of all that the records of a file depend on. `settings`: of [`settings`].
pub fn key(repo: &Repo, split: Split, file: &SourceFile, settings: &Digest) -> Result<Digest> {
    let settings = settings.to_string();
    let sha = file.sha.as_deref().unwrap_or_default();
    Ok(Digest::of(&[&repo.name, &repo.url_prefix, split.name(), &file.path, file.language.name(), &file.content, sha, &settings])?)
}

/// The digest of the settings that the records of a file depend on.
pub fn settings(config: &Config, revision: u32) -> Result<Digest> {
    let Config { languages, keep_undocumented, dialect, min_documentation_tokens, min_lines, max_mean_line_bytes, .. } = config;
    Ok(Digest::of(&(revision, languages, keep_undocumented, dialect, min_documentation_tokens, min_lines, max_mean_line_bytes))?)
}

/// Extracts the functions of a file.
pub fn extract(repo: &Repo, split: Split, file: &SourceFile, config: &Config) -> Result<Extracted> {
    let found = filter(content_of(file, config), config);
    let mut counts = Counts { seen: found.seen, ..Counts::default() };
    for reason in found.skipped {
        *counts.skipped.entry(reason.into_owned()).or_default() += 1;
    }
    let sha = match &file.sha {
        Some(sha) => sha.clone(),
        None => blob_id(&file.bytes.get().unwrap_or_default())?,
    };
    let mut lines = Vec::new();
    for accepted in found.accepted {
        let function = &accepted.function;
        counts.functions += 1;
        counts.documented += u64::from(!accepted.docstring_tokens.is_empty());
        let (first, last) = function.lines;
        let record = Record {
            repo: &repo.name,
            path: &file.path,
            func_name: &function.name,
            original_string: &function.code,
            language: file.language,
            code: &function.code,
            code_tokens: &function.code_tokens,
            docstring: &function.docstring,
            docstring_tokens: &accepted.docstring_tokens,
            sha: &sha,
            url: &format!("{}{}#L{first}-L{last}", repo.url_prefix, file.path),
            partition: split,
        };
        serde_json::to_writer(&mut lines, &record)?;
        lines.push(b'\n');
    }
    let member = if lines.is_empty() { Vec::new() } else { layout::member(&lines)? };
    Ok(Extracted { counts, member })
}

/// The id that git gives to a file with these bytes.
fn blob_id(bytes: &[u8]) -> Result<String> {
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, bytes);
    Ok(id.map_err(|error| ledger::Invalid(error.to_string()))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_file_is_the_one_that_git_gives() {
        assert_eq!(blob_id(b"hello\n").unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
