//! Texts of errors about keys: what is wrong, and the nearest known name.

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a message with the nearest known name. `at`: dotted path.
pub(crate) fn explain(at: &str, message: &str) -> String {
    let message = match message.strip_prefix("HOCON deserialization error") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, rest)| rest),
        None => message,
    };
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((unknown, known)) if !known.is_empty() && message.contains("unknown variant") => unknown_value(at, unknown, known),
        Some((unknown, known)) if !known.is_empty() && message.contains("unknown field") => {
            let key = if at.ends_with(unknown) { at.to_owned() } else { format!("{at}.{unknown}") };
            unknown_key(&key, unknown, known)
        }
        _ => format!("`{at}`: {message}"),
    }
}

/// A key that is not one of the known names.
pub(crate) fn unknown_key(path: &str, name: &str, known: &[&str]) -> String {
    format!("unknown key `{path}`{}", advice(name, known))
}

/// A value that is not one of the known names.
pub(crate) fn unknown_value(path: &str, name: &str, known: &[&str]) -> String {
    format!("unknown value `{name}` at `{path}`{}", advice(name, known))
}

fn advice(name: &str, known: &[&str]) -> String {
    format!(", did you mean `{}`? (known: {})", nearest(name, known), known.join(", "))
}

/// The known name closest by edit distance.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    known.iter().min_by_key(|other| strsim::damerau_levenshtein(name, other)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_fields_has_no_nearest_name() {
        let message = "unknown field `x`, there are no fields";
        assert_eq!(explain("stage.x", message), format!("`stage.x`: {message}"));
        let known = "unknown field `sise`, expected one of `size`, `seed`";
        assert!(explain("stage", known).starts_with("unknown key `stage.sise`"), "{}", explain("stage", known));
    }
}
