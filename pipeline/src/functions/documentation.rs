//! Documentation of a function: comment markers removed, summarised and tokenised as CodeSearchNet's `function_parser` does
//! (`parser_utils.py`, `language_parser.py`).

use std::sync::LazyLock;

use regex::Regex;

use super::tokens::Dialect;

/// `DOCSTRING_REGEX_TOKENIZER` of CodeSearchNet's `parser_utils.py`. Its class `+-/` is a range.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"[^\s,'"`.():\[\]=*;>{}+\-/\\]+|\\+|\.+|\(\)|\{\}|\[\]|\(+|\)+|:+|\[+|\]+|\{+|\}+|=+|\*+|;+|>+|\++|-+|/+"#)
        .expect("the expression is constant")
});

/// Tokens of a documentation text.
pub fn tokens(text: &str) -> Vec<String> {
    TOKENS.find_iter(text).map(|token| token.as_str().to_owned()).collect()
}

/// A line that starts a tag of JavaDoc, JSDoc, PHPDoc or YARD (`@param x`), a field of Sphinx (`:param x:`) or a section of Google's style
/// (`Args:`); or that only refers to another documentation.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    let sections = "Args|Arguments|Parameters|Returns|Raises|Yields";
    let fields = "param|parameter|arg|type|returns?|rtype|raises?|var|ivar|keyword";
    let tag = format!(r"^\s*(?:@[A-Za-z]|\{{@(?i:inheritdoc)\}}\s*$|:(?:{fields})\b[^:]*:|(?:{sections}):\s*$)");
    Regex::new(&tag).expect("the expression is constant")
});

/// The lines before the first blank line and before the first line with a tag. A line of white space is blank.
pub fn summary(text: &str, dialect: Dialect) -> &str {
    if dialect == Dialect::Codesearchnet {
        return codesearchnet_summary(text);
    }
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() || TAG.is_match(line) {
            break;
        }
        end += line.len();
    }
    text[..end].trim_end()
}

/// The text before the first blank line, else before the first `@`, else the whole text.
fn codesearchnet_summary(text: &str) -> &str {
    match (text.find("\n\n"), text.find('@')) {
        (Some(blank), _) => &text[..blank],
        (None, Some(at)) => &text[..at],
        (None, None) => text,
    }
}

/// A docstring without the indentation that its lines after the first have in common, as Python's `inspect.cleandoc`.
pub fn dedent(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = lines.iter().skip(1).filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or_default();
    for (number, line) in lines.iter_mut().enumerate() {
        *line = if number == 0 { line.trim_start() } else { line.get(common..).unwrap_or_default() };
    }
    lines.join("\n").trim().to_owned()
}

/// Removes the markers `/** * */` and `//` from every line.
pub fn strip_c_style(comment: &str) -> String {
    let clean = |line: &str| {
        let line = line.trim();
        let line = line.strip_suffix("*/").unwrap_or(line);
        let line = ["/**", "/*", "*", "///", "//"].iter().find_map(|marker| line.strip_prefix(marker)).unwrap_or(line);
        line.trim().to_owned()
    };
    comment.lines().map(clean).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The text of a comment `/** … */` without its markers: any number of stars at its start, at its end and at the start of a line.
pub fn strip_block(comment: &str) -> String {
    let body = comment.trim().trim_start_matches('/').trim_start_matches('*');
    let body = body.strip_suffix('/').unwrap_or(body).trim_end_matches('*');
    let clean = |line: &str| {
        let line = line.trim();
        let text = line.trim_start_matches('*');
        // Two stars directly before a word are Markdown.
        let is_marker = text.is_empty() || text.starts_with([' ', '\t', '\u{a0}']) || line.len() - text.len() == 1;
        if is_marker { text.trim().to_owned() } else { line.to_owned() }
    };
    body.lines().map(clean).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Removes the marker `#` from every line.
pub fn strip_hash(comment: &str) -> String {
    let clean = |line: &str| {
        line.trim()
            .trim_start_matches('#')
            .trim_end()
            .strip_prefix(' ')
            .map(str::to_owned)
            .unwrap_or_else(|| line.trim().trim_start_matches('#').trim_end().to_owned())
    };
    // `=begin` and `=end` are the markers of Ruby's block comments.
    let is_marker = |line: &&str| line.starts_with("=begin") || line.starts_with("=end");
    comment.lines().filter(|line| !is_marker(line)).map(clean).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The text of a Python string literal, without prefix and quotes, and with its escape sequences replaced unless it is raw.
pub fn python_string(literal: &str) -> String {
    let is_raw = literal.trim().split(['"', '\'']).next().is_some_and(|prefix| prefix.contains(['r', 'R']));
    let body = literal.trim().trim_start_matches(['r', 'R', 'u', 'U', 'b', 'B']);
    let body = ["\"\"\"", "'''", "\"", "'"]
        .iter()
        .find_map(|quote| body.strip_prefix(quote).map(|rest| rest.strip_suffix(quote).unwrap_or(rest)))
        .unwrap_or(body);
    if is_raw { body.to_owned() } else { unescaped(body) }
}

/// A text with the escape sequences of Python replaced; others stay.
fn unescaped(text: &str) -> String {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?s)\\(?:(\r?\n)|([nrtabfv\\'"])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"#)
            .expect("the expression is constant")
    });
    let replaced = |found: &regex::Captures<'_>| match (found.get(1), found.get(2)) {
        (Some(_), _) => String::new(),
        (_, Some(letter)) => match letter.as_str() {
            "n" | "r" => "\n".to_owned(),
            "t" => "\t".to_owned(),
            quote @ ("\\" | "'" | "\"") => quote.to_owned(),
            _ => String::new(),
        },
        _ => {
            let digits = (3..6).find_map(|group| found.get(group)).map_or("", |digits| digits.as_str());
            let letter = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            letter.map_or_else(|| found[0].to_owned(), String::from)
        }
    };
    ESCAPE.replace_all(text, replaced).into_owned()
}

/// The text of a Python string literal as CodeSearchNet extracts it (`python_parser.py`): without quotes, but with a prefix
/// like `r`.
pub fn python_string_with_prefix(literal: &str) -> String {
    literal.trim().trim_matches('"').trim_matches('\'').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_codesearchnet_records() {
        assert_eq!(
            tokens("Calculate the mean relative abundance percentage."),
            ["Calculate", "the", "mean", "relative", "abundance", "percentage", "."]
        );
        assert_eq!(tokens("gives a->b (or c[d])"), ["gives", "a", "-", ">", "b", "(", "or", "c", "[", "d", "]", ")"]);
    }

    #[test]
    fn a_summary_ends_at_a_blank_line_or_a_line_with_a_tag() {
        let summary = |text| summary(text, Dialect::Plain);
        assert_eq!(summary("Opens it.\n\nLong story."), "Opens it.");
        assert_eq!(summary("Opens it.\r\n   \r\nLong story."), "Opens it.");
        assert_eq!(summary("Opens it.\n @param path where\n\nMore."), "Opens it.");
        assert_eq!(summary("Returns the {@link Crate} of a@b.org,\nnever null."), "Returns the {@link Crate} of a@b.org,\nnever null.");
        assert_eq!(summary("Opens it.\n:param path: where\n"), "Opens it.");
        assert_eq!(summary("Opens it.\nArgs:\n    path: where\n"), "Opens it.");
        assert_eq!((summary("@return x"), summary("{@inheritDoc}"), summary("")), ("", "", ""));
    }

    #[test]
    fn the_summaries_of_codesearchnet_end_at_any_at_sign() {
        let summary = |text| summary(text, Dialect::Codesearchnet);
        assert_eq!(summary("Opens it.\n@param path where"), "Opens it.\n");
        assert_eq!(summary("Mail a@b.\n\nMore."), "Mail a@b.");
    }

    #[test]
    fn a_docstring_loses_the_common_indentation() {
        assert_eq!(dedent("Opens it.\n\n        Args:\n            path: where\n    "), "Opens it.\n\nArgs:\n    path: where");
        assert_eq!(dedent("One.\r\n    Two."), "One.\nTwo.");
    }

    #[test]
    fn comment_markers_are_removed() {
        assert_eq!(strip_c_style("/**\n   * Opens it.\n   *\n   * @param p x\n   */"), "Opens it.\n\n@param p x");
        assert_eq!(strip_block("/*****\n ** Opens it.\n * *Now* or **later**.\n **/"), "Opens it.\n*Now* or **later**.");
        assert_eq!(strip_c_style("// Get reads\n// one value."), "Get reads\none value.");
        assert_eq!(strip_hash("# Opens it.\n#\n# More."), "Opens it.\n\nMore.");
        assert_eq!(strip_hash("=begin rdoc\nBoils it.\n=end"), "Boils it.");
        assert_eq!(python_string("r'''Opens\n it.'''"), "Opens\n it.");
        assert_eq!(python_string("\"\"\"\\\nOpens \\\"it\\\".\\n\\u00e9 \\d\"\"\""), "Opens \"it\".\né \\d");
        assert_eq!(python_string("R\"a\\n\""), "a\\n");
    }
}
