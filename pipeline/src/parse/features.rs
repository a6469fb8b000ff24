//! Features of a function from its syntax tree: parameters, calls, imports, strings, comments, cyclomatic complexity; and a
//! short text of its structure.

use std::collections::HashSet;

use ledger::words;

use super::{roles::Parts, tree::Flat};

/// Longest text of a string or comment, in characters. Longer texts are truncated.
const MAX_TEXT: usize = 200;
/// Longest callee, in bytes. A longer callee, or one that is not a dotted name, is replaced by its last identifier.
const MAX_CALLEE: usize = 60;
/// Largest number of calls, and of parameters, in the structure.
const MAX_NAMED: usize = 20;
/// Largest number of entries in a list.
const MAX_LISTED: usize = 1000;

/// Features of a function. Lists are in source order and have at most a thousand entries. Calls, imports and strings have no
/// repetitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The text before the body, in one line.
    pub signature: String,
    pub parameters: Vec<String>,
    pub calls: Vec<String>,
    pub imports: Vec<String>,
    pub strings: Vec<String>,
    pub comments: Vec<String>,
    pub identifiers: Vec<String>,
    /// Number of decisions + 1 (McCabe, "A complexity measure", 1976). Decisions: branches, loops, cases, handlers, `&&`,
    /// `||` and `??`; Java's `default` counts as a case.
    pub cyclomatic: u32,
}

/// The features of a tree.
pub fn features(flat: &Flat<'_>, parts: &Parts) -> Features {
    let mut found = Features { cyclomatic: 1, ..Features::default() };
    let (mut function, mut docstrings) = (None, HashSet::new());
    let [mut calls, mut imports, mut strings]: [Distinct; 3] = Default::default();
    for (number, node) in flat.nodes.iter().enumerate() {
        let kind = node.kind;
        if !flat.kinds.is_named(kind) {
            found.cyclomatic += u32::from(parts.connectives.has(kind));
            continue;
        }
        if parts.is_identifier(kind) && flat.is_leaf(number) {
            if found.identifiers.len() < MAX_LISTED {
                found.identifiers.push(flat.text(number).into_owned());
            }
            continue;
        }
        found.cyclomatic += u32::from(parts.decisions.has(kind));
        if parts.functions.has(kind) {
            function.get_or_insert(number);
            docstrings.extend(docstring(flat, number, parts));
        }
        if parts.calls.has(kind) {
            calls.add(callee(flat, number, parts));
        } else if parts.strings.has(kind) {
            if !docstrings.contains(&number) {
                strings.add(short(&flat.text(number)));
            }
        } else if parts.comments.has(kind) && found.comments.len() < MAX_LISTED {
            found.comments.push(short(&flat.text(number)));
        } else if parts.imports.has(kind) {
            imports.add(short(&one_line(&flat.text(number))));
        }
    }
    (found.calls, found.imports, found.strings) = (calls.list, imports.list, strings.list);
    if let Some(function) = function {
        found.signature = signature(flat, function, parts);
        found.parameters = parameters(flat, function, parts);
    }
    found
}

/// The docstring of a Python function: a string that is the first statement of the body. It is documentation, not a string of the code.
fn docstring(flat: &Flat<'_>, function: usize, parts: &Parts) -> Option<usize> {
    let body = flat.child(function, "body").filter(|&body| flat.kind(body) == "block")?;
    let statement = |child: &usize| flat.is_named(*child) && !parts.comments.has(flat.nodes[*child].kind);
    let first = flat.children(body).find(statement).filter(|&first| flat.kind(first) == "expression_statement")?;
    let mut inner = flat.children(first).filter(|&child| flat.is_named(child));
    let string = inner.next().filter(|&string| flat.kind(string) == "string")?;
    inner.next().is_none().then_some(string)
}

/// A list without repetitions and with a limited length: a data table can have a hundred thousand strings.
#[derive(Default)]
struct Distinct {
    seen: HashSet<String>,
    list: Vec<String>,
}

impl Distinct {
    fn add(&mut self, text: String) {
        if !text.is_empty() && self.list.len() < MAX_LISTED && !self.seen.contains(&text) {
            self.seen.insert(text.clone());
            self.list.push(text);
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Name of the called function: `open`, `json.loads`, `self.client.get`; the last name of a longer chain.
fn callee(flat: &Flat<'_>, call: usize, parts: &Parts) -> String {
    let (start, _) = flat.nodes[call].bytes;
    let named = ["function", "constructor", "name", "method", "type"].into_iter().find_map(|field| flat.child(call, field));
    // PHP's `new Loader(…)` has no field.
    let Some(name) = named.or_else(|| flat.children(call).find(|&child| flat.is_named(child))) else { return String::new() };
    if parts.functions.has(flat.nodes[name].kind) || flat.kind(name) == "parenthesized_expression" {
        // A function that is called where it is defined has no name.
        return String::new();
    }
    let is_creation = flat.child(call, "constructor").is_some() || flat.kind(call) == "object_creation_expression";
    let from = if is_creation { flat.nodes[name].bytes.0 } else { start };
    let text = flat.span(from, flat.nodes[name].bytes.1);
    let is_path = |text: &str| text.len() <= MAX_CALLEE && text.chars().all(|c| c.is_alphanumeric() || "_.$@:>-\\?!".contains(c));
    if is_path(&text) {
        return text.replace("->", ".").replace("::", ".").trim_start_matches(['$', '\\']).to_owned();
    }
    let subtree = name..flat.nodes[name].end as usize;
    let last = subtree.rev().find(|&node| parts.is_identifier(flat.nodes[node].kind));
    last.map(|node| flat.text(node).into_owned()).unwrap_or_default()
}

/// The text before the body, without comments.
fn signature(flat: &Flat<'_>, function: usize, parts: &Parts) -> String {
    let (start, end) = flat.nodes[function].bytes;
    let end = match flat.child(function, "body") {
        Some(body) => {
            let before = flat.children(function).take_while(|&child| child != body);
            before.filter(|&child| !parts.comments.has(flat.nodes[child].kind)).last().map_or(start, |child| flat.nodes[child].bytes.1)
        }
        None => start + flat.span(start, end).lines().next().map_or(0, |line| u32::try_from(line.len()).unwrap_or_default()),
    };
    let text = one_line(&flat.span(start, end));
    short(text.trim_end_matches(['{', ':', ' ', '=', '>']))
}

fn parameters(flat: &Flat<'_>, function: usize, parts: &Parts) -> Vec<String> {
    let is_name = |node: usize| parts.is_identifier(flat.nodes[node].kind) && flat.kind(node) != "type_identifier";
    let mut names = Vec::new();
    if let Some(single) = flat.child(function, "parameter") {
        names.push(flat.text(single).into_owned());
    }
    let Some(list) = flat.child(function, "parameters") else { return names };
    for parameter in flat.children(list).filter(|&child| flat.is_named(child)) {
        if flat.is_leaf(parameter) {
            if is_name(parameter) {
                names.push(flat.text(parameter).into_owned());
            }
            continue;
        }
        // In Go one type can follow several names.
        let fields =
            |field: &'static str| flat.children(parameter).filter(move |&child| flat.kinds.field(flat.nodes[child].field) == field);
        let mut named: Vec<usize> = fields("name").chain(fields("left")).collect();
        if named.iter().any(|&node| matches!(flat.kind(node), "object_pattern" | "array_pattern")) {
            let leaves = named.iter().flat_map(|&node| node..flat.nodes[node].end as usize);
            named = leaves.filter(|&node| flat.is_leaf(node) && is_name(node)).collect();
        } else if named.is_empty() {
            // JavaScript destructures objects and arrays.
            let most = if matches!(flat.kind(parameter), "object_pattern" | "array_pattern") { usize::MAX } else { 1 };
            let leaves = parameter..flat.nodes[parameter].end as usize;
            named = leaves.filter(|&node| flat.is_leaf(node) && is_name(node)).take(most).collect();
        }
        names.extend(named.into_iter().map(|node| flat.text(node).trim_start_matches('$').to_owned()));
    }
    names
}

/// Text that an encoder reads instead of code, for example `function read jsonl in class loader , parameters path , limit ,
/// calls open , json loads`.
pub fn structure(func_name: &str, features: &Features) -> Vec<String> {
    let (class, own) = match func_name.rsplit_once(['.', ':', '#']) {
        Some((class, own)) => (class, own),
        None => ("", func_name),
    };
    let mut text = vec!["function".to_owned()];
    words::subtokens(own, &mut text);
    if !class.is_empty() {
        text.extend(["in", "class"].map(str::to_owned));
        words::subtokens(class, &mut text);
    }
    for (label, names) in [("parameters", &features.parameters), ("calls", &features.calls)] {
        for (index, name) in names.iter().take(MAX_NAMED).enumerate() {
            text.push(",".to_owned());
            if index == 0 {
                text.push(label.to_owned());
            }
            words::subtokens(name, &mut text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grammar::{self, Scope},
        parse::tree,
    };
    use ledger::Language;

    /// Compares the features of a fixture with the comments `EXPECT feature = value` in it.
    fn check(language: Language, source: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let scope = Scope::Function;
        let tree = grammar::parse(language, scope, source.as_bytes()).unwrap();
        let flat = Flat::of(&tree, tree::kinds(language, scope), source);
        assert!(!flat.has_error, "{language}: {}", tree.root_node().to_sexp());
        let found = features(&flat, &Parts::of(language, flat.kinds));
        let structure = structure("Loader.readJsonl", &found);
        let mut checked = 0;
        for (name, expected) in source.lines().filter_map(|line| line.split_once("EXPECT ")?.1.split_once(" =")) {
            let list = |texts: &[String]| texts.join(" | ");
            let own = match name {
                "signature" => found.signature.clone(),
                "parameters" => list(&found.parameters),
                "calls" => list(&found.calls),
                "imports" => list(&found.imports),
                "strings" => list(&found.strings),
                "cyclomatic" => found.cyclomatic.to_string(),
                "structure" => structure.join(" "),
                other => panic!("there is no feature {other}"),
            };
            if own != expected.trim() {
                wrong.push(format!("{language} {name}\n  expected {}\n  found    {own}", expected.trim()));
            }
            checked += 1;
        }
        assert_eq!(checked, 7);
        assert!(found.comments.iter().any(|comment| comment.contains("EXPECT signature")));
        assert!(found.identifiers.iter().any(|name| name.contains("path")), "{:?}", found.identifiers);
        wrong
    }

    #[test]
    fn features_are_found_in_six_languages() {
        let wrong = [
            check(Language::Python, include_str!("fixtures/features.py")),
            check(Language::Javascript, include_str!("fixtures/features.js")),
            check(Language::Go, include_str!("fixtures/features.go")),
            check(Language::Java, include_str!("fixtures/features.java")),
            check(Language::Php, include_str!("fixtures/features.php")),
            check(Language::Ruby, include_str!("fixtures/features.rb")),
        ]
        .concat();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn docstrings_are_not_strings() {
        let source =
            "def f(a):\n    # comment\n    \"\"\"Reads a file.\"\"\"\n    def g():\n        'Inner.'\n        return 'x'\n    'later'\n";
        let tree = grammar::parse(Language::Python, Scope::Function, source.as_bytes()).unwrap();
        let flat = Flat::of(&tree, tree::kinds(Language::Python, Scope::Function), source);
        assert_eq!(features(&flat, &Parts::of(Language::Python, flat.kinds)).strings, ["'x'", "'later'"]);
    }

    #[test]
    fn a_text_without_a_function_has_few_features() {
        let source = "x = (1";
        let tree = grammar::parse(Language::Python, Scope::Function, source.as_bytes()).unwrap();
        let flat = Flat::of(&tree, tree::kinds(Language::Python, Scope::Function), source);
        let found = features(&flat, &Parts::of(Language::Python, flat.kinds));
        assert_eq!((found.signature.as_str(), found.cyclomatic, flat.has_error), ("", 1, true));
        assert_eq!(structure("f", &found), ["function", "f"]);
    }
}
