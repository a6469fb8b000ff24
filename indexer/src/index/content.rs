//! Digest of the code of a function that is the same wherever the function is, and however it is laid out and documented.

use ledger::{Digest, Language};

/// 128 bits of BLAKE3 in hexadecimal over the language and the code tokens, without comments and without Python's decorators. For a
/// function without tokens: over its code without white space.
pub fn content<'t>(language: Language, tokens: impl Iterator<Item = &'t str>, code: &str) -> String {
    let tokens: Vec<&str> = tokens.filter(|token| !language.is_comment(token)).collect();
    // Up to version 0.2.0, decorators were not part of the code of a function.
    let is_start = |token: &&str| language == Language::Python && ["def", "async"].contains(token);
    let start = tokens.iter().position(is_start).unwrap_or_default();
    let squeezed = if tokens.is_empty() { code.split_whitespace().collect() } else { String::new() };
    let mut bytes = Vec::with_capacity(2 * code.len());
    for text in [language.name()].into_iter().chain(tokens[start..].iter().copied()).chain(tokens.is_empty().then_some(&squeezed[..])) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    Digest::of_bytes(&bytes).to_string()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(language: &str, tokens: &[&str], code: &str) -> String {
        content(language.parse().unwrap(), tokens.iter().copied(), code)
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
