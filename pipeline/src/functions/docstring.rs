//! Docstrings of Python: which string is one, and its text.

use tree_sitter::Node;

use super::{documentation, tokens::Dialect};
use crate::grammar;

/// Deepest parentheses around a docstring.
const MAX_DEPTH: usize = 50;

/// The docstring: the first statement of the body, where Python takes it as one. CodeSearchNet takes the first string statement at any
/// position.
pub fn of<'tree>(function: Node<'tree>, source: &[u8], dialect: Dialect) -> Option<Node<'tree>> {
    let body = function.child_by_field_name("body")?;
    let mut cursor = body.walk();
    let mut statements = body.named_children(&mut cursor).filter(|statement| !grammar::is_comment(*statement));
    match dialect {
        Dialect::Plain => {
            let first = statements.next().filter(|first| first.kind() == "expression_statement")?;
            first.named_child(0).filter(|expression| parts(*expression, source, MAX_DEPTH).is_some())
        }
        Dialect::Codesearchnet => {
            let string =
                |statement: &Node<'_>| statement.kind() == "expression_statement" && Node::child(statement, 0).is_some_and(is_string);
            statements.find(string)?.child(0)
        }
    }
}

fn is_string(node: Node<'_>) -> bool {
    node.kind() == "string"
}

/// The text of a docstring, in the rules of a dialect.
pub fn text(expression: Node<'_>, source: &[u8], dialect: Dialect) -> String {
    if dialect == Dialect::Codesearchnet {
        return documentation::python_string_with_prefix(&grammar::text(expression, source));
    }
    let parts = parts(expression, source, MAX_DEPTH).unwrap_or_default();
    let text: String = parts.iter().map(|part| documentation::python_string(&grammar::text(*part, source))).collect();
    documentation::dedent(&text)
}

/// The strings of a docstring: several literals may be joined, and be in parentheses. None for an expression that Python does not take as
/// docstring, as bytes and formatted strings.
fn parts<'tree>(expression: Node<'tree>, source: &[u8], depth: usize) -> Option<Vec<Node<'tree>>> {
    let mut cursor = expression.walk();
    match expression.kind() {
        "string" => {
            let text = grammar::text(expression, source);
            let prefix = text.split(['"', '\'']).next().unwrap_or_default().to_lowercase();
            ["", "r", "u"].contains(&prefix.as_str()).then(|| vec![expression])
        }
        "concatenated_string" | "parenthesized_expression" if depth > 0 => {
            let strings = expression.named_children(&mut cursor).filter(|part| !grammar::is_comment(*part));
            let parts = strings.map(|part| parts(part, source, depth - 1)).collect::<Option<Vec<_>>>()?;
            Some(parts.concat()).filter(|parts| !parts.is_empty())
        }
        _ => None,
    }
}
