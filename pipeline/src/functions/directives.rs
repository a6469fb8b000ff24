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
        r"(?:rubocop|reek|steep|phpcs|spell-checker|cspell|checkstyle|pylint|pyright|mypy|flake8|isort|yapf|webpack\w+)\s?[:=]",
        r"fmt:\s?(?:on|off|skip)\b|pragma:?\s?(?:no\b|once)|typed:\s?(?:ignore|false|true|strict|strong)\b",
        r"(?:istanbul|c8|v8|node:coverage|deno-coverage) (?:ignore|disable|enable)\b",
        r"(?:eslint|jshint|jslint|jscs|globals?|exported)\s+[\w$/-]+\s*:",
        r"@(?:ts-\w+|flow|noflow|jsx\w*|jest-environment|format|prettier|noinspection|vite-ignore|rbs|codeCoverageIgnore\w*|codingStandards\w+)\b",
        r"@(?:formatter:|phpstan-|psalm-|phan-|phpcs)\S+|@[{}]|#@",
        r"(?:CHECKSTYLE|CSOFF|CSON|NOSONAR|NOPMD|CPD-|NOLINT|LGTM|#?nosec|nosemgrep|noqa|nolint|noinspection)\b",
        r"#(?:end)?region\b|endregion\b|</?editor-fold|language=\w|[#@] sourceMappingURL",
        r":(?:nodoc|doc|nocov|stopdoc|startdoc|notnew|enddoc|category|section|method|args?|yields?|attr\w*):",
        r"(?:frozen[_-]string[_-]literal|warn[_-]indent|warn[_-]past[_-]scope|shareable_constant_value|rbs_inline)\s*:",
        r"-\*-.*-\*-|(?:file)?(?:en)?coding\s*[:=]\s*[\w.-]+\s*$|(?:vim?|ex):\s*(?:set?\s.*[=:]|\w+=)|Local Variables:|kate:|jedit:",
        r"type:\s*ignore\b",
    ];
    regex(&format!("^(?:{})", alternatives.join("|")))
});

/// A line comment of Go that is no documentation, as the package `go/ast` decides, and marker comments.
static GO_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^//(?:line |extern |export |[a-z0-9]+:[a-z0-9]|sys(?:nb)?\s|\s?\+[a-z]|\s?nolint\b|(?:end)?region\b)"));

/// A line comment of Ruby with the type of a method, or the line that starts the interpreter.
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

/// A documentation text without its lines for tools and without lines of punctuation around it. In Ruby also without the text that is
/// hidden between `--` and `++` or belongs to a directive of YARD or RDoc, and with tags after the text.
pub fn without(language: Language, text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().filter(|line| !DIRECTIVE.is_match(line.trim())).collect();
    if language == Language::Ruby {
        lines = tags_last(shown_in_ruby(lines));
    }
    let is_ornament = |line: &&str| line.chars().all(|c| "*-=#~_/ ".contains(c));
    while lines.last().is_some_and(is_ornament) {
        lines.pop();
    }
    let start = lines.iter().position(|line| !is_ornament(line)).unwrap_or(lines.len());
    lines[start..].join("\n").trim().to_owned()
}

/// Is a line indented, or blank: part of the tag or directive above it?
fn is_continued(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with([' ', '\t'])
}

/// Lines that RDoc and YARD show.
fn shown_in_ruby(lines: Vec<&str>) -> Vec<&str> {
    let (mut is_hidden, mut is_directive) = (false, false);
    let is_shown = |line: &&str| {
        let text = line.trim();
        is_directive = ["@!", "call-seq:", ":call-seq:"].iter().any(|start| text.starts_with(start)) || is_directive && is_continued(line);
        is_hidden = text == "--" || is_hidden && text != "++";
        !is_hidden && !is_directive && text != "++"
    };
    lines.into_iter().filter(is_shown).collect()
}

/// Text that follows tags belongs to the function again where it is not indented: it is placed before the tags.
fn tags_last(lines: Vec<&str>) -> Vec<&str> {
    let is_tag = |line: &&&str| line.starts_with('@') || is_continued(line);
    let tags = lines.iter().take_while(is_tag).count();
    let (tags, text) = lines.split_at(tags);
    if text.is_empty() { lines } else { text.iter().chain([&""]).chain(tags).copied().collect() }
}

/// A tag or a sentence about a whole file.
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    let tags = r"(?m)^\s*@(?:file|fileoverview|overview|module|namespace|providesModule|packageDocumentation|externs)\b";
    let sentences = r"this (?:source |php )?(?:file|module|script) (?:is part of|contains|defines|provides|implements)\b";
    regex(&format!(r"(?i)(?:{tags}|\A\s*(?:{sentences}|(?:plugin|theme|template) name:))"))
});

/// A notice of copyright or a licence, at the start of a line.
const NOTICES: [&str; 6] = [
    r"@(?:licen[sc]e|preserve)\b|SPDX-License-Identifier",
    r"(?:copyright\s*(?:\(c\)|©)?|©|\(c\))\s*[12]\d{3}\b|copyright\b.*(?:[12]\d{3}|all rights reserved)|all rights reserved",
    r"this (?:source )?(?:file|program|library|software|code|package|work) is (?:part of|free software|subject to|distributed under|licensed under|released under)",
    r"(?:distributed|released|licensed|provided) under the\b.*\blicen[sc]e",
    r"permission is hereby granted|redistribution and use in source",
    r"for the full copyright",
];

/// A notice on the first line.
static FIRST_NOTICE: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"(?i)\A\s*(?:{})", NOTICES.join("|"))));
static NOTICE: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"(?im)^\s*(?:{})", NOTICES.join("|"))));

/// Tags that only the documentation of a function has.
static FUNCTION: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?im)^\s*@(?:params?|returns?|throws|exception|yields?|yieldparam|arg|argument|callback)\b"));

/// Tags that the header of a file has, and a function may have.
static HEADER: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?im)^\s*@(?:package|subpackage|category|author|version|since|licen[sc]e|copyright)\b"));

/// Is a documentation text the header of its file? `starts_file`: does the file start with it, and a blank line follow?
pub fn is_file_header(text: &str, starts_file: impl Fn() -> bool) -> bool {
    let is_licence = || FIRST_NOTICE.is_match(text) || NOTICE.find_iter(text).nth(1).is_some();
    !FUNCTION.is_match(text) && (FILE.is_match(text) || is_licence() || HEADER.is_match(text) && starts_file())
}
