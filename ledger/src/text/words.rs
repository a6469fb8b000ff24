//! Splitting text into words: the analysis of code, documentation and queries.
//!
//! It is part of the format of a bundle (`schema.md` gives it as a regular expression), so that a reader in another language can
//! analyse queries in the same way.

use std::borrow::Cow;

use unicode_normalization::{
    UnicodeNormalization,
    char::{decompose_canonical, is_combining_mark},
};

/// Splits a text into lower-case words, and adds them to `words`.
///
/// Words end at characters that are neither letters nor digits, at changes of case (`camelCase`, `HTTPServer`) and between letters and
/// digits. Letters of Latin scripts lose their accents. Chinese, Japanese and Korean, which do not separate words as others do, are split
/// into overlapping pairs of letters.
///
/// ```
/// let mut words = Vec::new();
/// ledger::words::subtokens("parseHTTPDate2 of a café: 配置文件", &mut words);
/// assert_eq!(words, ["parse", "http", "date", "2", "of", "a", "cafe", "配置", "置文", "文件"]);
/// ```
pub fn subtokens(text: &str, words: &mut Vec<String>) {
    let text = folded(text);
    let mut word = String::new();
    let mut last = Class::Other;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let now = Class::of(c);
        let next = chars.peek().map_or(Class::Other, |&next| Class::of(next));
        let starts = match (last, now) {
            (_, Class::Other) => true,
            (Class::Upper, Class::Lower) => false,
            // The last capital of several belongs to the next word: HTTP|Server.
            (Class::Upper, Class::Upper) => next == Class::Lower,
            (last, now) => last != now,
        };
        if starts && !word.is_empty() {
            push(&mut word, last, words);
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
        push(&mut word, last, words);
    }
}

/// What a character is to the words around it.
#[derive(PartialEq, Clone, Copy)]
enum Class {
    Upper,
    Lower,
    Digit,
    /// Of a script that does not separate words, or whose words have endings (Korean).
    Ideograph,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' => Self::Lower,
            'A'..='Z' => Self::Upper,
            '0'..='9' => Self::Digit,
            '\0'..='\u{7f}' => Self::Other,
            _ if is_ideograph(c) => Self::Ideograph,
            // Capitals without a lower case (mathematical letters) count as lower case.
            _ if c.is_uppercase() && c.to_lowercase().next() != Some(c) => Self::Upper,
            _ if c.is_alphabetic() => Self::Lower,
            _ if c.is_numeric() => Self::Digit,
            _ => Self::Other,
        }
    }
}

/// Is this a letter of Chinese, Japanese or Korean: Han, Hiragana, Katakana, Bopomofo, Hangul?
fn is_ideograph(c: char) -> bool {
    let of_script = matches!(c,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}' | '\u{3040}'..='\u{30ff}'
        | '\u{3100}'..='\u{318f}' | '\u{31a0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    of_script && c.is_alphanumeric()
}

/// Adds a word; for ideographs, each pair of neighbours.
fn push(word: &mut String, class: Class, words: &mut Vec<String>) {
    let letters: Vec<char> = if class == Class::Ideograph { word.chars().collect() } else { Vec::new() };
    if letters.len() > 2 {
        words.extend(letters.windows(2).map(|pair| pair.iter().collect::<String>()));
        word.clear();
    } else {
        words.push(std::mem::take(word));
    }
}

/// Letters of Latin scripts that are no base letter with a mark.
const LATIN: [(char, &str); 13] = [
    ('ß', "ss"),
    ('ẞ', "SS"),
    ('æ', "ae"),
    ('Æ', "AE"),
    ('œ', "oe"),
    ('Œ', "OE"),
    ('ø', "o"),
    ('Ø', "O"),
    ('ł', "l"),
    ('Ł', "L"),
    ('đ', "d"),
    ('Đ', "D"),
    ('ı', "i"),
];

/// A text in Unicode's form NFKC, and its Latin letters without marks: `Ｃａｆé` is `Cafe`, however its `é` is written.
///
/// ```
/// assert_eq!(ledger::words::folded("Re\u{301}sumé of the ﬁle"), "Resume of the file");
/// ```
pub fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = Vec::new();
    for c in text.nfkc() {
        if let Some((_, latin)) = LATIN.iter().find(|(letter, _)| *letter == c) {
            out.push_str(latin);
            continue;
        }
        parts.clear();
        decompose_canonical(c, |part| parts.push(part));
        match parts.first() {
            Some(base) if base.is_ascii_alphabetic() => out.push(*base),
            _ if is_combining_mark(c) && out.ends_with(|last: char| last.is_ascii_alphabetic()) => {}
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A text without the byte order mark that Windows programs write at its start.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
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
            ("ÉcoleÜber", "ecole uber"),
            ("Straße Łódź", "strasse lodz"),
            ("cafe\u{301} café", "cafe cafe"),
            ("ＨＴＴＰ２ ﬁle", "http 2 file"),
            ("Größe Σίσυφος йод", "grosse σίσυφος йод"),
            ("读取config文件", "读取 config 文件"),
            ("利用者にメールを送信", "利用 用者 者に にメ メー ール ルを を送 送信"),
            ("ﾒｰﾙ が か\u{3099} 값의 합계를", "メー ール が が 값의 합계 계를"),
            ("XMLHttpRequest", "xml http request"),
            ("ΝέοΑρχείο", "νέο αρχείο"),
            ("  ", ""),
        ] {
            assert_eq!(joined(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn analysis_is_idempotent_and_keeps_every_ascii_letter(text in "(\\PC|[\u{300}-\u{310}\u{3040}-\u{3100}\u{ac00}-\u{ac20}]|[a-zA-Z0-9_]){0,60}") {
            let once = joined(&text);
            prop_assert_eq!(joined(&once), once.clone());
            let kept = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>();
            let (all, mut rest) = (kept(&once), kept(&text));
            // Folding adds letters, and changes none.
            for c in all.chars() {
                if rest.starts_with(c) {
                    rest.remove(0);
                }
            }
            prop_assert_eq!(rest, "");
        }
    }
}
