//! Code tokens of a function, in two dialects.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use crate::grammar;

/// Rules for code tokens and docstrings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// The leaves of the syntax tree without comments and docstring. A string literal is one token.
    Plain,
    /// The tokens of CodeSearchNet's `function_parser` with the grammars of 2019, for example comments are tokens.
    /// `codenets fidelity` compares them with published records.
    Codesearchnet,
}

/// Tokens of a function, without its docstring.
pub fn code_tokens(function: Node<'_>, documentation: Option<Node<'_>>, source: &Source<'_>) -> Vec<String> {
    match &source.lines {
        None => plain(function, documentation, source.bytes),
        Some(lines) => codesearchnet(function, documentation, lines),
    }
}

/// A file, and the tables that a dialect computes once per file.
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

/// The tokens of CodeSearchNet (`language_parser.py`, `tokenize_code`): the rules of the grammars of 2019, expressed with the
/// node types of today. Each rule was fitted to published records of two languages (docs/fidelity.md).
fn codesearchnet(function: Node<'_>, documentation: Option<Node<'_>>, lines: &Lines<'_>) -> Vec<String> {
    let mut tokens = Vec::new();
    grammar::walk(function, |node| {
        // A node that was hidden in the old grammar is not a token, nor are its children.
        if Some(node) == documentation || is_hidden(node) {
            return false;
        }
        let is_token = is_single_token(node) || node.child_count() == 0 || has_only_hidden(node);
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

/// Is this a string literal that is one token?
fn is_single_token(node: Node<'_>) -> bool {
    matches!(node.kind(), "string" | "string_literal" | "raw_string_literal" | "interpreted_string_literal")
}

fn is_hidden(node: Node<'_>) -> bool {
    match node.kind() {
        // Text between the delimiters of heredocs, regular expressions, symbols and templates.
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

/// Text of a node as `match_from_span` computes it: it uses tree-sitter's columns, which are bytes, as characters. After a
/// character of several bytes the text is therefore shifted.
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
