//! Comments that are for tools, and comments about a whole file: neither is the documentation of a function.

use std::sync::LazyLock;

use ledger::Language;
use regex::Regex;

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("the expression is constant")
}

/// Text of a comment line, without its marker, for a linter, type checker, formatter, coverage tool, editor, compiler or interpreter.
static DIRECTIVE: LazyLock<Regex> = LazyLock::new(|| {
    let alternatives = [
        // Any tool: `rubocop:disable X`, `phpcs:ignore`, `prettier-ignore`.
        r"[\w@-]+:(?:disable|enable|ignore|off|on|todo|push|pop|skip|nolint|suppress)\b",
        r"@?[\w-]+-(?:ignore|disable|enable|expect-error|ignore-next-line|disable-next-line|ignore-start|ignore-end)\b",
        r"(?:rubocop|standard|reek|steep|phpcs|spell-checker|cspell|checkstyle|pylint|pyright|mypy|flake8|isort|yapf|pragma|fmt|lint|typed|webpack\w+)\s?[:=]",
        r"(?:istanbul|c8|v8|node:coverage|deno-coverage) (?:ignore|disable|enable)\b",
        r"(?:eslint|jshint|jslint|jscs|globals?|exported)\s+[\w$/-]+\s*:",
        r"@(?:ts-\w+|flow|noflow|jsx\w*|jest-environment|format|prettier|noinspection|vite-ignore|rbs|codeCoverageIgnore\w*|codingStandards\w+)\b",
        r"@(?:formatter:|phpstan-|psalm-|phan-|phpcs)\S+",
        r"(?:CHECKSTYLE|CSOFF|CSON|NOSONAR|NOPMD|CPD-|NOLINT|LGTM|nosec|nosemgrep|noqa|nolint|noinspection)\b",
        r"#(?:end)?region\b|endregion\b|</?editor-fold|language=\w|[#@] sourceMappingURL",
        r":(?:nodoc|doc|nocov|stopdoc|startdoc|notnew|enddoc):",
        r"(?:frozen[_-]string[_-]literal|warn[_-]indent|warn[_-]past[_-]scope|shareable_constant_value|rbs_inline)\s*:",
        r"-\*-.*-\*-|(?:file)?(?:en)?coding\s*[:=]\s*[\w.-]+\s*$|vim?:|ex:\s*set?\b|Local Variables:|kate:|jedit:",
        r"type:\s*ignore\b",
    ];
    regex(&format!("^(?:{})", alternatives.join("|")))
});

/// A line comment of Go that is no documentation, as the package `go/ast` decides, and marker comments.
static GO_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^//(?:line |extern |export |[a-z0-9]+:[a-z0-9]|sys(?:nb)?\s|\s?\+[a-z]|\s?nolint\b|(?:end)?region\b)"));

/// A line comment of Ruby with the type of a method, a line of RDoc that hides text, or the line that starts the interpreter.
static RUBY_DIRECTIVE: LazyLock<Regex> = LazyLock::new(|| regex(r"^#(?::\s|!|\s*@rbs\b)"));

/// Is a comment, with its markers, only for tools?
pub fn is_directive(language: Language, comment: &str) -> bool {
    let own = match language {
        Language::Go => GO_DIRECTIVE.is_match(comment),
        Language::Ruby => RUBY_DIRECTIVE.is_match(comment),
        _ => false,
    };
    let text = comment.trim_start_matches(['/', '*', '#']).trim();
    own || (DIRECTIVE.is_match(text) && !text.contains('\n'))
}

/// A documentation text without its lines for tools, without lines of punctuation around it and, in Ruby, without the text that is hidden
/// between `--` and `++`.
pub fn without(language: Language, text: &str) -> String {
    let mut is_hidden = false;
    let is_kept = |line: &&str| {
        let line = line.trim();
        is_hidden = language == Language::Ruby && (line == "--" || is_hidden && line != "++");
        !is_hidden && !(language == Language::Ruby && line == "++") && !DIRECTIVE.is_match(line)
    };
    let mut lines: Vec<&str> = text.lines().filter(is_kept).collect();
    let is_ornament = |line: &&str| line.chars().all(|c| "*-=#~_/ ".contains(c));
    while lines.last().is_some_and(is_ornament) {
        lines.pop();
    }
    let start = lines.iter().position(|line| !is_ornament(line)).unwrap_or(lines.len());
    lines[start..].join("\n").trim().to_owned()
}

/// A tag or a sentence about a whole file.
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?im)(?:^\s*@(?:file|fileoverview|overview|module|providesModule|packageDocumentation|externs)\b|\A\s*this (?:source |php )?(?:file|module|script) (?:is|contains|defines|provides|implements|holds|has)\b)",
    )
});

/// A notice of copyright or a licence.
static LICENCE: LazyLock<Regex> = LazyLock::new(|| {
    let notices = [
        r"@(?:licen[sc]e|copyright|preserve)\b",
        r"SPDX-License-Identifier",
        r"(?:copyright|©)\s*(?:\(c\)|©|.*[12]\d{3})|\(c\)\s*[12]\d{3}|.*\ball rights reserved\b",
        r"this (?:source )?(?:file|program|library|software|code|package|work) is (?:part of|free software|subject to|distributed|licensed|released|covered)",
        r"(?:distributed|released|licensed|provided) under (?:the|a)\b",
        r"permission is hereby granted",
        r"redistribution and use in source",
        r"for the full copyright",
    ];
    regex(&format!(r"(?im)^\s*(?:{})", notices.join("|")))
});

/// Tags that only the documentation of a function has.
static FUNCTION: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?im)^\s*@(?:params?|returns?|throws|exception|yields?|yieldparam|arg|argument|callback)\b"));

/// Tags that the header of a file has, and a function may have.
static HEADER: LazyLock<Regex> = LazyLock::new(|| regex(r"(?im)^\s*@(?:package|subpackage|category|author|version|since)\b"));

/// Is a documentation text the header of its file? `starts_file` where a file starts with it and a blank line follows.
pub fn is_file_header(text: &str, starts_file: bool) -> bool {
    !FUNCTION.is_match(text) && (FILE.is_match(text) || LICENCE.is_match(text) || starts_file && HEADER.is_match(text))
}
