//! The tree-sitter grammars, one parser a thread and language.

mod spent;

use std::{cell::RefCell, collections::HashMap, ops::ControlFlow};

use anyhow::{Context, Result};
use ledger::Language;
use spent::Spent;
use tree_sitter::{Node, ParseOptions, ParseState, Parser, Point, Tree};

/// A whole file, or one function cut out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    File,
    /// PHP is parsed without its `<?php` opening.
    Function,
}

/// The grammar that parses a scope of a language.
pub fn grammar(language: Language, scope: Scope) -> tree_sitter::Language {
    spent::count_allocations();
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

/// Bytes that tree-sitter may ask for while it parses one text. Ordinary code takes 13 to 43 a byte; a text that can
/// be read in very many ways (five kilobytes of `%w(` in Java) would take gigabytes.
const LEAST_MEMORY: usize = 4 << 20;
const MEMORY_A_BYTE: usize = 200;

/// Parses `source`. A text with syntax errors parses too: its tree holds `ERROR` nodes. One that has too many
/// readings does not.
pub fn parse(language: Language, scope: Scope, source: &[u8]) -> Result<Tree> {
    let grammar = grammar(language, scope);
    let limit = LEAST_MEMORY + source.len().saturating_mul(MEMORY_A_BYTE);
    // A parser that is kept asks for a little less, having some of what it asked for earlier texts: a text that comes
    // near the limit is judged by a fresh one, so that the answer does not depend on what was parsed before.
    let tree = PARSERS.with_borrow_mut(|parsers| attempt(parsers.entry((language, scope)).or_default(), &grammar, source, limit / 2))?;
    let tree = if tree.is_some() { tree } else { attempt(&mut Parser::new(), &grammar, source, limit)? };
    tree.with_context(|| format!("tree-sitter gave up on a {language} text that has too many readings"))
}

/// The tree of a text, if the parser asks for no more than so many bytes.
fn attempt(parser: &mut Parser, grammar: &tree_sitter::Language, source: &[u8], most: usize) -> Result<Option<Tree>> {
    parser.set_language(grammar).context("loading a grammar")?;
    parser.reset();
    let spent = Spent::start();
    // Asked after every hundred operations of the parser.
    let mut is_dear = |_: &ParseState| if spent.bytes() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut read = |offset: usize, _: Point| source.get(offset..).unwrap_or_default();
    let tree = parser.parse_with_options(&mut read, None, Some(ParseOptions::new().progress_callback(&mut is_dear)));
    parser.reset();
    Ok(tree)
}

/// The bytes of a node, as text; bytes that are no UTF-8 become U+FFFD.
pub fn text<'a>(node: Node<'_>, source: &'a [u8]) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(&source[node.byte_range()])
}

/// Visits nodes in source order without recursion: `enter` says whether to go below a node.
pub fn walk<'tree>(root: Node<'tree>, mut enter: impl FnMut(Node<'tree>) -> bool) {
    let mut cursor = root.walk();
    loop {
        if enter(cursor.node()) && cursor.goto_first_child() {
            continue;
        }
        // `root` has no sibling and no parent for a cursor that starts at it.
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
    fn a_text_of_too_many_readings_is_given_up_and_the_next_is_parsed() {
        let text = "%w(".repeat(1800);
        let error = parse(Language::Java, Scope::File, text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("too many readings"));
        let tree = parse(Language::Java, Scope::File, b"class A { }").unwrap();
        assert!(!tree.root_node().has_error());
    }

    /// What ordinary code takes is far from the limit.
    #[test]
    fn ordinary_code_is_not_dear() {
        let sources = [
            (Language::Go, include_str!("../harvest/fixtures/functions.go")),
            (Language::Java, include_str!("../harvest/fixtures/Functions.java")),
            (Language::Javascript, include_str!("../harvest/fixtures/functions.js")),
            (Language::Php, include_str!("../harvest/fixtures/functions.php")),
            (Language::Python, include_str!("../harvest/fixtures/functions.py")),
            (Language::Ruby, include_str!("../harvest/fixtures/functions.rb")),
        ];
        for (language, source) in sources {
            let text = source.repeat(50);
            let spent = Spent::start();
            parse(language, Scope::File, text.as_bytes()).unwrap();
            let each = spent.bytes() / text.len();
            assert!(each > 0 && each < MEMORY_A_BYTE / 2, "{language}: {each} bytes a byte");
        }
    }
}
