//! The tree-sitter grammars, with one parser per thread and language.

mod allocations;

use std::{cell::RefCell, collections::HashMap, ops::ControlFlow};

use allocations::AllocatedBytes;
use ledger::Language;
use tree_sitter::{Node, ParseOptions, ParseState, Parser, Point, Tree};

use crate::error::{Context, Error, Result};

/// What a text is: a whole file, or one function without its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    File,
    /// PHP is parsed without the opening `<?php`.
    Function,
}

/// The grammar for a language and a scope.
pub fn grammar(language: Language, scope: Scope) -> tree_sitter::Language {
    allocations::count_allocations();
    match (language, scope) {
        (Language::Go, _) => tree_sitter_go::LANGUAGE.into(),
        (Language::Java, _) => tree_sitter_java::LANGUAGE.into(),
        (Language::Javascript, _) => tree_sitter_javascript::LANGUAGE.into(),
        (Language::Php, Scope::File) => tree_sitter_php::LANGUAGE_PHP.into(),
        (Language::Php, Scope::Function) => tree_sitter_php::LANGUAGE_PHP_ONLY.into(),
        (Language::Python, _) => tree_sitter_python::LANGUAGE.into(),
        (Language::Ruby, _) => tree_sitter_ruby::LANGUAGE.into(),
    }
}

thread_local! {
    static PARSERS: RefCell<HashMap<(Language, Scope), Parser>> = RefCell::new(HashMap::new());
}

/// Memory limit of one parse: this many bytes, and [`MEMORY_PER_BYTE`] for each byte of the text. Ordinary code needs 13 to
/// 43 bytes per byte; an ambiguous text (five kilobytes of `%w(` in Java) would need gigabytes.
const MIN_MEMORY: usize = 4 << 20;
const MEMORY_PER_BYTE: usize = 200;

/// Parses `source`. A text with syntax errors gives a tree with `ERROR` nodes.
///
/// # Errors
/// [`Error::TooManyReadings`] where the parser reached its memory limit.
pub fn parse(language: Language, scope: Scope, source: &[u8]) -> Result<Tree> {
    let grammar = grammar(language, scope);
    let limit = MIN_MEMORY + source.len().saturating_mul(MEMORY_PER_BYTE);
    // A parser that is used again allocates less, because it keeps memory from earlier texts. A text that comes near the
    // limit is parsed by a new parser, so that the result does not depend on earlier texts.
    let tree = PARSERS.with_borrow_mut(|parsers| attempt(parsers.entry((language, scope)).or_default(), &grammar, source, limit / 2))?;
    let tree = if tree.is_some() { tree } else { attempt(&mut Parser::new(), &grammar, source, limit)? };
    tree.ok_or(Error::TooManyReadings(language))
}

/// The tree of a text; none where the parser would allocate more than `limit` bytes.
fn attempt(parser: &mut Parser, grammar: &tree_sitter::Language, source: &[u8], limit: usize) -> Result<Option<Tree>> {
    parser.set_language(grammar).context("loading a grammar")?;
    parser.reset();
    let allocated = AllocatedBytes::start();
    // tree-sitter calls this after every hundred operations.
    let mut check_limit = |_: &ParseState| if allocated.get() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut read = |offset: usize, _: Point| source.get(offset..).unwrap_or_default();
    let tree = parser.parse_with_options(&mut read, None, Some(ParseOptions::new().progress_callback(&mut check_limit)));
    parser.reset();
    Ok(tree)
}

/// The bytes of a node as text; bytes that are not UTF-8 become U+FFFD.
pub fn text<'a>(node: Node<'_>, source: &'a [u8]) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(&source[node.byte_range()])
}

/// Text of a field of a node; none where it has no such field.
pub fn field(node: Node<'_>, name: &str, source: &[u8]) -> Option<String> {
    Some(text(node.child_by_field_name(name)?, source).into_owned())
}

/// Visits nodes in source order without recursion. `enter` returns whether the children of a node are visited.
pub fn walk<'tree>(root: Node<'tree>, mut enter: impl FnMut(Node<'tree>) -> bool) {
    let mut cursor = root.walk();
    loop {
        if enter(cursor.node()) && cursor.goto_first_child() {
            continue;
        }
        // A cursor that starts at `root` sees no sibling and no parent of `root`.
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

/// Is this node a comment, in any of the grammars?
pub fn is_comment(node: Node<'_>) -> bool {
    matches!(node.kind(), "comment" | "line_comment" | "block_comment" | "html_comment" | "hash_bang_line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_text_is_an_error_and_the_next_text_is_parsed() {
        let text = "%w(".repeat(1800);
        let error = parse(Language::Java, Scope::File, text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::TooManyReadings(Language::Java)) && error.to_string().contains("too many readings"));
        let tree = parse(Language::Java, Scope::File, b"class A { }").unwrap();
        assert!(!tree.root_node().has_error());
    }

    #[test]
    fn ordinary_code_stays_far_below_the_memory_limit() {
        let sources = [
            (Language::Go, include_str!("../functions/fixtures/functions.go")),
            (Language::Java, include_str!("../functions/fixtures/Functions.java")),
            (Language::Javascript, include_str!("../functions/fixtures/functions.js")),
            (Language::Php, include_str!("../functions/fixtures/functions.php")),
            (Language::Python, include_str!("../functions/fixtures/functions.py")),
            (Language::Ruby, include_str!("../functions/fixtures/functions.rb")),
        ];
        for (language, source) in sources {
            let text = source.repeat(50);
            let allocated = AllocatedBytes::start();
            parse(language, Scope::File, text.as_bytes()).unwrap();
            let per_byte = allocated.get() / text.len();
            assert!(per_byte > 0 && per_byte < MEMORY_PER_BYTE / 2, "{language}: {per_byte} bytes per byte");
        }
    }
}
