//! One line of jsonl to one validated record, or the reason why not.

use ledger::{Language, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A CodeSearchNet record that holds what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub language: Language,
    pub split: Split,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    pub code: String,
    pub code_tokens: Vec<String>,
    pub docstring: String,
    pub docstring_tokens: Vec<String>,
    pub url: String,
    pub lines: Option<(u32, u32)>,
}

/// Why a line, a file or a row is not taken. The text goes into `rejects.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("unknown file type")]
    UnknownFileType,
    #[error("empty file")]
    EmptyFile,
    #[error("not gzip")]
    NotGzip,
    #[error("gzip under a plain name")]
    UnexpectedGzip,
    #[error("truncated or corrupt gzip")]
    CorruptGzip,
    #[error("line too long")]
    LineTooLong,
    #[error("not utf-8")]
    NotUtf8,
    #[error("not json")]
    NotJson,
    #[error("lone surrogate")]
    LoneSurrogate,
    #[error("missing field {0}")]
    MissingField(&'static str),
    #[error("wrong type of {0}")]
    WrongType(&'static str),
    #[error("nul in {0}")]
    Nul(&'static str),
    #[error("unknown language")]
    UnknownLanguage,
    #[error("unknown partition")]
    UnknownPartition,
    #[error("empty code")]
    EmptyCode,
    #[error("exact duplicate")]
    ExactDuplicate,
    #[error("near duplicate")]
    NearDuplicate,
}

impl Reject {
    /// The reason without its field, for counting.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::ExactDuplicate | Self::NearDuplicate)
    }
}

/// The record as serde reads it, the fast way.
#[derive(Deserialize)]
struct Line {
    repo: String,
    path: String,
    func_name: String,
    language: String,
    code: String,
    code_tokens: Vec<String>,
    docstring: String,
    docstring_tokens: Vec<String>,
    url: String,
    partition: String,
}

const TEXTS: [&str; 8] = ["repo", "path", "func_name", "language", "code", "docstring", "url", "partition"];
const LISTS: [&str; 2] = ["code_tokens", "docstring_tokens"];

/// Validates one line.
pub fn parse(line: &[u8]) -> Result<Record, Reject> {
    let text = std::str::from_utf8(line).map_err(|_| Reject::NotUtf8)?;
    let line: Line = serde_json::from_str(text).map_err(|error| diagnose(text, &error))?;
    for (field, value) in [
        ("repo", &line.repo),
        ("path", &line.path),
        ("func_name", &line.func_name),
        ("code", &line.code),
        ("docstring", &line.docstring),
        ("url", &line.url),
    ] {
        if value.contains('\0') {
            return Err(Reject::Nul(field));
        }
    }
    for (field, values) in [("code_tokens", &line.code_tokens), ("docstring_tokens", &line.docstring_tokens)] {
        if values.iter().any(|value| value.contains('\0')) {
            return Err(Reject::Nul(field));
        }
    }
    let language = line.language.parse().map_err(|_| Reject::UnknownLanguage)?;
    let split = line.partition.parse().map_err(|_| Reject::UnknownPartition)?;
    if line.code.trim().is_empty() {
        return Err(Reject::EmptyCode);
    }
    let lines = lines_of(&line.url);
    Ok(Record {
        language,
        split,
        repo: line.repo,
        path: line.path,
        func_name: line.func_name,
        code: line.code,
        code_tokens: line.code_tokens,
        docstring: line.docstring,
        docstring_tokens: line.docstring_tokens,
        url: line.url,
        lines,
    })
}

/// The slow way, for lines that failed: which field, and how.
fn diagnose(text: &str, error: &serde_json::Error) -> Reject {
    if error.to_string().contains("surrogate") || error.to_string().contains("hex escape") {
        return Reject::LoneSurrogate;
    }
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return Reject::NotJson };
    for field in TEXTS {
        match fields.get(field) {
            None => return Reject::MissingField(field),
            Some(Value::String(_)) => {}
            Some(_) => return Reject::WrongType(field),
        }
    }
    for field in LISTS {
        match fields.get(field) {
            None => return Reject::MissingField(field),
            Some(Value::Array(values)) if values.iter().all(Value::is_string) => {}
            Some(_) => return Reject::WrongType(field),
        }
    }
    Reject::NotJson
}

/// `…#L10-L20` or `…#L10`.
fn lines_of(url: &str) -> Option<(u32, u32)> {
    let range = url.rsplit_once("#L")?.1;
    let (first, last) = range.split_once("-L").unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Counts of reasons, for the report.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reasons(pub std::collections::BTreeMap<String, u64>);

impl Reasons {
    pub fn count(&mut self, reject: &Reject) {
        *self.0.entry(reject.to_string()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "repo": "o/r", "path": "a.py", "func_name": "f", "original_string": "def f(): pass", "language": "python",
            "code": "def f(): pass", "code_tokens": ["def"], "docstring": "", "docstring_tokens": [], "sha": "0",
            "url": "https://host/o/r/a.py#L3-L9", "partition": "valid"
        })
    }

    fn with(field: &str, value: Value) -> Result<Record, Reject> {
        let mut line = good();
        line[field] = value;
        parse(line.to_string().as_bytes())
    }

    #[test]
    fn a_good_record_is_read_whole() {
        let record = parse(good().to_string().as_bytes()).unwrap();
        assert_eq!((record.language, record.split, record.lines), (Language::Python, Split::Valid, Some((3, 9))));
    }

    #[test]
    fn every_kind_of_bad_line_has_its_reason() {
        assert_eq!(with("language", json!("cobol")).unwrap_err(), Reject::UnknownLanguage);
        assert_eq!(with("partition", json!("dev")).unwrap_err(), Reject::UnknownPartition);
        assert_eq!(with("code", json!(" \n")).unwrap_err(), Reject::EmptyCode);
        assert_eq!(with("code", json!("a\u{0}b")).unwrap_err(), Reject::Nul("code"));
        assert_eq!(with("code", json!(["x"])).unwrap_err(), Reject::WrongType("code"));
        assert_eq!(with("code_tokens", json!("x")).unwrap_err(), Reject::WrongType("code_tokens"));
        let mut line = good();
        line.as_object_mut().unwrap().remove("url");
        assert_eq!(parse(line.to_string().as_bytes()).unwrap_err(), Reject::MissingField("url"));
        assert_eq!(parse(b"{\"repo\": ").unwrap_err(), Reject::NotJson);
        assert_eq!(parse(b"[1]").unwrap_err(), Reject::NotJson);
        assert_eq!(parse(b"\xff").unwrap_err(), Reject::NotUtf8);
        let surrogate = good().to_string().replace("\"docstring\":\"\"", "\"docstring\":\"\\ud800 x\"");
        assert_eq!(parse(surrogate.as_bytes()).unwrap_err(), Reject::LoneSurrogate);
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(parse(deep.as_bytes()).unwrap_err(), Reject::NotJson);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_cut_line_is_never_a_record(cut in 1usize..250) {
            let text = good().to_string();
            let cut = cut.min(text.len() - 1);
            prop_assert!(parse(&text.as_bytes()[..cut]).is_err());
        }
    }
}
