//! The fields of a record before they are checked, and the names that the layouts give them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::text_list::TextList;

/// The fields of a record before they are checked.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    pub repo: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub func_name: Option<Cow<'a, str>>,
    pub language: Option<Cow<'a, str>>,
    pub code: Option<Cow<'a, str>>,
    pub code_tokens: Option<TextList>,
    pub docstring: Option<Cow<'a, str>>,
    pub docstring_tokens: Option<TextList>,
    pub url: Option<Cow<'a, str>>,
    pub split: Option<Cow<'a, str>>,
    /// Fields that the record has, also those without a value, by their position in [`FIELDS`].
    pub named: [bool; FIELDS.len()],
}

/// Each field and its names, in order of preference: CodeSearchNet, the Hub, CodeXGLUE.
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

/// A text, borrowed from the line unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Reads a JSON object; fields with other names are ignored.
    pub fn of_json(text: &'a str) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = serde::Deserializer::deserialize_map(&mut deserializer, FieldsVisitor)?;
        deserializer.end()?;
        Ok(fields)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        // Rank of the name that gave each field its value; 0 is preferred.
        let mut ranks = [usize::MAX; FIELDS.len()];
        while let Some(Text(key)) = map.next_key()? {
            let known = FIELDS
                .iter()
                .enumerate()
                .find_map(|(index, (_, names))| Some((index, names.iter().position(|name| *name == key.as_ref())?)));
            let Some((index, rank)) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            fields.named[index] = true;
            // A value of another name replaces an empty one: some files write empty fields.
            let is_better = |ranks: &[usize], old_is_empty: bool, new_is_empty: bool| {
                ranks[index] == usize::MAX || !new_is_empty && (old_is_empty || rank < ranks[index])
            };
            let slot = match index {
                0 => &mut fields.repo,
                1 => &mut fields.path,
                2 => &mut fields.func_name,
                3 => &mut fields.language,
                4 => &mut fields.code,
                6 => &mut fields.docstring,
                8 => &mut fields.url,
                9 => &mut fields.split,
                _ => {
                    let slot = if index == 5 { &mut fields.code_tokens } else { &mut fields.docstring_tokens };
                    let texts: Option<TextList> = map.next_value()?;
                    let old_is_empty = slot.as_ref().is_none_or(TextList::is_empty);
                    if texts.as_ref().is_some_and(|new| is_better(&ranks, old_is_empty, new.is_empty())) {
                        ranks[index] = rank;
                        *slot = texts;
                    }
                    continue;
                }
            };
            if let Some(Text(value)) = map.next_value::<Option<Text<'_>>>()?
                && is_better(&ranks, slot.as_ref().is_none_or(|old| old.is_empty()), value.is_empty())
            {
                ranks[index] = rank;
                *slot = Some(value);
            }
        }
        Ok(fields)
    }
}
