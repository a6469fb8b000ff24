//! Splitting text into words: the analysis of code, documentation and queries.
//!
//! It is part of the format of a bundle (`schema.md` gives it as a regular expression), so that a reader in another language can
//! analyse queries in the same way.

/// Splits a text into lower-case words, and adds them to `words`.
///
/// Words end at characters that are neither letters nor digits, at changes of case (`camelCase`, `HTTPServer`) and between letters and
/// digits.
///
/// ```
/// let mut words = Vec::new();
/// ledger::words::subtokens("parseHTTPDate2", &mut words);
/// assert_eq!(words, ["parse", "http", "date", "2"]);
/// ```
pub fn subtokens(text: &str, words: &mut Vec<String>) {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Upper,
        Lower,
        Digit,
        Other,
    }
    let class = |c: char| {
        // Capitals without a lower case (mathematical letters) count as lower case.
        if c.is_uppercase() && c.to_lowercase().next() != Some(c) {
            Class::Upper
        } else if c.is_alphabetic() {
            Class::Lower
        } else if c.is_numeric() {
            Class::Digit
        } else {
            Class::Other
        }
    };
    let class = |c: char| match c {
        'a'..='z' => Class::Lower,
        'A'..='Z' => Class::Upper,
        '0'..='9' => Class::Digit,
        '\0'..='\u{7f}' => Class::Other,
        c => class(c),
    };
    let mut word = String::new();
    let mut last = Class::Other;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let now = class(c);
        let next = chars.peek().map_or(Class::Other, |&next| class(next));
        let starts = match (last, now) {
            (_, Class::Other) => true,
            (Class::Upper, Class::Lower) | (Class::Lower, Class::Lower) | (Class::Digit, Class::Digit) => false,
            // The last capital of several belongs to the next word: HTTP|Server.
            (Class::Upper, Class::Upper) => next == Class::Lower,
            _ => true,
        };
        if starts && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if now != Class::Other && c.is_ascii() {
            word.push(c.to_ascii_lowercase());
        } else if now != Class::Other {
            // The lower case of a letter may end in a combining mark.
            word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
        last = now;
    }
    if !word.is_empty() {
        words.push(word);
    }
}

/// Neighbouring words joined, then all words joined: `my sql` of `connectMySQL` is also found as `mysql`.
///
/// ```
/// assert_eq!(ledger::words::compounds("connectMySQL"), ["connectmy", "mysql", "connectmysql"]);
/// ```
pub fn compounds(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    subtokens(name, &mut parts);
    let mut joined: Vec<String> = parts.windows(2).map(<[String]>::concat).collect();
    if parts.len() > 2 {
        joined.push(parts.concat());
    }
    joined
}

/// [`subtokens`] of a text, joined by single spaces: the form of the fields in the lexical index.
pub fn joined(text: &str) -> String {
    let mut words = Vec::new();
    subtokens(text, &mut words);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_are_split_into_words() {
        for (text, expected) in [
            ("parseHTTPDate2", "parse http date 2"),
            ("read_jsonl_gz", "read jsonl gz"),
            ("Loader.__init__", "loader init"),
            ("iso8601 date-time", "iso 8601 date time"),
            ("ÉcoleÜber", "école über"),
            ("XMLHttpRequest", "xml http request"),
            ("  ", ""),
        ] {
            assert_eq!(joined(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn analysis_is_idempotent_and_keeps_every_letter(text in "\\PC{0,60}") {
            let once = joined(&text);
            prop_assert_eq!(joined(&once), once.clone());
            let kept = |text: &str| text.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).count();
            prop_assert_eq!(kept(&once), text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).count());
        }
    }
}
