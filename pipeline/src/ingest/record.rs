//! One line of jsonl, or one row of a Parquet file, to one validated record, or the reason why not.
//!
//! The names of the fields are those of CodeSearchNet; those of the Hub's Parquet conversion and of
//! CodeXGLUE's files stand for the same ([`FIELDS`]).

use std::{borrow::Cow, fmt};

use ledger::{Language, Split};
use serde::{
    Deserialize, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::texts::Texts;

/// A CodeSearchNet record that holds what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub language: Language,
    pub split: Split,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    pub code: String,
    pub code_tokens: Texts,
    pub docstring: String,
    pub docstring_tokens: Texts,
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
    #[error("truncated or corrupt zip")]
    CorruptZip,
    #[error("truncated or corrupt parquet")]
    CorruptParquet,
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
    #[error("repository in another split")]
    SplitLeak,
    #[error("exact duplicate")]
    ExactDuplicate,
    #[error("near duplicate")]
    NearDuplicate,
}

impl Reject {
    /// Is the row as good as one that was taken?
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::ExactDuplicate | Self::NearDuplicate)
    }
}

/// What the place of a record says where the record itself does not: CodeXGLUE's files name neither language
/// nor partition in each line, but are called `python/valid.jsonl`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    pub language: Option<Language>,
    pub split: Option<Split>,
}

impl Hints {
    /// By the words of a path; the last that is known counts. GraphCodeBERT's `codebase.jsonl` holds what is
    /// searched in evaluation, so what is only there belongs to the test split.
    pub fn of(path: &str) -> Self {
        let mut hints = Self::default();
        for word in path.split(|c: char| !c.is_ascii_alphanumeric()) {
            let word = word.to_ascii_lowercase();
            let split = match word.as_str() {
                "train" => Some(Split::Train),
                "valid" | "validation" | "dev" => Some(Split::Valid),
                "test" | "codebase" => Some(Split::Test),
                _ => None,
            };
            hints.split = split.or(hints.split);
            hints.language = word.parse().ok().or(hints.language);
        }
        hints
    }
}

/// The fields of a record before they are checked.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    pub repo: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub func_name: Option<Cow<'a, str>>,
    pub language: Option<Cow<'a, str>>,
    pub code: Option<Cow<'a, str>>,
    pub code_tokens: Option<Texts>,
    pub docstring: Option<Cow<'a, str>>,
    pub docstring_tokens: Option<Texts>,
    pub url: Option<Cow<'a, str>>,
    pub split: Option<Cow<'a, str>>,
}

/// Each field, and its names from the one that is taken first: CodeSearchNet, the Hub, CodeXGLUE.
pub const FIELDS: [(&str, &[&str]); 10] = [
    ("repo", &["repo", "repository_name", "nwo"]),
    ("path", &["path", "func_path_in_repository"]),
    ("func_name", &["func_name", "identifier"]),
    ("language", &["language"]),
    ("code", &["code", "func_code_string", "function"]),
    ("code_tokens", &["code_tokens", "func_code_tokens", "function_tokens"]),
    ("docstring", &["docstring", "func_documentation_string"]),
    ("docstring_tokens", &["docstring_tokens", "func_documentation_tokens"]),
    ("url", &["url", "func_code_url"]),
    ("partition", &["partition", "split_name"]),
];

/// A text that is borrowed from the line where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Reads a JSON object; fields of other names are passed over.
    pub fn of_json(text: &'a str) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = serde::Deserializer::deserialize_map(&mut deserializer, Object)?;
        deserializer.end()?;
        Ok(fields)
    }

    /// Checks what the record promises.
    pub fn check(self, hints: Hints) -> Result<Record, Reject> {
        let text = |name: &'static str, value: Option<Cow<'_, str>>| -> Result<String, Reject> {
            let value = value.ok_or(Reject::MissingField(name))?;
            if value.contains('\0') { Err(Reject::Nul(name)) } else { Ok(value.into_owned()) }
        };
        let list = |name: &'static str, value: Option<Texts>| -> Result<Texts, Reject> {
            let value = value.ok_or(Reject::MissingField(name))?;
            if value.joined().contains('\0') { Err(Reject::Nul(name)) } else { Ok(value) }
        };
        let repo = text("repo", self.repo)?;
        let path = text("path", self.path)?;
        let func_name = text("func_name", self.func_name)?;
        let code = text("code", self.code)?;
        let docstring = text("docstring", self.docstring)?;
        let url = text("url", self.url)?;
        let code_tokens = list("code_tokens", self.code_tokens)?;
        let docstring_tokens = list("docstring_tokens", self.docstring_tokens)?;
        let language = match self.language {
            Some(name) => name.parse().map_err(|_| Reject::UnknownLanguage)?,
            None => hints.language.ok_or(Reject::MissingField("language"))?,
        };
        let split = match self.split {
            Some(name) => match name.as_ref() {
                // The Hub's name for it.
                "validation" => Split::Valid,
                name => name.parse().map_err(|_| Reject::UnknownPartition)?,
            },
            None => hints.split.ok_or(Reject::MissingField("partition"))?,
        };
        if code.trim().is_empty() {
            return Err(Reject::EmptyCode);
        }
        let lines = lines_of(&url);
        Ok(Record { language, split, repo, path, func_name, code, code_tokens, docstring, docstring_tokens, url, lines })
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        // How early in its list of names the value of a field was found.
        let mut ranks = [usize::MAX; FIELDS.len()];
        while let Some(Text(key)) = map.next_key()? {
            let known = FIELDS
                .iter()
                .enumerate()
                .find_map(|(place, (_, names))| Some((place, names.iter().position(|name| *name == key.as_ref())?)));
            let Some((place, rank)) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // An empty value gives way to another name's: some files fill what they do not have.
            let is_better = |ranks: &[usize], old_is_empty: bool, new_is_empty: bool| {
                ranks[place] == usize::MAX || !new_is_empty && (old_is_empty || rank < ranks[place])
            };
            let slot = match place {
                0 => &mut fields.repo,
                1 => &mut fields.path,
                2 => &mut fields.func_name,
                3 => &mut fields.language,
                4 => &mut fields.code,
                6 => &mut fields.docstring,
                8 => &mut fields.url,
                9 => &mut fields.split,
                _ => {
                    let slot = if place == 5 { &mut fields.code_tokens } else { &mut fields.docstring_tokens };
                    let texts: Option<Texts> = map.next_value()?;
                    let old_is_empty = slot.as_ref().is_none_or(|old| old.len() == 0);
                    if texts.as_ref().is_some_and(|new| is_better(&ranks, old_is_empty, new.len() == 0)) {
                        ranks[place] = rank;
                        *slot = texts;
                    }
                    continue;
                }
            };
            if let Some(Text(value)) = map.next_value::<Option<Text<'_>>>()?
                && is_better(&ranks, slot.as_ref().is_none_or(|old| old.is_empty()), value.is_empty())
            {
                ranks[place] = rank;
                *slot = Some(value);
            }
        }
        Ok(fields)
    }
}

/// Validates one line.
pub fn parse(line: &[u8], hints: Hints) -> Result<Record, Reject> {
    let text = std::str::from_utf8(line).map_err(|_| Reject::NotUtf8)?;
    Fields::of_json(text).map_err(|error| diagnose(text, &error))?.check(hints)
}

/// The slow way, for lines that failed: which field, and how.
fn diagnose(text: &str, error: &serde_json::Error) -> Reject {
    if error.to_string().contains("surrogate") || error.to_string().contains("hex escape") {
        return Reject::LoneSurrogate;
    }
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else { return Reject::NotJson };
    for (field, names) in FIELDS {
        for value in names.iter().filter_map(|name| object.get(*name)) {
            let fits = match value {
                Value::Null => true,
                Value::Array(values) => field.ends_with("tokens") && values.iter().all(Value::is_string),
                value => value.is_string() && !field.ends_with("tokens"),
            };
            if !fits {
                return Reject::WrongType(field);
            }
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

    fn read(line: &[u8]) -> Result<Record, Reject> {
        parse(line, Hints::default())
    }

    fn with(field: &str, value: Value) -> Result<Record, Reject> {
        let mut line = good();
        line[field] = value;
        read(line.to_string().as_bytes())
    }

    #[test]
    fn a_good_record_is_read_whole() {
        let record = read(good().to_string().as_bytes()).unwrap();
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
        assert_eq!(read(line.to_string().as_bytes()).unwrap_err(), Reject::MissingField("url"));
        assert_eq!(read(b"{\"repo\": ").unwrap_err(), Reject::NotJson);
        assert_eq!(read(b"[1]").unwrap_err(), Reject::NotJson);
        assert_eq!(read(b"\xff").unwrap_err(), Reject::NotUtf8);
        let surrogate = good().to_string().replace("\"docstring\":\"\"", "\"docstring\":\"\\ud800 x\"");
        assert_eq!(read(surrogate.as_bytes()).unwrap_err(), Reject::LoneSurrogate);
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(read(deep.as_bytes()).unwrap_err(), Reject::NotJson);
    }

    #[test]
    fn other_names_and_places_say_the_same() {
        let hub = json!({
            "repository_name": "o/r", "func_path_in_repository": "a.py", "func_name": "f", "whole_func_string": "def f(): pass",
            "language": "python", "func_code_string": "def f(): pass", "func_code_tokens": ["def"],
            "func_documentation_string": "", "func_documentation_tokens": [], "split_name": "validation",
            "func_code_url": "https://host/o/r/a.py#L3-L9"
        });
        let same = read(good().to_string().as_bytes()).unwrap();
        assert_eq!(read(hub.to_string().as_bytes()).unwrap(), same);

        let mut glue = good();
        for field in ["language", "partition"] {
            glue.as_object_mut().unwrap().remove(field);
        }
        // CodeXGLUE's search set: both names in one line, the first name counts.
        glue["function"] = json!("other");
        glue["identifier"] = json!("f");
        glue["func_name"] = json!("");
        glue["nwo"] = json!("other");
        glue["idx"] = json!(7);
        let glue = glue.to_string();
        assert_eq!(parse(glue.as_bytes(), Hints::of("dataset/python/valid.jsonl")).unwrap(), same);
        assert_eq!(read(glue.as_bytes()).unwrap_err(), Reject::MissingField("language"));
        let hints = Hints::of("CSN/python/final/jsonl/train/python_train_0.jsonl.gz");
        assert_eq!(hints, Hints { language: Some(Language::Python), split: Some(Split::Train) });
        assert_eq!(Hints::of("ruby/codebase.jsonl").split, Some(Split::Test));
        assert_eq!(Hints::of("pythonic/contest.jsonl"), Hints::default());
    }

    #[test]
    fn a_null_is_a_missing_field_and_an_own_field_is_passed_over() {
        assert_eq!(with("url", Value::Null).unwrap_err(), Reject::MissingField("url"));
        assert!(with("embedding", json!([{ "deep": [1, 2] }])).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_cut_line_is_never_a_record(cut in 1usize..250) {
            let text = good().to_string();
            let cut = cut.min(text.len() - 1);
            prop_assert!(read(&text.as_bytes()[..cut]).is_err());
        }
    }
}
