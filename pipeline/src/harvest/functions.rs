//! Functions with their documentation from a source file, for six languages.
//!
//! The rules are those of CodeSearchNet's `function_parser`: the name contains the class, the documentation is the comment
//! above the function (Python: the docstring), the code tokens contain neither comments nor docstring. [`Shape`] has the node
//! types of each language.

use ledger::Language;
use tree_sitter::Node;

use super::{
    documentation,
    shape::{Shape, is_excluded_name, shape},
    tokens::{self, Dialect, Source},
};
use crate::{
    error::Result,
    grammar::{self, Scope},
};

/// A function in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Name with the class: `Loader.read`.
    pub name: String,
    pub code: String,
    pub code_tokens: Vec<String>,
    /// Documentation without comment markers; empty where there is none.
    pub docstring: String,
    /// First and last line, from 1.
    pub lines: (u32, u32),
}

/// Deepest nesting of functions. Without a limit, one megabyte of nested JavaScript functions would give gigabytes of code.
const MAX_NESTING: usize = 8;

/// All functions of a file, in source order. Functions inside functions are left out, as in CodeSearchNet; except in
/// JavaScript, where one function can contain a whole module.
pub fn extract(language: Language, source: &[u8], dialect: Dialect) -> Result<Vec<Function>> {
    extract_in(language, Scope::File, source, dialect)
}

/// [`extract`] from a text that is a whole file or a single function.
pub fn extract_in(language: Language, scope: Scope, source: &[u8], dialect: Dialect) -> Result<Vec<Function>> {
    let tree = grammar::parse(language, scope, source)?;
    let source = Source::new(source, dialect);
    let shape = shape(language);
    let mut found = Vec::new();
    // End offsets of the functions around the current node.
    let mut enclosing: Vec<usize> = Vec::new();
    grammar::walk(tree.root_node(), |node| {
        if !node.is_named() || !shape.functions.contains(&node.kind()) {
            return true;
        }
        enclosing.retain(|&end| end > node.start_byte());
        if enclosing.len() >= MAX_NESTING {
            return false;
        }
        enclosing.push(node.end_byte());
        found.extend(function(language, &shape, node, &source));
        language == Language::Javascript
    });
    Ok(found)
}

fn function(language: Language, shape: &Shape, node: Node<'_>, file: &Source<'_>) -> Option<Function> {
    let (source, dialect) = (file.bytes, file.dialect);
    let (own, statement) = name(language, node, source)?;
    if own.is_empty() || is_excluded_name(language, &own) {
        return None;
    }
    let documentation_node = (language == Language::Python).then(|| python_docstring(node, source, dialect)).flatten();
    let docstring = match documentation_node {
        Some(string) if dialect == Dialect::Codesearchnet => documentation::python_string_with_prefix(&grammar::text(string, source)),
        Some(string) => python_documentation(string, source),
        None if language == Language::Python => String::new(),
        None => comment_above(language, statement, source),
    };
    // In Python decorators are around the function, in other languages inside.
    let decorated = node.parent().filter(|parent| dialect == Dialect::Plain && parent.kind() == "decorated_definition");
    let whole = decorated.unwrap_or(node);
    let context = class_path(language, shape, node, source);
    let name = if context.is_empty() { own } else { format!("{context}.{own}") };
    let line = |row: usize| u32::try_from(row + 1).unwrap_or(u32::MAX);
    Some(Function {
        name,
        code: grammar::text(whole, source).into_owned(),
        code_tokens: tokens::code_tokens(whole, documentation_node, file),
        docstring,
        lines: (line(whole.start_position().row), line(whole.end_position().row)),
    })
}

/// The name without the class, and the statement below the function's comment.
fn name<'tree>(language: Language, node: Node<'tree>, source: &[u8]) -> Option<(String, Node<'tree>)> {
    let named = |node: Node<'_>, field: &str| Some(grammar::text(node.child_by_field_name(field)?, source).into_owned());
    match language {
        Language::Go => {
            let own = named(node, "name")?;
            let receiver = node.child_by_field_name("receiver").map(|receiver| {
                let text = grammar::text(receiver, source);
                // Type parameters may hold spaces: `(m *Table[K, V])`.
                let kind = text.split('[').next().unwrap_or_default().trim_matches(['(', ')', ' ']);
                kind.rsplit([' ', '*']).next().unwrap_or_default().to_owned()
            });
            Some((receiver.filter(|kind| !kind.is_empty()).map_or(own.clone(), |kind| format!("{kind}.{own}")), node))
        }
        Language::Javascript => match node.kind() {
            "function_declaration" | "generator_function_declaration" => Some((named(node, "name")?, statement_of(node))),
            "method_definition" => Some((named(node, "name")?, node)),
            // `const f = function …`, `A.prototype.f = …`, `{ f: function … }`
            _ => {
                let holder = node.parent()?;
                let own = match holder.kind() {
                    "variable_declarator" => named(holder, "name")?,
                    "assignment_expression" if holder.child_by_field_name("right")? == node => named(holder, "left")?,
                    "pair" => named(holder, "key")?,
                    _ => return None,
                };
                let own = own.replace(".prototype.", ".").replace("module.exports.", "").replace("exports.", "");
                let is_path = own.chars().all(|c| c.is_alphanumeric() || "_$.#".contains(c));
                let anchor = if holder.kind() == "pair" { holder } else { statement_of(holder) };
                is_path.then_some((own, anchor))
            }
        },
        Language::Php | Language::Java | Language::Python | Language::Ruby => Some((named(node, "name")?, node)),
    }
}

/// The statement that contains a JavaScript declaration, with `export`.
fn statement_of(node: Node<'_>) -> Node<'_> {
    let mut statement = node;
    while let Some(parent) = statement.parent() {
        match parent.kind() {
            "export_statement" | "lexical_declaration" | "variable_declaration" | "expression_statement" | "assignment_expression" => {
                statement = parent
            }
            _ => break,
        }
    }
    statement
}

fn class_path(language: Language, shape: &Shape, node: Node<'_>, source: &[u8]) -> String {
    let mut path = Vec::new();
    let mut up = node.parent();
    while let Some(parent) = up {
        if shape.containers.contains(&parent.kind()) {
            if let Some(name) = parent.child_by_field_name("name") {
                path.push(grammar::text(name, source).into_owned());
            }
        } else if language == Language::Javascript && shape.functions.contains(&parent.kind()) {
            // A class outside the enclosing function is not part of the name.
            break;
        }
        up = parent.parent();
    }
    path.reverse();
    // CodeSearchNet joins Ruby's modules by `::` and the class by `.`.
    match path.split_last() {
        Some((class, modules)) if !modules.is_empty() && language == Language::Ruby => {
            format!("{}.{class}", modules.join(shape.separator))
        }
        _ => path.join(shape.separator),
    }
}

/// The strings of a docstring: several literals may be joined, and be in parentheses. None for an expression that Python does not take as
/// docstring, as bytes and formatted strings.
fn docstring_parts<'tree>(expression: Node<'tree>, source: &[u8]) -> Option<Vec<Node<'tree>>> {
    let mut cursor = expression.walk();
    match expression.kind() {
        "string" => {
            let text = grammar::text(expression, source);
            let prefix = text.split(['"', '\'']).next().unwrap_or_default().to_lowercase();
            ["", "r", "u"].contains(&prefix.as_str()).then(|| vec![expression])
        }
        "concatenated_string" | "parenthesized_expression" => {
            let parts = expression.named_children(&mut cursor).map(|part| docstring_parts(part, source));
            Some(parts.collect::<Option<Vec<_>>>()?.concat()).filter(|parts| !parts.is_empty())
        }
        _ => None,
    }
}

/// The documentation of a docstring.
fn python_documentation(expression: Node<'_>, source: &[u8]) -> String {
    let parts = docstring_parts(expression, source).unwrap_or_default();
    let text: String = parts.iter().map(|part| documentation::python_string(&grammar::text(*part, source))).collect();
    documentation::dedent(&text)
}

/// The docstring: the first statement of the body, where it is a string. CodeSearchNet takes the first string statement at
/// any position.
fn python_docstring<'tree>(function: Node<'tree>, source: &[u8], dialect: Dialect) -> Option<Node<'tree>> {
    let body = function.child_by_field_name("body")?;
    let string = |statement: Node<'_>| match statement.kind() {
        "expression_statement" => Node::child(&statement, 0).filter(|child| child.kind() == "string").map(|string| string.id()),
        _ => None,
    };
    let mut cursor = body.walk();
    let statement = match dialect {
        Dialect::Plain => {
            let first = body.named_child(0).filter(|first| first.kind() == "expression_statement")?;
            return first.named_child(0).filter(|expression| docstring_parts(*expression, source).is_some());
        }
        Dialect::Codesearchnet => body.named_children(&mut cursor).find(|statement| string(*statement).is_some())?,
    };
    statement.child(0)
}

/// The comment block that ends on the line above `statement`, or one blank line above it (frequent in JavaScript), without
/// comment markers.
fn comment_above(language: Language, statement: Node<'_>, source: &[u8]) -> String {
    let mut comments = Vec::new();
    let mut below = statement;
    while let Some(above) = before(below) {
        if !grammar::is_comment(above) {
            break;
        }
        let text = grammar::text(above, source);
        let text = text.trim_end();
        let end = above.start_position().row + text.lines().count().max(1) - 1;
        let gap = below.start_position().row.saturating_sub(end);
        // A comment after code on the same line belongs to that code.
        let trails = above.prev_sibling().is_some_and(|code| {
            !grammar::is_comment(code) && code.end_position().row == above.start_position().row && code.end_position().column > 0
        });
        if trails || gap > if comments.is_empty() { 2 } else { 1 } {
            break;
        }
        let is_block = text.starts_with("/*");
        if is_block && !comments.is_empty() {
            break;
        }
        comments.push(text.to_owned());
        below = above;
        if is_block {
            break;
        }
    }
    comments.reverse();
    let text = comments.join("\n");
    match language {
        Language::Ruby => documentation::strip_hash(&text),
        // In these languages only `/** … */` is documentation.
        Language::Java | Language::Javascript | Language::Php if !text.starts_with("/**") => String::new(),
        _ => documentation::strip_c_style(&text),
    }
}

/// The node before this one. Ruby's grammar puts a comment at the start of a class before the class body.
fn before(node: Node<'_>) -> Option<Node<'_>> {
    node.prev_sibling().or_else(|| node.parent().filter(|parent| parent.kind() == "body_statement")?.prev_sibling())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a source file against the comments `EXPECT name | first line of the documentation` in it.
    fn check(language: Language, source: &str) {
        let expected: Vec<(String, String)> = source
            .lines()
            .filter_map(|line| line.split_once("EXPECT "))
            .map(|(_, text)| {
                text.split_once(" | ").map_or((text.trim().into(), String::new()), |(n, d)| (n.trim().into(), d.trim().into()))
            })
            .collect();
        let found: Vec<(String, String)> = extract(language, source.as_bytes(), Dialect::Plain)
            .unwrap()
            .into_iter()
            .map(|function| {
                let first = function.docstring.lines().next().unwrap_or_default().to_owned();
                assert!(!function.code_tokens.iter().any(|token| token.contains("EXPECT")), "comments are not code tokens");
                (function.name, first)
            })
            .collect();
        assert_eq!(found, expected, "{language}");
        assert!(!expected.is_empty());
    }

    #[test]
    fn functions_are_found_in_six_languages() {
        check(Language::Python, include_str!("fixtures/functions.py"));
        check(Language::Javascript, include_str!("fixtures/functions.js"));
        check(Language::Go, include_str!("fixtures/functions.go"));
        check(Language::Java, include_str!("fixtures/Functions.java"));
        check(Language::Php, include_str!("fixtures/functions.php"));
        check(Language::Ruby, include_str!("fixtures/functions.rb"));
    }

    #[test]
    fn the_docstring_is_part_of_the_code_but_not_of_the_tokens() {
        let source = b"def f(a):\n    '''Adds one.'''\n    # why\n    return a + 'x y'\n";
        let function = extract(Language::Python, source, Dialect::Plain).unwrap().remove(0);
        assert!(function.code.contains("Adds one"));
        assert_eq!(function.code_tokens, ["def", "f", "(", "a", ")", ":", "return", "a", "+", "'x y'"]);
        assert_eq!(function.lines, (1, 4));
    }

    fn only(language: Language, source: &str) -> Function {
        let mut found = extract(language, source.as_bytes(), Dialect::Plain).unwrap();
        assert_eq!(found.len(), 1, "{source}");
        found.remove(0)
    }

    #[test]
    fn a_docstring_is_what_python_takes_as_one() {
        for (string, expected) in [
            ("(\"Open the gate \"\n     \"of a lock.\")", "Open the gate of a lock."),
            ("\"Close the gate \" \"of a lock.\"", "Close the gate of a lock."),
            ("R'''Lift the gate.'''", "Lift the gate."),
            ("u\"Name a gate.\"", "Name a gate."),
            ("\"\"\"First.\n\n    Args:\n        x: y\n    \"\"\"", "First.\n\nArgs:\n    x: y"),
            ("f\"\"\"Paint {a}.\"\"\"", ""),
            ("b\"\"\"Bytes.\"\"\"", ""),
            ("\"a\" f\"{b}\"", ""),
            ("(1, 2)", ""),
        ] {
            assert_eq!(only(Language::Python, &format!("def f(a):\n    {string}\n    return a\n")).docstring, expected, "{string}");
        }
    }

    #[test]
    fn decorators_are_part_of_a_function() {
        let source = "@app.route(\"/invoices\")\n@role(\"a\")\ndef overdue():\n    return 1\n";
        let function = only(Language::Python, source);
        assert_eq!((function.code.as_str(), function.lines), (source.trim_end(), (1, 4)));
        assert!(function.code_tokens.contains(&"\"/invoices\"".to_owned()), "{:?}", function.code_tokens);
        let theirs = extract(Language::Python, source.as_bytes(), Dialect::Codesearchnet).unwrap().remove(0);
        assert!(theirs.code.starts_with("def overdue") && theirs.lines == (3, 4), "{theirs:?}");
    }

    #[test]
    fn the_receiver_of_a_generic_type_is_the_type() {
        for (receiver, expected) in
            [("m *Table[K, V]", "Table"), ("t Ring[T]", "Ring"), ("*Pair[ K , V ]", "Pair"), ("Ring", "Ring"), ("r *Ring", "Ring")]
        {
            let source = format!("package p\nfunc ({receiver}) Empty() bool {{ return true }}\n");
            assert_eq!(only(Language::Go, &source).name, format!("{expected}.Empty"));
        }
    }

    #[test]
    fn the_markers_of_a_block_comment_in_ruby_are_no_documentation() {
        let source = "class Kettle\n=begin rdoc\nBoils it.\n=end\n  def boil(water)\n    water\n  end\nend\n";
        assert_eq!(only(Language::Ruby, source).docstring, "Boils it.");
    }

    #[test]
    fn ten_thousand_levels_of_nesting_do_not_overflow_the_stack() {
        let source = format!("def f():\n    return {}1{}\n", "(".repeat(10_000), ")".repeat(10_000));
        let found = extract(Language::Python, source.as_bytes(), Dialect::Plain).unwrap();
        assert!(found.len() <= 1);
        let broken = "function g() {".repeat(10_000);
        extract(Language::Javascript, broken.as_bytes(), Dialect::Plain).unwrap();
        let nested = format!("{}{}", "function g() {\n".repeat(2_000), "}".repeat(2_000));
        assert_eq!(extract(Language::Javascript, nested.as_bytes(), Dialect::Plain).unwrap().len(), MAX_NESTING);
    }

    fn tokens_of(language: Language, source: &str, dialect: Dialect) -> Vec<String> {
        extract(language, source.as_bytes(), dialect).unwrap().remove(0).code_tokens
    }

    /// Code of published records and the tokens in these records.
    #[test]
    fn the_codesearchnet_dialect_follows_the_grammars_of_2019() {
        let python = "def f(a, **k):\n    # why\n    return g(**k) + a ** 2 + \\\n        'x y'";
        assert_eq!(
            tokens_of(Language::Python, python, Dialect::Codesearchnet).join(" "),
            "def f ( a , * * k ) : # why return g ( * * k ) + a ** 2 + 'x y'"
        );
        let ruby = "def f(*a, &b)\n  # why\n  g(*a, &b) =~ /x y/\n  `ls`\n  [:\"foo\", :bar, 'x y']\nend";
        assert_eq!(
            tokens_of(Language::Ruby, ruby, Dialect::Codesearchnet).join(" "),
            "def f ( * a , & b ) # why g ( a , b ) =~ / / ` ` [ :\" \" , :bar , 'x y' ] end"
        );
    }

    #[test]
    fn the_codesearchnet_dialect_uses_byte_columns_as_characters() {
        let source = "def f(a):\n    return '\u{e9}' + a";
        assert_eq!(tokens_of(Language::Python, source, Dialect::Plain), ["def", "f", "(", "a", ")", ":", "return", "'\u{e9}'", "+", "a"]);
        assert_eq!(tokens_of(Language::Python, source, Dialect::Codesearchnet)[6..], ["return", "'\u{e9}' ", " ", ""]);
    }
}
