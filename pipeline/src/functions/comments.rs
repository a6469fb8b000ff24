//! The comment that documents a function: above its statement, or between its annotations.
//!
//! In the plain dialect as the documentation tools of each language find it: JavaDoc, JSDoc and PHPDoc skip other comments, Go wants no
//! blank line, RDoc and YARD skip signatures and visibility modifiers.

use ledger::Language;
use tree_sitter::Node;

use super::{directives, documentation, tokens::Dialect};
use crate::grammar::{self, field};

/// Documentation of the function `node`, whose statement is `statement`, without comment markers; empty where there is none.
pub fn documentation_of(language: Language, node: Node<'_>, statement: Node<'_>, source: &[u8], dialect: Dialect) -> String {
    match (dialect, language) {
        (Dialect::Codesearchnet, _) => codesearchnet_comment(language, statement, source),
        (_, Language::Go | Language::Ruby) => lines_above(language, statement, source),
        (_, Language::Java | Language::Javascript | Language::Php) => {
            let above = block_above(statement, source);
            let of_statement = || block_between_annotations(statement, source).filter(|_| statement != node);
            let between = || block_between_annotations(node, source).or_else(of_statement);
            if documentation::summary(&above, dialect).is_empty() { between().unwrap_or(above) } else { above }
        }
        (_, Language::Python) => String::new(),
    }
}

/// Most comments above a function that are looked at: a step from one node to the node before it takes longer in a file of many nodes.
const MAX_COMMENTS: usize = 2000;

/// Is this text a comment `/** … */`, and not the empty `/**/`?
fn is_block(text: &str) -> bool {
    text.starts_with("/**") && text.len() > 4
}

/// Text of the last comment `/** … */` between annotations, attributes or decorators and the name of a function.
fn block_between_annotations(node: Node<'_>, source: &[u8]) -> Option<String> {
    let name = ["name", "property"].iter().find_map(|field| node.child_by_field_name(field))?;
    let mut found = None;
    grammar::walk(node, |inner| {
        if inner.start_byte() < name.start_byte() && grammar::is_comment(inner) {
            let text = grammar::text(inner, source);
            found = is_block(&text).then(|| documentation_of_block(&text)).or_else(|| found.take());
        }
        inner == node || inner.kind() == "modifiers"
    });
    found
}

/// Text of a comment `/** … */` without its markers and the lines that are for tools.
fn documentation_of_block(text: &str) -> String {
    directives::without(Language::Javascript, &documentation::strip_block(text))
}

/// The nearest comment `/** … */` above a statement that has more than tags. Other comments between are skipped.
fn block_above(statement: Node<'_>, source: &[u8]) -> String {
    let mut only_tags = String::new();
    let mut below = statement;
    for _ in 0..MAX_COMMENTS {
        let Some(comment) = before(below).filter(|above| grammar::is_comment(*above)) else { break };
        let text = grammar::text(comment, source);
        let gap = gap(comment, &text, below);
        if trails(comment, below) || gap > if only_tags.is_empty() { 2 } else { 1 } {
            break;
        }
        if is_block(&text) {
            let text = documentation_of_block(&text);
            if directives::is_file_header(&text, || gap == 2 && is_first_in_file(comment)) {
                break;
            }
            if !documentation::summary(&text, Dialect::Plain).is_empty() {
                return text;
            }
            if only_tags.is_empty() {
                only_tags = text;
            }
        }
        below = comment;
    }
    only_tags
}

/// The line comments above a statement: in Go directly above, in Ruby with at most one blank line between.
fn lines_above(language: Language, statement: Node<'_>, source: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut below = statement;
    for _ in 0..MAX_COMMENTS {
        let Some(above) = before(below) else { break };
        let text = grammar::text(above, source);
        let gap = gap(above, &text, below);
        let largest = if language == Language::Ruby && lines.is_empty() { 2 } else { 1 };
        let is_signature = |node: Node<'_>| lines.is_empty() && is_ruby_signature(language, node, source);
        let is_skipped = if grammar::is_comment(above) {
            // A comment on the line of a signature: `sig { void } # rubocop:disable X`.
            let trails = trails(above, below);
            if trails && !above.prev_sibling().is_some_and(is_signature) {
                break;
            }
            trails
        } else if is_signature(above) {
            true
        } else {
            break;
        };
        if gap > largest {
            break;
        }
        // Lines for tools are no part of the comment, nor do they separate it from the function.
        if !is_skipped && !directives::is_directive(language, text.trim_end()) {
            lines.push(match language {
                Language::Ruby => documentation::strip_hash(&text),
                _ => documentation::strip_c_style(&text),
            });
        }
        below = above;
    }
    lines.reverse();
    let text = directives::without(language, lines.join("\n").trim());
    if directives::is_file_header(&text, || false) { String::new() } else { text }
}

/// Words of Ruby that change the visibility of the methods below.
const RUBY_VISIBILITY: [&str; 4] = ["private", "protected", "public", "module_function"];

/// Calls that describe the method below: Sorbet, contracts, Thor, Apipie.
const RUBY_SIGNATURES: [&str; 10] =
    ["sig", "Contract", "desc", "long_desc", "option", "method_option", "api", "param", "returns", "memoize"];

/// Is this statement part of the definition of the method below?
fn is_ruby_signature(language: Language, statement: Node<'_>, source: &[u8]) -> bool {
    language == Language::Ruby
        && match statement.kind() {
            "identifier" => RUBY_VISIBILITY.contains(&&*grammar::text(statement, source)),
            "call" => field(statement, "method", source).is_some_and(|method| RUBY_SIGNATURES.contains(&method.as_str())),
            _ => false,
        }
}

/// Lines from the end of a node to the start of the node below: 1 for the next line.
fn gap(above: Node<'_>, text: &str, below: Node<'_>) -> usize {
    // Some grammars put the line break into the comment.
    let end = above.start_position().row + text.trim_end().lines().count().max(1) - 1;
    below.start_position().row.saturating_sub(end)
}

/// A comment after code on the same line belongs to that code, where `below` starts on a later line. The start of a class is no such code.
fn trails(comment: Node<'_>, below: Node<'_>) -> bool {
    let row = comment.start_position().row;
    let is_code = |code: Node<'_>| {
        !grammar::is_comment(code) && code.kind() != "{" && code.end_position().row == row && code.end_position().column > 0
    };
    comment.prev_sibling().is_some_and(is_code) && below.start_position().row > row
}

/// Has a file nothing but comments, opening tags and directives above this comment?
fn is_first_in_file(comment: Node<'_>) -> bool {
    let is_opening = |node: Node<'_>| {
        let is_directive = node.kind() == "expression_statement" && node.named_child(0).is_some_and(|child| child.kind() == "string");
        grammar::is_comment(node) || is_directive || matches!(node.kind(), "php_tag" | "text" | "declare_statement")
    };
    let Some(file) = comment.parent().filter(|parent| parent.parent().is_none()) else { return false };
    let mut cursor = file.walk();
    file.children(&mut cursor).find(|node| *node == comment || !is_opening(*node)) == Some(comment)
}

/// Nodes of Ruby's grammar that a comment stands before, although it is above their first statement.
const RUBY_BODIES: [&str; 7] = ["body_statement", "then", "do", "block_body", "else", "rescue", "ensure"];

/// The node before this one.
fn before(node: Node<'_>) -> Option<Node<'_>> {
    node.prev_sibling().or_else(|| node.parent().filter(|parent| RUBY_BODIES.contains(&parent.kind()))?.prev_sibling())
}

/// The comment block that ends on the line above `statement`, or one blank line above it.
fn codesearchnet_comment(language: Language, statement: Node<'_>, source: &[u8]) -> String {
    let mut comments = Vec::new();
    let mut below = statement;
    while let Some(above) = before(below).filter(|above| grammar::is_comment(*above)) {
        let text = grammar::text(above, source);
        if trails(above, below) || gap(above, &text, below) > if comments.is_empty() { 2 } else { 1 } {
            break;
        }
        let is_block = text.starts_with("/*");
        if is_block && !comments.is_empty() {
            break;
        }
        comments.push(text.trim_end().to_owned());
        below = above;
        if is_block {
            break;
        }
    }
    comments.reverse();
    let text = comments.join("\n");
    match language {
        Language::Python => String::new(),
        Language::Ruby => documentation::strip_hash(&text),
        // In these languages only `/** … */` is documentation.
        Language::Java | Language::Javascript | Language::Php if !is_block(&text) => String::new(),
        _ => documentation::strip_c_style(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::extract;

    /// The first line of the documentation of the last function of a file.
    fn documentation(language: Language, source: &str, dialect: Dialect) -> String {
        let function = extract(language, source.as_bytes(), dialect).unwrap().pop().expect("a function");
        function.docstring.lines().next().unwrap_or_default().to_owned()
    }

    fn check(language: Language, expected: &str, sources: &[&str]) {
        for source in sources {
            assert_eq!(documentation(language, source, Dialect::Plain), expected, "{source}");
        }
    }

    #[test]
    fn comments_for_tools_do_not_separate_documentation_and_function() {
        check(
            Language::Javascript,
            "Opens it.",
            &[
                "/** Opens it. */\n// eslint-disable-next-line complexity\nexport function f() {}",
                "/** Opens it. */\n/* istanbul ignore next */\nconst f = () => 1;",
                "/** Opens it. */\n// @ts-ignore\n// prettier-ignore\nconst f = () => 1;",
                "/** Opens it. */\n/** @type {Opener} */\nconst f = () => 1;",
                "/** Opens it. */\n/** @suppress {unused} */\n\nfunction f() {}",
                "class A { /** Opens it. */\n // @ts-expect-error\n f() {} }",
                "class A { @memo() /** Opens it. */ f() {} }",
                "class A { /** Opens it. */ @memo() f() {} }",
                "/** Shuts it. */\nvar g = () => 1, /** Opens it. */ f = () => 2;",
                "/** Opens it. **/\nfunction f() {}",
                "const a = {\n b: 1,\n /** Opens it. */\n // c8 ignore next\n f: () => 1 };",
            ],
        );
        check(
            Language::Java,
            "Opens it.",
            &[
                "class A {\n /** Opens it. */\n // CHECKSTYLE:OFF\n void f() {} }",
                "class A {\n /** Opens it. */\n @SuppressWarnings(\"x\") // NOPMD\n @Override\n public void f() {} }",
                "class A {\n @Override\n /** Opens it. */\n public void f() {} }",
                "class A { /** Opens it. */ void f() {} }",
                "class A {\n /** Opens it. */\n //noinspection unused\n A(int x) {} }",
            ],
        );
        check(
            Language::Php,
            "Opens it.",
            &[
                "<?php\n/** Opens it. */\n// phpcs:ignore Generic.Metrics\nfunction f() {}",
                "<?php\n/** Opens it. */\n#[Pure]\nfunction f() {}",
                "<?php\n#[Pure]\n/** Opens it. */\nfunction f() {}",
                "<?php\nclass A {\n /** Opens it. */\n # @codeCoverageIgnore\n #[Route('/x')]\n final public static function f() {} }",
                "<?php\n/** Opens it. */\n/** @noinspection PhpUnused */\nfunction f() {}",
            ],
        );
        check(
            Language::Ruby,
            "Opens it.",
            &[
                "# Opens it.\n# rubocop:disable Metrics/AbcSize\ndef f\nend",
                "# Opens it.\n\n# rubocop:disable Metrics/AbcSize\ndef f\nend",
                "# Opens it.\nsig { params(a: Integer).void }\ndef f(a)\nend",
                "class A\n # Opens it.\n T::Sig::WithoutRuntime.sig do\n  void\n end\n def f\n end\nend",
                "class A\n # Opens it.\n private\n def f\n end\nend",
                "class A\n # Opens it.\n private def f\n end\nend",
                "class A\n # Opens it.\n memoize private def f\n end\nend",
                "# Opens it.\n#: (Integer) -> void\ndef f(a)\nend",
                "# @rbs a: Integer\n# Opens it.\ndef f(a)\nend",
                "# Opens it.\nsig { void } # rubocop:disable X\n\ndef f\nend",
                "# @!visibility private\n# Opens it.\ndef f\nend",
                "# @api private\n# Opens it.\ndef f\nend",
                "# :category: Gates\n# Opens it.\ndef f\nend",
                "if x\n  # Opens it.\n  def f\n  end\nend",
            ],
        );
        check(
            Language::Go,
            "Opens it.",
            &[
                "package p\n// Opens it.\n//go:noinline\nfunc f() {}",
                "package p\n//go:generate x\n//\n// Opens it.\n//\n//nolint:gocyclo // long\nfunc f() {}",
                "package p\n/* Opens it. */\n//export f\nfunc f() {}",
                "package p\n// Opens it.\n// +kubebuilder:rbac:groups=x\nfunc (a *A) f() {}",
            ],
        );
        check(
            Language::Python,
            "Opens it.",
            &[
                "def f(a):\n    # type: (int) -> int\n    \"\"\"Opens it.\"\"\"\n    return a",
                "def f(a):  # noqa: E501\n    # pylint: disable=x\n\n    \"\"\"Opens it.\"\"\"\n    return a",
                "@cache\n# fmt: off\n@other\ndef f(a):\n    \"\"\"Opens it.\"\"\"\n    return a",
            ],
        );
    }

    #[test]
    fn comments_for_tools_are_no_documentation() {
        check(
            Language::Go,
            "",
            &[
                "package p\n//nolint:gocyclo,funlen\nfunc f() {}",
                "package p\n// nolint\nfunc f() {}",
                "package p\n//go:build linux\nfunc f() {}",
                "package p\n//lint:ignore U1000 used by cgo\nfunc f() {}",
            ],
        );
        check(
            Language::Ruby,
            "",
            &[
                "# frozen_string_literal: true\n\ndef f\nend",
                "#!/usr/bin/env ruby\n# -*- coding: utf-8 -*-\n# typed: strict\ndef f\nend",
                "# encoding: UTF-8\ndef f\nend",
                "# vim: set ts=2 sw=2:\n\ndef f\nend",
                "def g\nend\n# rubocop:enable Metrics/AbcSize\n\ndef f\nend",
                "# :nodoc:\ndef f\nend",
                "# steep:ignore:start\ndef f\nend",
                "#--\n# Only for us.\n#++\ndef f\nend",
            ],
        );
        check(
            Language::Javascript,
            "",
            &["/** @jsx h */\n\nfunction f() {}", "/** @flow */\nconst f = () => 1;", "/** eslint-disable no-console */\nfunction f() {}"],
        );
        check(Language::Php, "", &["<?php\n/** @codeCoverageIgnore */\nfunction f() {}", "<?php\n/** phpcs:disable */\nfunction f() {}"]);
        check(Language::Java, "", &["class A {\n /** CHECKSTYLE:OFF */\n void f() {} }"]);
    }

    #[test]
    fn a_comment_behind_a_blank_line_is_no_documentation_in_go() {
        check(
            Language::Go,
            "",
            &["package p\n\n// Section of helpers.\n\nfunc f() {}", "package p\n// Opens it.\n\n//go:noinline\nfunc f() {}"],
        );
        check(Language::Ruby, "Opens it.", &["# Opens it.\n\ndef f\nend"]);
        check(Language::Javascript, "Opens it.", &["/** Opens it. */\n\nfunction f() {}"]);
        check(Language::Javascript, "", &["/** Opens it. */\n\n\nfunction f() {}"]);
    }

    #[test]
    fn the_header_of_a_file_is_no_documentation() {
        check(
            Language::Javascript,
            "",
            &[
                "/**\n * @license\n * Copyright 2031 The Pelican Authors\n */\n\nfunction f() {}",
                "/**\n * @fileoverview Counting of birds.\n */\nexport function f() {}",
                "/**\n * Birds of the lake.\n * @module birds\n */\n\nfunction f() {}",
                "'use strict';\n/**\n * Birds.\n * @author Pelican\n */\n\nfunction f() {}",
                "/**\n * Birds of the lake.\n * @namespace Birds\n */\nfunction f() {}",
                "/** This file contains helpers for birds. */\n\nfunction f() {}",
                "#!/usr/bin/env node\n/**\n * Birds.\n * @author Pelican\n */\n\nfunction f() {}",
            ],
        );
        check(
            Language::Php,
            "",
            &[
                "<?php\n/**\n * This file is part of the Pelican package, see LICENSE.\n *\n * @copyright 2031 The Pelican Authors\n */\n\nfunction f() {}",
                "<?php\n/**\n * Birds.\n *\n * @package Pelican\n */\n\nfunction f() {}",
                "<?php declare(strict_types=1);\n/**\n * For the full copyright and license information, see LICENSE.\n */\n\nfunction f() {}",
            ],
        );
        check(
            Language::Ruby,
            "",
            &[
                "# Copyright (c) 2031 The Pelican Authors\n# Licensed under the MIT license.\n\ndef f\nend",
                "# SPDX-License-Identifier: MIT\n\ndef f\nend",
                "# This file is part of Pelican.\n#\n# Pelican is free software.\n\ndef f\nend",
            ],
        );
        check(
            Language::Php,
            "",
            &["<?php\n/**\n * Plugin Name: Birds\n */\n\nfunction f() {}", "<?php\n/** @} End of birds. */\nfunction f() {}"],
        );
        check(Language::Java, "", &["/** Copyright 2031 Pelican. All rights reserved. */\nvoid f() {}"]);
    }

    #[test]
    fn a_function_may_speak_of_licences_files_and_authors() {
        check(Language::Javascript, "Prints the copyright of a book.", &["/** Prints the copyright of a book. */\nfunction f() {}"]);
        check(
            Language::Php,
            "Counts birds.",
            &[
                "<?php\n/**\n * Counts birds.\n * @author Pelican\n */\nfunction f() {}",
                "<?php\n/**\n * Counts birds.\n * @package Pelican\n * @param int $a\n */\n\nfunction f($a) {}",
            ],
        );
        check(Language::Go, "Unlock frees what was", &["package p\n// Unlock frees what was\n// released under the lock.\nfunc f() {}"]);
        check(Language::Go, "Copyright (c) lines are removed.", &["package p\n// Copyright (c) lines are removed.\nfunc f() {}"]);
        check(Language::Go, "fmt: a format string", &["package p\n// fmt: a format string\nfunc f() {}"]);
        check(Language::Php, "Counts birds.", &["<?php\nclass A {\n /**\n  * Counts birds.\n  * @license MIT\n  */\n function f() {} }"]);
        check(Language::Ruby, "state: on or off", &["# state: on or off\ndef f\nend"]);
        check(Language::Ruby, "ex: f(1)", &["# ex: f(1)\ndef f\nend"]);
        check(
            Language::Go,
            "host:port of a server, see https://example.org",
            &["package p\n// host:port of a server, see https://example.org\nfunc f() {}"],
        );
    }

    #[test]
    fn lines_of_punctuation_around_a_text_are_left_out() {
        check(Language::Php, "Opens it.", &["<?php\n/*****************\n * Opens it.\n *****************/\nfunction f() {}"]);
        check(Language::Ruby, "Opens it.", &["##########\n# Opens it.\n##########\ndef f\nend"]);
    }

    #[test]
    fn a_comment_behind_code_belongs_to_that_code() {
        check(Language::Ruby, "", &["A = 1 # The first.\ndef f\nend"]);
        check(Language::Javascript, "", &["class A { x = 1; /** The first. */\n f() {} }"]);
    }

    #[test]
    fn codesearchnet_takes_the_comment_directly_above() {
        let theirs = |language, source| documentation(language, source, Dialect::Codesearchnet);
        assert_eq!(theirs(Language::Javascript, "/** Opens it. */\n// prettier-ignore\nfunction f() {}"), "");
        assert_eq!(theirs(Language::Go, "package p\n\n// Section.\n\nfunc f() {}"), "Section.");
        assert_eq!(theirs(Language::Ruby, "# rubocop:disable X\ndef f\nend"), "rubocop:disable X");
    }
}
