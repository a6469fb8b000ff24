//! GraphCodeBERT's layout: `valid.jsonl` and `test.jsonl` have queries without code, `codebase.jsonl` has code without
//! documentation. Rows with the same url belong together.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    error::Result,
    records::{Content, Fields, Record, TextList, read_documents},
};

/// The queries of one folder.
#[derive(Default)]
pub struct CodebaseQueries {
    folder: Option<PathBuf>,
    /// Docstring and its tokens, by url.
    documentation: HashMap<String, (String, TextList)>,
}

const CODEBASE: &str = "codebase.jsonl";

impl CodebaseQueries {
    /// Reads the queries of the folder of `file`, if the folder has a codebase and was not read last. There are only some
    /// thousand queries per language.
    pub fn read_folder_of(&mut self, root: &Path, file: &Path, max_line_bytes: usize) -> Result<()> {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        if self.folder.as_ref() == Some(&folder) {
            return Ok(());
        }
        self.documentation.clear();
        let path = |name: &str| root.join(&folder).join(name);
        let mut codes = HashSet::new();
        if path(CODEBASE).is_file() {
            fields_of(&path(CODEBASE), max_line_bytes, &mut |fields| {
                let lacks_docstring = fields.docstring.as_ref().is_some_and(|text| text.is_empty())
                    && fields.code.as_ref().is_some_and(|code| !code.trim().is_empty());
                codes.extend(fields.url.filter(|_| lacks_docstring).map(Cow::into_owned));
            })?;
            for name in ["valid.jsonl", "test.jsonl"].into_iter().filter(|name| path(name).is_file()) {
                fields_of(&path(name), max_line_bytes, &mut |fields| {
                    let Fields { code: Some(code), docstring: Some(text), docstring_tokens: Some(tokens), url: Some(url), .. } = fields
                    else {
                        return;
                    };
                    let is_clean = !text.contains('\0') && !tokens.joined().contains('\0');
                    // The first query of a url is joined. A later one is rejected as a row without code.
                    if code.is_empty() && is_clean && codes.remove(url.as_ref()) {
                        self.documentation.insert(url.into_owned(), (text.into_owned(), tokens));
                    }
                })?;
            }
        }
        self.folder = Some(folder);
        Ok(())
    }

    /// Adds the documentation to a row of the codebase.
    pub fn complete(&self, document: &str, record: &mut Record) {
        if document.ends_with(CODEBASE)
            && record.docstring.is_empty()
            && let Some((text, tokens)) = self.documentation.get(&record.url)
        {
            record.docstring.clone_from(text);
            record.docstring_tokens.clone_from(tokens);
        }
    }

    /// Is this line without code a query whose code is in the codebase?
    pub fn contains(&self, line: &[u8]) -> bool {
        let fields = std::str::from_utf8(line).ok().and_then(|text| Fields::of_json(text).ok());
        fields.is_some_and(|fields| {
            let known = fields.url.and_then(|url| self.documentation.get(url.as_ref()));
            known.is_some_and(|(text, _)| fields.docstring.as_deref() == Some(text.as_str()))
        })
    }
}

fn fields_of(path: &Path, max_line_bytes: usize, take: &mut dyn FnMut(Fields<'_>)) -> Result<()> {
    read_documents(path, CODEBASE, max_line_bytes, &mut |_, items| {
        for item in items {
            if let Content::Line(line) = item.content
                && let Some(fields) = std::str::from_utf8(&line).ok().and_then(|text| Fields::of_json(text).ok())
            {
                take(fields);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_joined_with_the_code_of_its_url_and_is_no_row_itself() {
        let dir = tempfile::tempdir().unwrap();
        let line = |code: &str, docstring: &str, url: &str| {
            let tokens: Vec<&str> = docstring.split_whitespace().collect();
            serde_json::json!({ "code": code, "docstring": docstring, "docstring_tokens": tokens, "url": url }).to_string()
        };
        std::fs::write(dir.path().join(CODEBASE), line("def f(): pass", "", "u1")).unwrap();
        std::fs::write(dir.path().join("test.jsonl"), [line("", "Sort it", "u1"), line("", "Find it", "u2")].join("\n")).unwrap();
        let mut queries = CodebaseQueries::default();
        queries.read_folder_of(dir.path(), Path::new("test.jsonl"), 1 << 20).unwrap();
        let is_query = |docstring: &str, url: &str| queries.contains(line("", docstring, url).as_bytes());
        assert!(is_query("Sort it", "u1"));
        assert!(!is_query("Another text", "u1") && !is_query("Find it", "u2") && !queries.contains(b"no json"));
    }
}
