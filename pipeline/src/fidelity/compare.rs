//! Compares one record with the fields that are derived from its code.

use ledger::Language;

use crate::{
    error::{Context, Result},
    functions::{self, Dialect, Function, documentation},
    grammar::Scope,
    records::Record,
};

/// The field for the tokens of [`Dialect::Plain`], which differ on purpose.
pub const PLAIN: &str = "code_tokens_plain";

/// One field of one record.
pub struct Compared {
    pub language: Language,
    pub field: &'static str,
    /// Kind of the difference and an example; none where the field is equal.
    pub difference: Option<(String, String)>,
}

/// Compares every field of a record that its code determines.
pub fn compare(record: &Record) -> Result<Vec<Compared>> {
    let language = record.language;
    let mut compared = Vec::new();
    let mut push = |field, difference| compared.push(Compared { language, field, difference });
    let functions = |dialect| functions(language, &record.code, dialect).with_context(|| record.url.clone());
    let Some(function) = functions(Dialect::Codesearchnet)?.into_iter().next() else {
        let docstring = (language == Language::Python).then_some("docstring");
        for field in ["func_name", "code_tokens", "docstring_tokens", PLAIN].into_iter().chain(docstring) {
            push(field, Some(("no function found".to_owned(), record.url.clone())));
        }
        return Ok(compared);
    };
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let pair = |theirs: &str, ours: &str| {
        (theirs != ours).then(|| ("other".to_owned(), format!("{}\ntheirs {theirs:?}\nours   {ours:?}", record.url)))
    };
    push("func_name", pair(&last(&record.func_name), &last(&function.name)));
    let theirs: Vec<&str> = record.code_tokens.iter().collect();
    push("code_tokens", differ(&theirs, &function.code_tokens, &record.url));
    // In other languages the documentation is above the function: only its tokens can be derived.
    let docstring = if language == Language::Python { function.docstring.clone() } else { record.docstring.clone() };
    if language == Language::Python {
        push("docstring", pair(&record.docstring, &docstring));
    }
    let theirs: Vec<&str> = record.docstring_tokens.iter().collect();
    push("docstring_tokens", differ(&theirs, &docstring_tokens(language, &docstring), &record.url));
    if let Some(plain) = functions(Dialect::Plain)?.into_iter().next() {
        let theirs: Vec<&str> = record.code_tokens.iter().filter(|token| !language.is_comment(token)).collect();
        push(PLAIN, differ(&theirs, &plain.code_tokens, &record.url));
    }
    Ok(compared)
}

/// Tokens of the summary. Go's documentation in the records still has comment markers.
fn docstring_tokens(language: Language, docstring: &str) -> Vec<String> {
    let summary = documentation::summary(docstring, Dialect::Codesearchnet);
    match language {
        Language::Go => documentation::tokens(&documentation::strip_c_style(summary)),
        _ => documentation::tokens(summary),
    }
}

/// The functions of a text that is one function, possibly only with some text around it.
fn functions(language: Language, code: &str, dialect: Dialect) -> Result<Vec<Function>> {
    let (scope, wraps): (_, &[(&str, &str)]) = match language {
        Language::Java => (Scope::File, &[("class Toto {\n", "\n}")]),
        Language::Javascript if code.starts_with("function") || code.starts_with("async function") => {
            (Scope::File, &[("", ""), ("let toto = ", "")])
        }
        Language::Javascript => (Scope::File, &[("class Toto {\n", "\n}"), ("let toto = ", "")]),
        Language::Php if code.trim_start().starts_with("<?") => (Scope::File, &[("", "")]),
        // A method without a class parses too, unless it has `public`.
        Language::Php => (Scope::Function, &[("class Toto {\n", "\n}"), ("", "")]),
        _ => (Scope::File, &[("", "")]),
    };
    for (before, after) in wraps {
        let found = functions::extract_in(language, scope, format!("{before}{code}{after}").as_bytes(), dialect)?;
        // A function on a later line is a function inside the record's function.
        let first_line = 1 + before.matches('\n').count();
        if found.first().is_some_and(|function| function.lines.0 as usize == first_line) {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// The first difference of two token lists, as a kind of difference and an example.
fn differ(theirs: &[&str], ours: &[String], url: &str) -> Option<(String, String)> {
    let index = (0..theirs.len().max(ours.len())).find(|&index| theirs.get(index).copied() != ours.get(index).map(String::as_str))?;
    let class = |token: Option<&str>| match token {
        None => "nothing".to_owned(),
        Some("") => "an empty token".to_owned(),
        Some(token) if token.starts_with(['#']) || token.starts_with("//") || token.starts_with("/*") => "a comment".to_owned(),
        Some(token) if token.contains(['"', '\'', '`']) => "a string".to_owned(),
        Some(token) if token.starts_with(':') && token.len() > 1 => "a symbol".to_owned(),
        Some(token) if token.starts_with(|c: char| c.is_alphabetic() || c == '_') => "a name".to_owned(),
        Some(token) if token.starts_with(|c: char| c.is_ascii_digit()) => "a number".to_owned(),
        Some(token) => format!("`{}`", token.chars().take(12).collect::<String>()),
    };
    let kind = format!("theirs {}, ours {}", class(theirs.get(index).copied()), class(ours.get(index).map(String::as_str)));
    let around = |tokens: &[&str]| tokens[index.saturating_sub(3).min(tokens.len())..(index + 4).min(tokens.len())].join(" ");
    let own: Vec<&str> = ours.iter().map(String::as_str).collect();
    Some((kind, format!("{url}\ntheirs {}\nours   {}", around(theirs), around(&own))))
}
