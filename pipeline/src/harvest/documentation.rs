//! Documentation of a function: comment markers removed, summarised and tokenised as CodeSearchNet's `function_parser` does
//! (`parser_utils.py`, `language_parser.py`).

use std::sync::LazyLock;

use regex::Regex;

/// `DOCSTRING_REGEX_TOKENIZER` of CodeSearchNet's `parser_utils.py`. Its class `+-/` is a range.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"[^\s,'"`.():\[\]=*;>{}+\-/\\]+|\\+|\.+|\(\)|\{\}|\[\]|\(+|\)+|:+|\[+|\]+|\{+|\}+|=+|\*+|;+|>+|\++|-+|/+"#)
        .expect("the expression is constant")
});

/// Tokens of a documentation text.
pub fn tokens(text: &str) -> Vec<String> {
    TOKENS.find_iter(text).map(|token| token.as_str().to_owned()).collect()
}

/// The text before the first blank line, else before the first `@`, else the whole text.
pub fn summary(text: &str) -> &str {
    match (text.find("\n\n"), text.find('@')) {
        (Some(blank), _) => &text[..blank],
        (None, Some(at)) => &text[..at],
        (None, None) => text,
    }
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
    comment.lines().map(clean).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The text of a Python string literal, without prefix and quotes.
pub fn python_string(literal: &str) -> String {
    let body = literal.trim().trim_start_matches(['r', 'R', 'u', 'U', 'b', 'B']);
    let body = ["\"\"\"", "'''", "\"", "'"]
        .iter()
        .find_map(|quote| body.strip_prefix(quote).map(|rest| rest.strip_suffix(quote).unwrap_or(rest)))
        .unwrap_or(body);
    body.trim().to_owned()
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
    fn a_summary_ends_at_a_blank_line_or_a_tag() {
        assert_eq!(summary("Opens it.\n\nLong story."), "Opens it.");
        assert_eq!(summary("Opens it.\n@param path where"), "Opens it.\n");
        assert_eq!(summary("Mail a@b.\n\nMore."), "Mail a@b.");
    }

    #[test]
    fn comment_markers_are_removed() {
        assert_eq!(strip_c_style("/**\n   * Opens it.\n   *\n   * @param p x\n   */"), "Opens it.\n\n@param p x");
        assert_eq!(strip_c_style("// Get reads\n// one value."), "Get reads\none value.");
        assert_eq!(strip_hash("# Opens it.\n#\n# More."), "Opens it.\n\nMore.");
        assert_eq!(python_string("r'''Opens\n it.'''"), "Opens\n it.");
    }
}
