//! What a function says of itself, read off its tree: parameters, calls, imports, strings, comments, its
//! cyclomatic complexity, and from these a short text of its structure.

use std::collections::HashSet;

use ledger::{Language, words};

use super::tree::{Flat, KindSet, Kinds};

/// Texts of strings and comments are cut to so many characters.
const LONGEST_TEXT: usize = 200;
/// A callee that is longer than this, or more than a dotted name, is called by its last identifier.
const LONGEST_CALLEE: usize = 60;
/// Calls, and parameters, that the structure names.
const MOST_NAMED: usize = 20;
/// Entries of a list.
const MOST_LISTED: usize = 1000;

/// What a function says of itself. Lists are in source order and hold a thousand entries at most; calls, imports
/// and strings without repetitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// From the first word to the body, in one line.
    pub signature: String,
    pub parameters: Vec<String>,
    pub calls: Vec<String>,
    pub imports: Vec<String>,
    pub strings: Vec<String>,
    pub comments: Vec<String>,
    pub identifiers: Vec<String>,
    /// Decisions + 1 (McCabe, "A complexity measure", 1976): branches, loops, cases, handlers, `&&`, `||` and
    /// `??`; Java's `default` counts as a case.
    pub cyclomatic: u32,
}

/// The node types that play a part in a language.
pub struct Parts {
    functions: KindSet,
    calls: KindSet,
    imports: KindSet,
    strings: KindSet,
    comments: KindSet,
    identifiers: Vec<bool>,
    decisions: KindSet,
    /// Anonymous: `&&`, `and`.
    connectives: KindSet,
}

const FUNCTIONS: [&str; 12] = [
    "function_definition",
    "function_declaration",
    "method_declaration",
    "method_definition",
    "constructor_declaration",
    "generator_function_declaration",
    "generator_function",
    "function_expression",
    "arrow_function",
    "method",
    "singleton_method",
    "lambda",
];
const CALLS: [&str; 9] = [
    "call",
    "call_expression",
    "new_expression",
    "method_invocation",
    "object_creation_expression",
    "function_call_expression",
    "member_call_expression",
    "nullsafe_member_call_expression",
    "scoped_call_expression",
];
const IMPORTS: [&str; 10] = [
    "import_statement",
    "import_from_statement",
    "import_declaration",
    "namespace_use_declaration",
    "require_expression",
    "require_once_expression",
    "include_expression",
    "include_once_expression",
    "future_import_statement",
    "import_spec",
];
const STRINGS: [&str; 10] = [
    "string",
    "template_string",
    "interpreted_string_literal",
    "raw_string_literal",
    "string_literal",
    "encapsed_string",
    "heredoc",
    "nowdoc",
    "heredoc_body",
    "simple_symbol",
];
const COMMENTS: [&str; 5] = ["comment", "line_comment", "block_comment", "html_comment", "hash_bang_line"];
const DECISIONS: [&str; 39] = [
    "if_statement",
    "elif_clause",
    "else_if_clause",
    "for_statement",
    "for_in_statement",
    "enhanced_for_statement",
    "foreach_statement",
    "while_statement",
    "do_statement",
    "case_clause",
    "switch_case",
    "expression_case",
    "type_case",
    "communication_case",
    "switch_block_statement_group",
    "switch_rule",
    "case_statement",
    "match_conditional_expression",
    "except_clause",
    "catch_clause",
    "conditional_expression",
    "ternary_expression",
    "for_in_clause",
    "if_clause",
    "if",
    "elsif",
    "unless",
    "while",
    "until",
    "for",
    "when",
    "rescue",
    "if_modifier",
    "unless_modifier",
    "while_modifier",
    "until_modifier",
    "rescue_modifier",
    "in_clause",
    "conditional",
];

impl Parts {
    pub fn of(language: Language, kinds: &Kinds) -> Self {
        // In Ruby a symbol is much what a string is elsewhere; `require "x"` is a call.
        let strings: Vec<&str> = STRINGS.into_iter().filter(|kind| *kind != "simple_symbol" || language == Language::Ruby).collect();
        let identifiers = (0u16..).take(kinds.count()).map(|kind| {
            let name = kinds.name(kind);
            kinds.is_named(kind)
                && (name.ends_with("identifier")
                    || matches!(name, "name" | "constant" | "instance_variable" | "shorthand_property_identifier_pattern"))
        });
        Self {
            functions: kinds.are(&FUNCTIONS),
            calls: kinds.are(&CALLS),
            imports: kinds.are(&IMPORTS),
            strings: kinds.are(&strings),
            comments: kinds.are(&COMMENTS),
            identifiers: identifiers.collect(),
            decisions: kinds.are(&DECISIONS),
            connectives: kinds.are(&["&&", "||", "and", "or", "??"]),
        }
    }
}

/// Reads the features off a tree.
pub fn features(flat: &Flat<'_>, parts: &Parts) -> Features {
    let mut found = Features { cyclomatic: 1, ..Features::default() };
    let mut function = None;
    let [mut calls, mut imports, mut strings]: [Distinct; 3] = Default::default();
    for (number, node) in flat.nodes.iter().enumerate() {
        let kind = node.kind;
        if !flat.kinds.is_named(kind) {
            found.cyclomatic += u32::from(parts.connectives.has(kind));
            continue;
        }
        if parts.identifiers.get(usize::from(kind)).copied().unwrap_or_default() && flat.is_leaf(number) {
            if found.identifiers.len() < MOST_LISTED {
                found.identifiers.push(flat.text(number).into_owned());
            }
            continue;
        }
        found.cyclomatic += u32::from(parts.decisions.has(kind));
        if function.is_none() && parts.functions.has(kind) {
            function = Some(number);
        }
        if parts.calls.has(kind) {
            calls.add(callee(flat, number, parts));
        } else if parts.strings.has(kind) {
            strings.add(short(&flat.text(number)));
        } else if parts.comments.has(kind) && found.comments.len() < MOST_LISTED {
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

/// A list without repetitions, of a limited length: a table of data can hold a hundred thousand strings.
#[derive(Default)]
struct Distinct {
    met: HashSet<String>,
    list: Vec<String>,
}

impl Distinct {
    fn add(&mut self, text: String) {
        if !text.is_empty() && self.list.len() < MOST_LISTED && !self.met.contains(&text) {
            self.met.insert(text.clone());
            self.list.push(text);
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `open`, `json.loads`, `self.client.get`; of a longer chain its last name.
fn callee(flat: &Flat<'_>, call: usize, parts: &Parts) -> String {
    let (start, _) = flat.nodes[call].bytes;
    let named = ["function", "constructor", "name", "method", "type"].into_iter().find_map(|field| flat.child(call, field));
    // PHP's `new Loader(…)` has no field.
    let Some(name) = named.or_else(|| flat.children(call).find(|&child| flat.is_named(child))) else { return String::new() };
    if parts.functions.has(flat.nodes[name].kind) || flat.kind(name) == "parenthesized_expression" {
        // A function that is called where it stands has no name.
        return String::new();
    }
    let is_creation = flat.child(call, "constructor").is_some() || flat.kind(call) == "object_creation_expression";
    let from = if is_creation { flat.nodes[name].bytes.0 } else { start };
    let text = flat.span(from, flat.nodes[name].bytes.1);
    let is_path = |text: &str| text.len() <= LONGEST_CALLEE && text.chars().all(|c| c.is_alphanumeric() || "_.$@:>-\\?!".contains(c));
    if is_path(&text) {
        return text.replace("->", ".").replace("::", ".").trim_start_matches(['$', '\\']).to_owned();
    }
    let subtree = name..flat.nodes[name].end as usize;
    let last = subtree.rev().find(|&node| parts.identifiers.get(usize::from(flat.nodes[node].kind)).copied().unwrap_or_default());
    last.map(|node| flat.text(node).into_owned()).unwrap_or_default()
}

/// What stands before the body, comments left out.
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
    let is_name = |node: usize| {
        parts.identifiers.get(usize::from(flat.nodes[node].kind)).copied().unwrap_or_default() && flat.kind(node) != "type_identifier"
    };
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
        // Go names several of one type at once.
        let fields =
            |field: &'static str| flat.children(parameter).filter(move |&child| flat.kinds.field(flat.nodes[child].field) == field);
        let mut named: Vec<usize> = fields("name").chain(fields("left")).collect();
        if named.iter().any(|&node| matches!(flat.kind(node), "object_pattern" | "array_pattern")) {
            let leaves = named.iter().flat_map(|&node| node..flat.nodes[node].end as usize);
            named = leaves.filter(|&node| flat.is_leaf(node) && is_name(node)).collect();
        } else if named.is_empty() {
            // JavaScript takes objects and arrays apart.
            let most = if matches!(flat.kind(parameter), "object_pattern" | "array_pattern") { usize::MAX } else { 1 };
            let leaves = parameter..flat.nodes[parameter].end as usize;
            named = leaves.filter(|&node| flat.is_leaf(node) && is_name(node)).take(most).collect();
        }
        names.extend(named.into_iter().map(|node| flat.text(node).trim_start_matches('$').to_owned()));
    }
    names
}

/// `function read jsonl in class loader , parameters path , limit , calls open , json loads`: the text form that
/// an encoder reads instead of code.
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
        for (place, name) in names.iter().take(MOST_NAMED).enumerate() {
            text.push(",".to_owned());
            if place == 0 {
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

    /// Each fixture is a function in the language under test; its comments say what is read off it.
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
                other => panic!("nothing is called {other}"),
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
    fn functions_of_six_languages_say_what_they_do() {
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
    fn a_text_that_is_no_function_says_little() {
        let source = "x = (1";
        let tree = grammar::parse(Language::Python, Scope::Function, source.as_bytes()).unwrap();
        let flat = Flat::of(&tree, tree::kinds(Language::Python, Scope::Function), source);
        let found = features(&flat, &Parts::of(Language::Python, flat.kinds));
        assert_eq!((found.signature.as_str(), found.cyclomatic, flat.has_error), ("", 1, true));
        assert_eq!(structure("f", &found), ["function", "f"]);
    }
}
