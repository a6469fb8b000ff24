//! Tokens of a function's code, in two dialects.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use crate::grammar;

/// What counts as a token of code, and as a docstring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// The leaves of the tree without comments and docstring; a string literal is one token.
    Plain,
    /// What `function_parser` made of the published records, by the grammars of 2019: comments are tokens, and
    /// so on ([`faithful`]). `make fidelity` measures how near it comes.
    Codesearchnet,
}

/// Tokens of a function, without its docstring.
pub fn code_tokens(function: Node<'_>, documentation: Option<Node<'_>>, source: &Source<'_>) -> Vec<String> {
    match &source.lines {
        None => plain(function, documentation, source.bytes),
        Some(lines) => faithful(function, documentation, lines),
    }
}

/// A file, and what a dialect needs to know of it once.
pub struct Source<'a> {
    pub bytes: &'a [u8],
    pub dialect: Dialect,
    lines: Option<Lines<'a>>,
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self { bytes, dialect, lines: (dialect == Dialect::Codesearchnet).then(|| Lines::of(bytes)) }
    }
}

fn plain(function: Node<'_>, documentation: Option<Node<'_>>, source: &[u8]) -> Vec<String> {
    let mut tokens = Vec::new();
    grammar::walk(function, |node| {
        if grammar::is_comment(node) || Some(node) == documentation {
            return false;
        }
        let whole = node.kind() == "string" || node.child_count() == 0;
        if whole && !node.byte_range().is_empty() {
            let text = grammar::text(node, source);
            if !text.trim().is_empty() {
                tokens.push(text.into_owned());
            }
        }
        !whole
    });
    tokens
}

/// The tokens of CodeSearchNet (`language_parser.py`, `tokenize_code`), its grammars' rules of 2019 restated over
/// those of today. Each rule was fitted to the true records of two languages; docs/fidelity.md says what it fixes.
fn faithful(function: Node<'_>, documentation: Option<Node<'_>>, lines: &Lines<'_>) -> Vec<String> {
    let mut tokens = Vec::new();
    grammar::walk(function, |node| {
        // A node that was hidden in the old grammar is no token, and not looked into.
        if Some(node) == documentation || is_hidden(node) {
            return false;
        }
        let is_token = is_whole(node) || node.child_count() == 0 || has_only_hidden(node);
        if is_token {
            let is_splat = node.kind() == "**"
                && node.parent().is_some_and(|parent| matches!(parent.kind(), "dictionary_splat" | "dictionary_splat_pattern"));
            if is_splat {
                // Two tokens in Python's grammar of 2019.
                tokens.extend(["*", "*"].map(str::to_owned));
            } else {
                tokens.push(lines.text(node));
            }
        }
        !is_token
    });
    tokens
}

/// Strings that are one token: `string` by name, and what is a string of one token in Go and Java.
fn is_whole(node: Node<'_>) -> bool {
    matches!(node.kind(), "string" | "string_literal" | "raw_string_literal" | "interpreted_string_literal")
}

fn is_hidden(node: Node<'_>) -> bool {
    match node.kind() {
        // Text between the marks of heredocs, regular expressions, symbols and templates.
        "string_content" | "heredoc_content" | "string_fragment" => true,
        "line_continuation" => true,
        "&" => node.parent().is_some_and(|parent| parent.kind() == "block_argument"),
        "*" => node.parent().is_some_and(|parent| parent.kind() == "splat_argument"),
        _ => false,
    }
}

fn has_only_hidden(node: Node<'_>) -> bool {
    let mut cursor = node.walk();
    node.child_count() > 0
        && node.children(&mut cursor).all(|child| matches!(child.kind(), "string_content" | "heredoc_content" | "string_fragment"))
}

/// Node text as `match_from_span` cuts it: tree-sitter's columns are bytes, but are taken for characters of a
/// line, so that behind a character of several bytes everything is shifted.
struct Lines<'a> {
    source: Cow<'a, str>,
    chars: Option<Vec<Vec<char>>>,
}

impl<'a> Lines<'a> {
    fn of(source: &'a [u8]) -> Self {
        let source = String::from_utf8_lossy(source);
        let chars = (!source.is_ascii()).then(|| source.split('\n').map(|line| line.chars().collect()).collect());
        Self { source, chars }
    }

    fn text(&self, node: Node<'_>) -> String {
        let Some(lines) = &self.chars else {
            return self.source.get(node.byte_range()).unwrap_or_default().to_owned();
        };
        let (start, end) = (node.start_position(), node.end_position());
        let part = |row: usize, from: usize, to: usize| -> String {
            let line = lines.get(row).map(Vec::as_slice).unwrap_or_default();
            line[from.min(line.len())..to.min(line.len()).max(from.min(line.len()))].iter().collect()
        };
        if start.row == end.row {
            return part(start.row, start.column, end.column);
        }
        let mut text = part(start.row, start.column, usize::MAX);
        for row in start.row + 1..end.row {
            text.push('\n');
            text.push_str(&part(row, 0, usize::MAX));
        }
        text.push('\n');
        text + &part(end.row, 0, end.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harvest::extract;
    use ledger::Language;

    fn tokens(language: Language, source: &str, dialect: Dialect) -> Vec<String> {
        extract(language, source.as_bytes(), dialect).unwrap().remove(0).code_tokens
    }

    /// Each line is code that true records hold, and the tokens that they hold for it.
    #[test]
    fn the_rules_of_2019() {
        let python = "def f(a, **k):\n    # why\n    return g(**k) + a ** 2 + \\\n        'x y'";
        assert_eq!(
            tokens(Language::Python, python, Dialect::Codesearchnet).join(" "),
            "def f ( a , * * k ) : # why return g ( * * k ) + a ** 2 + 'x y'"
        );
        let ruby = "def f(*a, &b)\n  # why\n  g(*a, &b) =~ /x y/\n  `ls`\n  [:\"foo\", :bar, 'x y']\nend";
        assert_eq!(
            tokens(Language::Ruby, ruby, Dialect::Codesearchnet).join(" "),
            "def f ( * a , & b ) # why g ( a , b ) =~ / / ` ` [ :\" \" , :bar , 'x y' ] end"
        );
    }

    #[test]
    fn columns_are_bytes_taken_for_characters() {
        let source = "def f(a):\n    return '\u{e9}' + a";
        assert_eq!(tokens(Language::Python, source, Dialect::Plain), ["def", "f", "(", "a", ")", ":", "return", "'\u{e9}'", "+", "a"]);
        assert_eq!(tokens(Language::Python, source, Dialect::Codesearchnet)[6..], ["return", "'\u{e9}' ", " ", ""]);
    }
}
