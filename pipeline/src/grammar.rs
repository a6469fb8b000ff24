//! The tree-sitter grammars, one parser a thread and language.

use std::{cell::RefCell, collections::HashMap};

use anyhow::{Context, Result};
use ledger::Language;
use tree_sitter::{Node, Parser, Tree};

/// A whole file, or one function cut out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    File,
    /// PHP is parsed without its `<?php` opening.
    Function,
}

/// The grammar that parses a scope of a language.
pub fn grammar(language: Language, scope: Scope) -> tree_sitter::Language {
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

/// Parses `source`. A text with syntax errors parses too: its tree holds `ERROR` nodes.
pub fn parse(language: Language, scope: Scope, source: &[u8]) -> Result<Tree> {
    PARSERS.with_borrow_mut(|parsers| {
        let parser = parsers.entry((language, scope)).or_default();
        parser.set_language(&grammar(language, scope)).with_context(|| format!("loading the {language} grammar"))?;
        parser.reset();
        parser.parse(source, None).with_context(|| format!("tree-sitter gave up on a {language} text"))
    })
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
