//! Records of a source file, and how many there are: what an artifact of `harvest` holds for the file.

use std::{collections::BTreeMap, io::Read};

use flate2::read::GzDecoder;
use ledger::{Digest, Split};
use serde::{Deserialize, Serialize};

use super::{
    config::Config,
    content::{content_of, filter},
    layout::{self, Record},
    source_file::SourceFile,
};
use crate::{error::Result, repositories::Repo};

/// Most bytes of the records of a source file.
const MAX_RECORDS: u64 = 1 << 30;

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

/// The digest of all that the records of a file depend on, but their field `sha`, which [`with_sha`] replaces. `settings`: of [`settings`].
pub fn key(repo: &Repo, split: Split, file: &SourceFile, settings: &Digest) -> Result<Digest> {
    let settings = settings.to_string();
    Ok(Digest::of(&[&repo.name, &repo.url_prefix, split.name(), &file.path, file.language.name(), &file.content, &settings])?)
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
            sha: &repo.sha,
            url: &format!("{}{}#L{first}-L{last}", repo.url_prefix, file.path),
            partition: split,
        };
        serde_json::to_writer(&mut lines, &record)?;
        lines.push(b'\n');
    }
    let member = if lines.is_empty() { Vec::new() } else { layout::member(&lines)? };
    Ok(Extracted { counts, member })
}

/// The member with another value of the field `sha` in each record; none where it is damaged. No text of a record holds the pattern: its
/// quotes are escaped there.
pub fn with_sha(member: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let mut lines = String::new();
    GzDecoder::new(member).take(MAX_RECORDS).read_to_string(&mut lines).ok()?;
    let field = |sha: &str| Some(format!(",\"sha\":{},\"url\":\"", serde_json::to_string(sha).ok()?));
    layout::member(lines.replace(&field(old)?, &field(new)?).as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_field_sha_of_each_record_is_replaced() {
        let line = |sha: &str| {
            let text = "x = ',\"sha\":\"old\",\"url\":\"'";
            format!("{{\"code\":{},\"sha\":\"{sha}\",\"url\":\"u\"}}\n", serde_json::to_string(text).unwrap())
        };
        let member = |sha: &str| layout::member((line(sha) + &line(sha)).as_bytes()).unwrap();
        assert_eq!(with_sha(&member("old"), "old", "new").unwrap(), member("new"));
        assert_eq!(with_sha(b"no gzip", "old", "new"), None);
    }
}
