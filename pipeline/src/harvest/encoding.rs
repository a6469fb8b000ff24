//! Source files as UTF-8.

use std::{borrow::Cow, sync::LazyLock};

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};
use regex::bytes::Regex;

/// A comment in one of the first two lines that names the encoding, as Python (PEP 263), Ruby, Emacs and Vim read it; or a statement of PHP.
static DECLARATION: LazyLock<Regex> = LazyLock::new(|| {
    let comment = r"\A(?:[^\n]*\n)?[ \t\f]*(?:#|//|/\*|;)[^\n]*?coding[:=][ \t]*([-\w.]+)";
    let php = r#"declare\s*\(\s*encoding\s*=\s*["']([-\w.]+)"#;
    Regex::new(&format!("(?-u){comment}|{php}")).expect("the expression is constant")
});

/// Bytes at the start of a file that are searched for a declaration.
const HEAD_BYTES: usize = 1024;

/// The text of a file as UTF-8, without a byte order mark. The second value tells whether bytes were replaced by U+FFFD, because the file
/// is not in the encoding that its mark or its first lines name, or names none and is not UTF-8.
///
/// A file that names another encoding and is UTF-8 all the same is read as UTF-8.
pub fn decode(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return decoded(encoding, &bytes[mark..]);
    }
    let declared = DECLARATION.captures(&bytes[..bytes.len().min(HEAD_BYTES)]).and_then(|found| {
        let label = found.get(1).or_else(|| found.get(2))?;
        // A file whose first line is readable is not in UTF-16.
        encoding_of(&String::from_utf8_lossy(label.as_bytes())).filter(|encoding| ![UTF_16LE, UTF_16BE, REPLACEMENT].contains(encoding))
    });
    match declared {
        // An encoding of seven bits is valid UTF-8.
        Some(encoding) if encoding != UTF_8 && (bytes.is_ascii() || std::str::from_utf8(bytes).is_err()) => decoded(encoding, bytes),
        _ => decoded(UTF_8, bytes),
    }
}

fn decoded<'b>(encoding: &'static Encoding, bytes: &'b [u8]) -> (Cow<'b, [u8]>, bool) {
    let (text, replaced) = encoding.decode_without_bom_handling(bytes);
    let bytes = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    (bytes, replaced)
}

/// The encoding of a name, also of names that Python and Ruby have and the web does not.
fn encoding_of(name: &str) -> Option<&'static Encoding> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    // Emacs: `latin-1-unix`.
    let name = ["-unix", "-dos", "-mac"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let label = match name {
        "cp932" | "ms932" => "shift-jis".to_owned(),
        "cp936" => "gbk".to_owned(),
        "cp949" | "uhc" => "euc-kr".to_owned(),
        "cp950" => "big5".to_owned(),
        "utf-8-sig" | "utf8-mb4" => "utf-8".to_owned(),
        "latin9" | "latin-9" => "iso-8859-15".to_owned(),
        "latin7" | "latin-7" => "iso-8859-13".to_owned(),
        "latin8" | "latin-8" => "iso-8859-14".to_owned(),
        "mac-roman" => "macintosh".to_owned(),
        _ => name.replace("latin-", "latin").replace("iso-8859-1-", "iso-8859-1"),
    };
    Encoding::for_label(label.as_bytes()).or_else(|| Encoding::for_label(label.replace('-', "").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> (String, bool) {
        let (bytes, replaced) = decode(bytes);
        (String::from_utf8(bytes.into_owned()).unwrap(), replaced)
    }

    #[test]
    fn a_file_is_read_in_the_encoding_that_it_declares() {
        for (head, encoding) in [
            ("# -*- coding: latin-1 -*-\n", encoding_rs::WINDOWS_1252),
            ("#!/usr/bin/python\n# vim: set fileencoding=iso-8859-15 :\n", encoding_rs::ISO_8859_15),
            ("# encoding: cp1252\n", encoding_rs::WINDOWS_1252),
            ("// -*- coding: windows-1252-unix -*-\n", encoding_rs::WINDOWS_1252),
            ("<?php\ndeclare(encoding='ISO-8859-1');\n", encoding_rs::WINDOWS_1252),
        ] {
            let source = format!("{head}größe = 1\n");
            let (bytes, _, _) = encoding.encode(&source);
            assert!(std::str::from_utf8(&bytes).is_err(), "{head}");
            assert_eq!(text(&bytes), (source, false));
        }
        let japanese = "# coding: cp932\n名前 = 1\n";
        assert_eq!(text(&encoding_rs::SHIFT_JIS.encode(japanese).0), (japanese.to_owned(), false));
        let seven_bits = "# coding: iso-2022-jp\n名前 = 1\n";
        assert_eq!(text(&encoding_rs::ISO_2022_JP.encode(seven_bits).0), (seven_bits.to_owned(), false));
    }

    #[test]
    fn byte_order_marks_are_followed_and_removed() {
        let wide = |number: u16, big: bool| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        for big in [false, true] {
            let bytes: Vec<u8> = "\u{feff}größe".encode_utf16().flat_map(|number| wide(number, big)).collect();
            assert_eq!(text(&bytes), ("größe".to_owned(), false));
        }
        assert_eq!(text("\u{feff}größe".as_bytes()), ("größe".to_owned(), false));
    }

    #[test]
    fn other_bytes_are_replaced_and_reported() {
        assert_eq!(text("größe".as_bytes()), ("größe".to_owned(), false));
        assert_eq!(text(b"gr\xf6\xdfe"), ("gr\u{fffd}\u{fffd}e".to_owned(), true));
        assert_eq!(text(b"# coding: utf-16\ndef f"), ("# coding: utf-16\ndef f".to_owned(), false), "no UTF-16 file has this line");
        assert!(text(b"# coding: pelican\ngr\xf6\n").1, "an unknown name");
        assert_eq!(text("# coding: latin-1\ngröße\n".as_bytes()), ("# coding: latin-1\ngröße\n".to_owned(), false), "it is UTF-8");
    }
}
