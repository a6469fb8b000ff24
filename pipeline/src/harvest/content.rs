//! Functions of a source file, or the reason why the file is left out.

use std::{borrow::Cow, sync::LazyLock};

use ledger::words;
use regex::Regex;

use super::{config::Config, encoding, left_out::LeftOut, reader::SourceFile};
use crate::functions::{self, Function, documentation};

/// Bytes at the start of a file that are searched for a remark that a program generated it.
const HEAD_BYTES: usize = 2048;

/// A function that passes the filters.
pub struct Accepted {
    pub function: Function,
    /// Tokens of the documentation's summary.
    pub docstring_tokens: Vec<String>,
}

/// Functions of one file that pass the filters, and the reasons for the others.
pub struct FileFunctions {
    pub accepted: Vec<Accepted>,
    pub seen: u64,
    pub skipped: Vec<Cow<'static, str>>,
}

/// Key in the report's `skipped` for a file that is read although some of its bytes are not text.
const REPLACED: &str = "bytes of an unknown encoding replaced, file kept";

/// The functions of a file.
pub struct Content {
    functions: Vec<Function>,
    /// Were bytes replaced that are not text?
    replaced: bool,
}

/// All functions of a file, or the reason why its content is left out.
pub fn content_of(file: &SourceFile, config: &Config) -> Result<Content, LeftOut> {
    if !config.languages.contains(&file.language) {
        return Err(LeftOut::LanguageNotSelected(file.language));
    }
    let (text, replaced) = encoding::decode(&file.bytes);
    if median_line(&text) > config.max_mean_line_bytes {
        return Err(LeftOut::Minified { max_mean_line_bytes: config.max_mean_line_bytes });
    }
    if is_generated(&text) {
        return Err(LeftOut::Generated);
    }
    if text.contains(&0) {
        return Err(LeftOut::Binary);
    }
    let functions = functions::extract(file.language, &text, config.dialect).map_err(|_| LeftOut::NotParsed)?;
    Ok(Content { functions, replaced })
}

/// Median length of the lines that are neither blank nor comments, in bytes. One long line of data does not change it, and a licence above
/// minified code does not either.
fn median_line(text: &[u8]) -> usize {
    let is_code = |line: &&[u8]| !line.is_empty() && ![&b"//"[..], b"/*", b"*", b"#"].iter().any(|marker| line.starts_with(marker));
    let mut lengths: Vec<usize> = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(is_code).map(<[u8]>::len).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

/// Applies the filters of the configuration to the functions of a file.
pub fn filter(content: Result<Content, LeftOut>, config: &Config) -> FileFunctions {
    let mut found = FileFunctions { accepted: Vec::new(), seen: 0, skipped: Vec::new() };
    let functions = match content {
        Ok(Content { functions, replaced }) => {
            found.skipped.extend(replaced.then_some(REPLACED.into()));
            functions
        }
        Err(reason) => {
            found.skipped.push(reason.report_key().into());
            return found;
        }
    };
    for function in functions {
        found.seen += 1;
        let docstring_tokens = documentation::tokens(documentation::summary(&function.docstring, config.dialect));
        let reason = if is_test(&function.name) {
            Some("function of a test")
        } else if function.lines.1 - function.lines.0 + 1 < config.min_lines {
            Some("function too short")
        } else if docstring_tokens.len() < config.min_documentation_tokens && !config.keep_undocumented {
            Some("function undocumented")
        } else {
            None
        };
        match reason {
            Some(reason) => found.skipped.push(reason.into()),
            None => found.accepted.push(Accepted { function, docstring_tokens }),
        }
    }
    found
}

/// Does a word of the name say that the function is a test? CodeSearchNet searches for the letters `test`, which also finds
/// `shortest_path` and `latest` (docs/decisions/0004-names-of-tests.md).
fn is_test(name: &str) -> bool {
    let mut parts = Vec::new();
    words::subtokens(name, &mut parts);
    parts.iter().any(|word| matches!(word.as_str(), "test" | "tests" | "testing" | "testcase"))
}

/// A line of a comment that says that a program wrote the file. Prose that only speaks of generated files does not begin like this.
static GENERATED: LazyLock<Regex> = LazyLock::new(|| {
    let marker = r#"(?://+|#+|/\*+|\*+|--+|;+|<!--|"""|''')"#;
    let program = r"(?:this (?:file|code|class|module) (?:is|was|has been) )?(?:code |file )?(?:auto[- ]?|automatically )?generated\b(?: (?:by|from|with|using|on|at|code|file|automatically)\b|[.:;!]|$| -)";
    let warning = r"do not (?:edit|modify)(?:[.!:;,]|$| this file| by hand| manually| directly| -)";
    let text = format!(r"(?im)^\s*(?:{marker}\s*)+(?:@generated\b|{program}|(?:warning[:!] |please )?{warning})");
    Regex::new(&text).expect("the expression is constant")
});

fn is_generated(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    GENERATED.is_match(&String::from_utf8_lossy(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_recognised_by_a_whole_word_of_its_name() {
        assert!(["test_read", "FileTest.read", "testRead", "Tests.run"].iter().all(|name| is_test(name)));
        assert!(!["shortest_path", "latestVersion", "contest", "greatest"].iter().any(|name| is_test(name)));
    }

    #[test]
    fn one_long_line_does_not_make_a_file_minified() {
        let long = "x".repeat(5000);
        let code = "def f(a):\n    return a\n\n";
        assert!(median_line(format!("{}DATA = '{long}'\n", code.repeat(3)).as_bytes()) < 20);
        assert!(median_line(format!("/*\n * A licence.\n * More.\n */\n{long}\n").as_bytes()) > 1000, "a licence above minified code");
        assert_eq!(median_line(b""), 0);
    }

    #[test]
    fn a_generated_file_is_recognised_by_its_first_lines() {
        assert!(is_generated(b"// Code generated by protoc. DO NOT EDIT.\npackage x\n"));
        for head in [
            "# Generated by the protocol buffer compiler.  DO NOT EDIT!",
            "/* @generated */",
            "/*\n * This file was automatically generated by x\n */",
        ] {
            assert!(is_generated(head.as_bytes()), "{head}");
        }
        assert!(is_generated(b"# -*- coding: utf-8 -*-\n# AUTOGENERATED FILE\n") && is_generated(b"<?php\n// DO NOT EDIT THIS FILE\n"));
    }

    #[test]
    fn a_file_that_speaks_of_generated_files_is_not_generated() {
        for head in [
            "package x\n",
            "\"\"\"Writes the stubs; their first line says: Code generated by emit, DO NOT EDIT.\"\"\"",
            "/**\n * NOTE: the prefix keeps us clear of the autogenerated collection routes.\n */",
            "# Please do not edit the defaults here, override them in local.rb.",
            "x = generated(by)",
        ] {
            assert!(!is_generated(head.as_bytes()), "{head}");
        }
    }
}
