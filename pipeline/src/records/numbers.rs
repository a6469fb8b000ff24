//! Numbers that Python writes into JSON, and that JSON does not have.

/// The text with `null` for `NaN`, `Infinity` and `-Infinity` outside of strings; none where it has none of them.
pub fn as_null(text: &str) -> Option<String> {
    let (mut out, mut in_string, mut rest) = (String::with_capacity(text.len()), false, text);
    let mut is_changed = false;
    while let Some(next) = rest.chars().next() {
        let number = ["NaN", "Infinity", "-Infinity"].into_iter().find(|number| !in_string && rest.starts_with(number));
        let taken = match (number, next) {
            (Some(number), _) => {
                is_changed = true;
                out.push_str("null");
                rest = &rest[number.len()..];
                continue;
            }
            (None, '\\') => rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end),
            (None, _) => next.len_utf8(),
        };
        in_string ^= next == '"';
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    is_changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_outside_of_strings_become_null() {
        assert_eq!(
            as_null(r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN"}"#).unwrap(),
            r#"{"a": null, "b": [null, null], "c": "NaN"}"#
        );
        assert_eq!(as_null(r#"{"a": "\\\"NaN", "b": "é\\"}"#), None);
        assert_eq!(as_null("\\"), None);
    }
}
