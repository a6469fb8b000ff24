//! How near the harvest comes to CodeSearchNet: every field that can be derived from a true record's own code is
//! derived again and compared.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use ledger::Language;
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::{
    grammar::Scope,
    harvest::{self, Dialect, Function},
    ingest::{self, Record},
};

/// Equal rows and all rows of a field.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    equal: u64,
    rows: u64,
}

/// One kind of difference, with the first row that shows it.
#[derive(Debug, Clone)]
struct Difference {
    rows: u64,
    example: String,
}

/// Agreement by language and field, and what differs.
#[derive(Debug, Default)]
pub struct Fidelity {
    shares: BTreeMap<(Language, &'static str), Share>,
    differences: BTreeMap<(Language, &'static str, String), Difference>,
    unreadable: u64,
}

/// One field of one row.
struct Compared {
    language: Language,
    field: &'static str,
    /// `None` where it is equal; else the kind of the difference and an example.
    difference: Option<(String, String)>,
}

/// Our own dialect is meant to differ: only what differs most is shown.
const PLAIN: &str = "code_tokens_plain";
const MOST_KINDS_OF_PLAIN: usize = 6;

/// Rows compared in parallel at a time.
const BATCH: usize = 2048;

/// Compares every record below a folder.
pub fn measure(folder: &Path) -> Result<Fidelity> {
    let mut fidelity = Fidelity::default();
    let mut batch = Vec::new();
    ingest::each_record(folder, &mut |record| {
        match record {
            Some(record) => batch.push(record),
            None => fidelity.unreadable += 1,
        }
        if batch.len() >= BATCH {
            fidelity.add(std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    fidelity.add(batch)?;
    ensure!(!fidelity.shares.is_empty(), "no record below {} could be read: set CSN to a folder of CodeSearchNet files", folder.display());
    Ok(fidelity)
}

impl Fidelity {
    fn add(&mut self, batch: Vec<Record>) -> Result<()> {
        let compared: Vec<Vec<Compared>> = batch.into_par_iter().map(|record| compare(&record)).collect::<Result<_>>()?;
        for Compared { language, field, difference } in compared.into_iter().flatten() {
            let share = self.shares.entry((language, field)).or_default();
            share.rows += 1;
            match difference {
                None => share.equal += 1,
                Some((kind, example)) => {
                    self.differences.entry((language, field, kind)).or_insert(Difference { rows: 0, example }).rows += 1;
                }
            }
        }
        Ok(())
    }

    /// `agreement.<language>.<field>` and the like, for `fidelity.json`.
    pub fn flat(&self) -> Map<String, Value> {
        let mut flat = Map::new();
        for ((language, field), share) in &self.shares {
            flat.insert(format!("agreement.{language}.{field}"), Value::from(share.equal as f64 / share.rows as f64));
            flat.insert(format!("rows.{language}.{field}"), Value::from(share.rows));
        }
        flat.insert("unreadable".to_owned(), Value::from(self.unreadable));
        flat
    }

    /// The table, and every kind of difference with an example.
    pub fn text(&self) -> String {
        let mut text = format!("{:<12}{:<20}{:>8}{:>8}{:>10}\n", "language", "field", "rows", "equal", "agreement");
        for ((language, field), share) in &self.shares {
            let percent = 100.0 * share.equal as f64 / share.rows as f64;
            text += &format!("{:<12}{field:<20}{:>8}{:>8}{percent:>9.2}%\n", language.name(), share.rows, share.equal);
        }
        text += "\ncode_tokens_plain: the tokens that harvest writes by default, compared with the record's without comments.\n";
        let mut differences: Vec<_> = self.differences.iter().collect();
        differences.sort_by_key(|((language, field, _), difference)| (*language, *field, u64::MAX - difference.rows));
        let mut shown: BTreeMap<(Language, &str), usize> = BTreeMap::new();
        for ((language, field, kind), Difference { rows, example }) in differences {
            let place = shown.entry((*language, *field)).or_default();
            *place += 1;
            if *field == PLAIN && *place > MOST_KINDS_OF_PLAIN {
                continue;
            }
            text += &format!("\n{language} {field}: {kind} ({rows} rows)\n  {}\n", example.replace('\n', "\n  "));
        }
        text
    }
}

fn compare(record: &Record) -> Result<Vec<Compared>> {
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
    // The documentation of the other languages stands above the function: only its tokens can be derived.
    let docstring = if language == Language::Python { function.docstring.clone() } else { record.docstring.clone() };
    if language == Language::Python {
        push("docstring", pair(&record.docstring, &docstring));
    }
    let theirs: Vec<&str> = record.docstring_tokens.iter().collect();
    push("docstring_tokens", differ(&theirs, &docstring_tokens(language, &docstring), &record.url));
    if let Some(plain) = functions(Dialect::Plain)?.into_iter().next() {
        let is_comment = |token: &&&str| match language {
            Language::Python | Language::Ruby => token.starts_with('#'),
            _ => token.starts_with("//") || token.starts_with("/*") || language == Language::Php && token.starts_with('#'),
        };
        let theirs: Vec<&str> = record.code_tokens.iter().collect::<Vec<_>>().iter().filter(|token| !is_comment(token)).copied().collect();
        push(PLAIN, differ(&theirs, &plain.code_tokens, &record.url));
    }
    Ok(compared)
}

/// Tokens of the summary; Go's stored documentation still has its markers.
fn docstring_tokens(language: Language, docstring: &str) -> Vec<String> {
    let summary = harvest::summary(docstring);
    match language {
        Language::Go => harvest::documentation_tokens(&harvest::strip_c_style(summary)),
        _ => harvest::documentation_tokens(summary),
    }
}

/// The functions of a text that is one function: by itself, or with what makes it one.
fn functions(language: Language, code: &str, dialect: Dialect) -> Result<Vec<Function>> {
    let (scope, wraps): (_, &[(&str, &str)]) = match language {
        Language::Java => (Scope::File, &[("class Toto {\n", "\n}")]),
        Language::Javascript if code.starts_with("function") || code.starts_with("async function") => {
            (Scope::File, &[("", ""), ("let toto = ", "")])
        }
        Language::Javascript => (Scope::File, &[("class Toto {\n", "\n}"), ("let toto = ", "")]),
        Language::Php if code.trim_start().starts_with("<?") => (Scope::File, &[("", "")]),
        // A method by itself parses too, but for its `public`.
        Language::Php => (Scope::Function, &[("class Toto {\n", "\n}"), ("", "")]),
        _ => (Scope::File, &[("", "")]),
    };
    for (before, behind) in wraps {
        let found = harvest::extract_in(language, scope, format!("{before}{code}{behind}").as_bytes(), dialect)?;
        // One that stands further in is not the record's own, but one within it.
        let first_line = 1 + before.matches('\n').count();
        if found.first().is_some_and(|function| function.lines.0 as usize == first_line) {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// Where two lists of tokens part, as a kind that other rows share.
fn differ(theirs: &[&str], ours: &[String], url: &str) -> Option<(String, String)> {
    let place = (0..theirs.len().max(ours.len())).find(|&place| theirs.get(place).copied() != ours.get(place).map(String::as_str))?;
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
    let kind = format!("theirs {}, ours {}", class(theirs.get(place).copied()), class(ours.get(place).map(String::as_str)));
    let around = |tokens: &[&str]| tokens[place.saturating_sub(3).min(tokens.len())..(place + 4).min(tokens.len())].join(" ");
    let own: Vec<&str> = ours.iter().map(String::as_str).collect();
    Some((kind, format!("{url}\ntheirs {}\nours   {}", around(theirs), around(&own))))
}
