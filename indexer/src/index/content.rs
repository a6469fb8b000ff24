//! Digest of the code of a function that is the same wherever the function is, and however it is laid out and documented.

use ledger::Digest;

/// 128 bits of BLAKE3 in hexadecimal over the language and the code tokens without comments and without Python's
/// decorators. A function without tokens has its code without
/// white space instead.
pub fn content<'t>(language: &str, tokens: impl Iterator<Item = &'t str>, code: &str) -> String {
    let mut bytes = Vec::with_capacity(2 * code.len());
    let mut add = |text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    add(language);
    let mut is_empty = true;
    let tokens: Vec<&str> = tokens.filter(|token| !is_comment(language, token)).collect();
    // Decorators are code only since some version.
    let start = tokens.iter().position(|token| language == "python" && ["def", "async"].contains(token)).unwrap_or_default();
    for token in &tokens[start..] {
        is_empty = false;
        add(token);
    }
    if is_empty {
        add(&code.split_whitespace().collect::<String>());
    }
    Digest::of_bytes(&bytes).to_string()[..32].to_owned()
}

/// Is a code token a comment? Only tokens of CodeSearchNet's rules are.
fn is_comment(language: &str, token: &str) -> bool {
    match language {
        "python" | "ruby" => token.starts_with('#'),
        "php" if token.starts_with('#') => !token.starts_with("#["),
        _ => token.starts_with("//") || token.starts_with("/*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(language: &str, tokens: &[&str], code: &str) -> String {
        content(language, tokens.iter().copied(), code)
    }

    #[test]
    fn content_is_the_language_and_the_tokens_without_comments() {
        let plain = of("python", &["def", "f", "(", ")"], "def f()");
        assert_eq!(plain, of("python", &["def", "f", "# why", "(", ")"], "def  f() # why"));
        assert_eq!(plain, of("python", &["@", "cached", "def", "f", "(", ")"], "@cached def f()"));
        assert_ne!(plain, of("ruby", &["def", "f", "(", ")"], "def f()"));
        assert_ne!(plain, of("python", &["def", "f(", ")"], "def f()"));
        assert_ne!(of("php", &["#[A]", "f"], ""), of("php", &["f"], ""));
        assert_eq!((plain.len(), of("go", &[], "f ( )")), (32, of("go", &[], "f()")));
    }
}
