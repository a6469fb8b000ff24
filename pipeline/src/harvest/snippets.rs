//! Functions in a JSON object `{code: number}`, the form of CoSQA's codebase. The path of a record is the number, so that
//! judgments can name the record by its url (`name:number`).

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use flate2::read::GzDecoder;
use ledger::{Language, Split, ensure};
use rayon::prelude::*;

use super::layout::{Record, Writer};
use crate::{
    error::{Context, Result},
    functions::{Dialect, Function, documentation, extract_in, tokens_of_snippet},
    grammar::Scope,
};

/// Largest unpacked file, in bytes: it is read into memory.
const MAX_BYTES: u64 = 1 << 30;

fn read(path: &Path) -> Result<Vec<(u64, String)>> {
    let packed = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let reader: Box<dyn Read> =
        if path.extension().is_some_and(|end| end == "gz") { Box::new(GzDecoder::new(packed)) } else { Box::new(packed) };
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes unpacked: split it into several sources", path.display());
    let snippets: BTreeMap<String, u64> = serde_json::from_slice(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes))
        .with_context(|| format!("{} is not a JSON object {{code: number}}: correct harvest.source.path", path.display()))?;
    let mut numbered: Vec<(u64, String)> = snippets.into_iter().map(|(code, number)| (number, code)).collect();
    numbered.sort();
    for pair in numbered.windows(2) {
        ensure!(pair[0].0 != pair[1].0, "{} has two functions of number {}: give each function its own number", path.display(), pair[0].0);
    }
    Ok(numbered)
}

/// The first function of a snippet. A text without a function is a function without a name.
fn function(language: Language, code: &str, dialect: Dialect) -> Function {
    let found = extract_in(language, Scope::Function, code.as_bytes(), dialect).unwrap_or_default();
    match found.into_iter().next() {
        Some(function) => Function { code: code.to_owned(), ..function },
        None => Function {
            name: String::new(),
            code: code.to_owned(),
            code_tokens: tokens_of_snippet(language, code),
            docstring: String::new(),
            lines: (1, 1),
        },
    }
}

/// Writes all snippets as records of one split. Returns the number of snippets, and of those without a function.
pub fn write(path: &Path, name: &str, language: Language, split: Split, dialect: Dialect, writer: &mut Writer) -> Result<(u64, u64)> {
    let snippets = read(path)?;
    let functions: Vec<Function> = snippets.par_iter().map(|(_, code)| function(language, code, dialect)).collect();
    let mut unnamed = 0;
    for ((number, _), function) in snippets.iter().zip(&functions) {
        unnamed += u64::from(function.name.is_empty());
        let record = Record {
            repo: name,
            path: &number.to_string(),
            func_name: &function.name,
            original_string: &function.code,
            language,
            code: &function.code,
            code_tokens: &function.code_tokens,
            docstring: &function.docstring,
            docstring_tokens: &documentation::tokens(documentation::summary(&function.docstring, dialect)),
            sha: "",
            url: &format!("{name}:{number}"),
            partition: split,
        };
        writer.write(language, split, &record)?;
    }
    Ok((functions.len() as u64, unnamed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_snippet_is_a_record_with_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes.json");
        fs::write(&path, r#"{"def read_file(path):\n    \"Reads all.\"\n    return open(path).read()": 7, "print 'hello'": 2}"#).unwrap();
        let mut writer = Writer::new(dir.path(), 100);
        let counts = write(&path, "cosqa", Language::Python, Split::Test, Dialect::Plain, &mut writer).unwrap();
        writer.finish().unwrap();
        assert_eq!(counts, (2, 1));
        let mut text = String::new();
        let packed = fs::File::open(dir.path().join("python/final/jsonl/test/python_test_0.jsonl.gz")).unwrap();
        GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&rows[0]["url"], &rows[0]["func_name"]), (&"cosqa:2".into(), &"".into()));
        assert_eq!(
            (&rows[1]["url"], &rows[1]["func_name"], &rows[1]["docstring"]),
            (&"cosqa:7".into(), &"read_file".into(), &"Reads all.".into())
        );
    }

    #[test]
    fn other_json_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes.json");
        for (text, reason) in
            [("[1]", "not a JSON object"), (r#"{"a": 1, "b": 1}"#, "two functions of number 1"), (r#"{"a": "x"}"#, "not a JSON object")]
        {
            fs::write(&path, text).unwrap();
            assert!(ledger::chain(&read(&path).unwrap_err()).contains(reason), "{text}");
        }
    }
}
