//! A line of JSON or a row of a Parquet file as a checked record.

use std::borrow::Cow;

use ledger::{Language, Split};
use serde_json::Value;

use super::{
    fields::{FIELDS, Fields},
    hints::Hints,
    numbers,
    reject::Reject,
    text_list::TextList,
};
use crate::functions::{self, Dialect, documentation};

/// Position of the documentation in [`FIELDS`].
const DOCSTRING: usize = 6;

/// A CodeSearchNet record whose fields are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub language: Language,
    pub split: Split,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    pub code: String,
    pub code_tokens: TextList,
    pub docstring: String,
    pub docstring_tokens: TextList,
    pub url: String,
    /// First and last line of the function, from 1, as the url names them.
    pub lines: Option<(u32, u32)>,
    /// Were fields without a value derived from others?
    pub derived: bool,
}

impl Record {
    /// Checks the fields of a record. `hints` fill in a missing language and split. A field without a value is derived where another
    /// determines it: code tokens from the code, the documentation and its tokens from each other.
    pub fn from_fields(fields: Fields<'_>, hints: Hints) -> Result<Record, Reject> {
        let text = |name: &'static str, value: Option<Cow<'_, str>>| -> Result<String, Reject> {
            let value = value.ok_or(Reject::MissingField(name))?;
            if value.contains('\0') { Err(Reject::Nul(name)) } else { Ok(value.into_owned()) }
        };
        let list = |name: &'static str, value: TextList| -> Result<TextList, Reject> {
            if value.joined().contains('\0') { Err(Reject::Nul(name)) } else { Ok(value) }
        };
        let repo = text("repo", fields.repo)?;
        let path = text("path", fields.path)?;
        let func_name = text("func_name", fields.func_name)?;
        let code = text("code", fields.code)?;
        let url = text("url", fields.url)?;
        let language = match fields.language {
            Some(name) => name.to_lowercase().parse().map_err(|_| Reject::UnknownLanguage)?,
            None => hints.language.ok_or(Reject::MissingField("language"))?,
        };
        let split = match fields.split {
            Some(name) => match name.to_lowercase().as_str() {
                // The Hub's name of the split.
                "validation" => Split::Valid,
                name => name.parse().map_err(|_| Reject::UnknownPartition)?,
            },
            None => hints.split.ok_or(Reject::MissingField("partition"))?,
        };
        if code.trim().is_empty() {
            return Err(Reject::EmptyCode);
        }
        let derived = fields.code_tokens.is_none() || fields.docstring.is_none() || fields.docstring_tokens.is_none();
        let code_tokens =
            fields.code_tokens.unwrap_or_else(|| functions::tokens_of_snippet(language, &code).iter().map(String::as_str).collect());
        let (docstring, docstring_tokens) = match (fields.docstring, fields.docstring_tokens) {
            (Some(docstring), Some(tokens)) => (docstring.into_owned(), tokens),
            (Some(docstring), None) => {
                let tokens = documentation::tokens(documentation::summary(&docstring, Dialect::Plain));
                (docstring.into_owned(), tokens.iter().map(String::as_str).collect())
            }
            (None, Some(tokens)) => (tokens.iter().collect::<Vec<_>>().join(" "), tokens),
            // A null says that the function has no documentation. Where no name is known, the documentation has another one.
            (None, None) if fields.named[DOCSTRING] => Default::default(),
            (None, None) => return Err(Reject::MissingField("docstring")),
        };
        let docstring = text("docstring", Some(docstring.into()))?;
        let code_tokens = list("code_tokens", code_tokens)?;
        let docstring_tokens = list("docstring_tokens", docstring_tokens)?;
        let lines = lines_of(&url);
        Ok(Record { language, split, repo, path, func_name, code, code_tokens, docstring, docstring_tokens, url, lines, derived })
    }
}

/// Reads and checks one line of JSON.
pub fn parse(line: &[u8], hints: Hints) -> Result<Record, Reject> {
    let text = std::str::from_utf8(line).map_err(|_| Reject::NotUtf8)?;
    let error = match Fields::of_json(text) {
        Ok(fields) => return Record::from_fields(fields, hints),
        Err(error) => error,
    };
    // Python writes numbers that JSON does not have.
    match numbers::as_null(text) {
        Some(text) => Record::from_fields(Fields::of_json(&text).map_err(|error| diagnose(&text, &error))?, hints),
        None => Err(diagnose(text, &error)),
    }
}

/// Finds the reason why a line could not be read: which field, and what is wrong with it.
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
    fn every_field_of_a_record_is_read() {
        let record = read(good().to_string().as_bytes()).unwrap();
        assert_eq!(with("language", json!("Python")).unwrap().language, Language::Python);
        assert_eq!((record.language, record.split, record.lines), (Language::Python, Split::Valid, Some((3, 9))));
    }

    #[test]
    fn each_invalid_value_has_its_own_reason() {
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
    fn the_names_of_the_hub_give_the_same_record() {
        let hub = json!({
            "repository_name": "o/r", "func_path_in_repository": "a.py", "func_name": "f", "whole_func_string": "def f(): pass",
            "language": "python", "func_code_string": "def f(): pass", "func_code_tokens": ["def"],
            "func_documentation_string": "", "func_documentation_tokens": [], "split_name": "validation",
            "func_code_url": "https://host/o/r/a.py#L3-L9"
        });
        let same = read(good().to_string().as_bytes()).unwrap();
        assert_eq!(read(hub.to_string().as_bytes()).unwrap(), same);
    }

    #[test]
    fn the_path_of_a_codexglue_file_names_language_and_split() {
        let mut glue = good();
        for field in ["language", "partition"] {
            glue.as_object_mut().unwrap().remove(field);
        }
        // CodeXGLUE's candidates: one line has two names for a field, and the first name counts.
        glue["function"] = json!("other");
        glue["identifier"] = json!("f");
        glue["func_name"] = json!("");
        glue["nwo"] = json!("other");
        glue["idx"] = json!(7);
        let glue = glue.to_string();
        let same = read(good().to_string().as_bytes()).unwrap();
        assert_eq!(parse(glue.as_bytes(), Hints::of("dataset/python/valid.jsonl")).unwrap(), same);
        assert_eq!(read(glue.as_bytes()).unwrap_err(), Reject::MissingField("language"));
    }

    #[test]
    fn fields_without_a_value_are_derived_where_another_determines_them() {
        let tokens = |list: &TextList| list.iter().collect::<Vec<_>>().join(" ");
        let record = with("code_tokens", Value::Null).unwrap();
        assert_eq!((tokens(&record.code_tokens).as_str(), record.derived), ("def f ( ) : pass", true));
        let of = |docstring: Value, docstring_tokens: Value| {
            let mut line = good();
            (line["docstring"], line["docstring_tokens"]) = (docstring, docstring_tokens);
            let record = read(line.to_string().as_bytes()).unwrap();
            (record.docstring.clone(), tokens(&record.docstring_tokens))
        };
        assert_eq!(of(json!("Opens it.\n\nMore."), Value::Null), ("Opens it.\n\nMore.".to_owned(), "Opens it .".to_owned()));
        assert_eq!(of(Value::Null, json!(["Opens", "it"])), ("Opens it".to_owned(), "Opens it".to_owned()));
        assert_eq!(of(Value::Null, Value::Null), Default::default());
        assert!(!read(good().to_string().as_bytes()).unwrap().derived);
        let mut other = good();
        for field in ["docstring", "docstring_tokens"] {
            other.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(read(other.to_string().as_bytes()).unwrap_err(), Reject::MissingField("docstring"), "it may have another name");
    }

    #[test]
    fn numbers_that_only_python_writes_are_null() {
        let line = good().to_string().replace("\"docstring\":\"\"", "\"docstring\":NaN,\"score\":-Infinity");
        assert_eq!(read(line.as_bytes()).unwrap().docstring, "");
        let line = good().to_string().replace("\"docstring\":\"\"", "\"docstring\":\"NaN, Infinity\",\"x\":[NaN]");
        assert_eq!(read(line.as_bytes()).unwrap().docstring, "NaN, Infinity");
        assert_eq!(
            read(good().to_string().replace("\"def f(): pass\",\"code_tokens", "NaN,\"code_tokens").as_bytes()).unwrap_err(),
            Reject::MissingField("code")
        );
        assert_eq!(read(b"{\"repo\": NaN").unwrap_err(), Reject::NotJson);
    }

    #[test]
    fn null_is_a_missing_field_and_unknown_fields_are_ignored() {
        assert_eq!(with("url", Value::Null).unwrap_err(), Reject::MissingField("url"));
        assert!(with("embedding", json!([{ "deep": [1, 2] }])).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_truncated_line_is_not_a_record(cut in 1usize..250) {
            let text = good().to_string();
            let cut = cut.min(text.len() - 1);
            prop_assert!(read(&text.as_bytes()[..cut]).is_err());
        }
    }
}
