//! Names of functions: the own name, and the path of the classes around the function.

use ledger::Language;
use tree_sitter::Node;

use super::{javascript, shape::Shape, tokens::Dialect};
use crate::grammar::{self, field};

/// A function with a name.
pub struct Named<'tree> {
    /// The name without the class.
    pub own: String,
    /// The node whose text is the code.
    pub code: Node<'tree>,
    /// The statement below the documentation.
    pub statement: Node<'tree>,
}

impl<'tree> Named<'tree> {
    fn declared(node: Node<'tree>, source: &[u8]) -> Option<Self> {
        Some(Self { own: field(node, "name", source)?, code: node, statement: node })
    }
}

/// The name of a function; none where it has no name.
pub fn of<'tree>(language: Language, node: Node<'tree>, source: &[u8], dialect: Dialect) -> Option<Named<'tree>> {
    match language {
        Language::Go if node.kind() == "func_literal" => go_variable(node, source),
        Language::Go => {
            let named = Named::declared(node, source)?;
            let receiver = node.child_by_field_name("receiver").map(|receiver| go_receiver(&grammar::text(receiver, source)));
            let own = match receiver.filter(|kind| !kind.is_empty()) {
                Some(kind) => format!("{kind}.{}", named.own),
                None => named.own,
            };
            Some(Named { own, ..named })
        }
        Language::Javascript => javascript::name(node, source, dialect).map(|(own, statement)| Named { own, code: node, statement }),
        Language::Php if ["anonymous_function", "arrow_function"].contains(&node.kind()) => php_variable(node, source),
        Language::Ruby if !["method", "singleton_method"].contains(&node.kind()) => ruby_block(node, source),
        Language::Ruby => {
            let named = Named::declared(node, source)?;
            let statement = if dialect == Dialect::Plain { ruby_statement(node) } else { node };
            Some(Named { statement, ..named })
        }
        Language::Python => {
            // In Python decorators are around the function, in other languages inside.
            let decorated = node.parent().filter(|parent| dialect == Dialect::Plain && parent.kind() == "decorated_definition");
            Some(Named { code: decorated.unwrap_or(node), ..Named::declared(node, source)? })
        }
        Language::Php | Language::Java => Named::declared(node, source),
    }
}

/// The type of a receiver: `Table` of `(m *Table[K, V])`.
fn go_receiver(text: &str) -> String {
    let kind = text.split('[').next().unwrap_or_default().trim_matches(['(', ')', ' ']);
    kind.rsplit([' ', '*']).next().unwrap_or_default().to_owned()
}

/// Most values of one declaration that are looked at.
const MAX_VALUES: usize = 64;

/// The variable of a package that holds a function: `var Handler = func() {}`.
fn go_variable<'tree>(node: Node<'tree>, source: &[u8]) -> Option<Named<'tree>> {
    let values = node.parent().filter(|parent| parent.kind() == "expression_list")?;
    let specification = values.parent().filter(|parent| parent.kind() == "var_spec")?;
    if values.named_child_count() > MAX_VALUES {
        return None;
    }
    let position = values.named_children(&mut values.walk()).position(|value| value == node)?;
    let name = specification.children_by_field_name("name", &mut specification.walk()).nth(position)?;
    let declaration = specification.parent().filter(|parent| parent.kind() == "var_declaration");
    Some(Named { own: grammar::text(name, source).into_owned(), code: node, statement: declaration.unwrap_or(specification) })
}

/// The variable that holds a function: `$f = function () {};`.
fn php_variable<'tree>(node: Node<'tree>, source: &[u8]) -> Option<Named<'tree>> {
    let assignment = node.parent().filter(|parent| parent.kind() == "assignment_expression")?;
    let variable = assignment.child_by_field_name("left").filter(|left| left.kind() == "variable_name")?;
    let own = grammar::text(variable, source).trim_start_matches('$').to_owned();
    Some(Named { own, code: node, statement: assignment.parent().filter(|parent| parent.kind() == "expression_statement")? })
}

/// Calls that define a method by a block or a lambda: `define_method(:name) do`.
const RUBY_DEFINITIONS: [&str; 3] = ["define_method", "define_singleton_method", "scope"];

/// The method that a block or a lambda is: the argument of `define_method`, or the variable that holds a lambda.
fn ruby_block<'tree>(node: Node<'tree>, source: &[u8]) -> Option<Named<'tree>> {
    let is_lambda = node.kind() == "lambda";
    let parent = node.parent()?;
    let call = if is_lambda && parent.kind() == "argument_list" { parent.parent()? } else { parent };
    if call.kind() == "call" {
        let method = field(call, "method", source)?;
        if RUBY_DEFINITIONS.contains(&method.as_str()) {
            let name = call.child_by_field_name("arguments")?.named_child(0)?;
            let own = grammar::text(name, source).trim_matches([':', '"', '\'']).to_owned();
            let is_constant = matches!(name.kind(), "simple_symbol" | "string") && !own.contains('#');
            return is_constant.then_some(Named { own, code: call, statement: call });
        }
        let is_proc = method == "new" && field(call, "receiver", source).as_deref() == Some("Proc");
        if is_lambda || !is_proc && !["lambda", "proc"].contains(&method.as_str()) {
            return None;
        }
    }
    let assignment = if is_lambda { parent } else { call.parent()? };
    let left = assignment.child_by_field_name("left").filter(|left| matches!(left.kind(), "constant" | "identifier"))?;
    let own = grammar::text(left, source).into_owned();
    (assignment.kind() == "assignment").then_some(Named { own, code: assignment, statement: assignment })
}

/// The statement of a method that is the argument of a call: `private def f`.
fn ruby_statement(method: Node<'_>) -> Node<'_> {
    let mut statement = method;
    while let Some(call) = statement.parent().filter(|parent| parent.kind() == "argument_list").and_then(|list| list.parent()) {
        statement = call;
    }
    statement
}

/// Names of the classes and modules around a function.
pub fn class_path(language: Language, shape: &Shape, node: Node<'_>, source: &[u8], dialect: Dialect) -> String {
    let mut path = match language {
        Language::Javascript => javascript::classes(shape, node, source, dialect),
        _ => classes(language, shape, node, source, dialect),
    };
    path.reverse();
    // CodeSearchNet joins Ruby's modules by `::` and the class by `.`.
    match path.split_last() {
        Some((class, modules)) if !modules.is_empty() && language == Language::Ruby => {
            format!("{}.{class}", modules.join(shape.separator))
        }
        _ => path.join(shape.separator),
    }
}

fn classes(language: Language, shape: &Shape, node: Node<'_>, source: &[u8], dialect: Dialect) -> Vec<String> {
    let mut path = Vec::new();
    let mut up = node.parent();
    while let Some(parent) = up {
        if shape.is_container(parent) {
            path.extend(field(parent, "name", source));
        } else if language == Language::Ruby && dialect == Dialect::Plain && ["do_block", "block"].contains(&parent.kind()) {
            path.extend(ruby_class_of_block(parent, source));
        }
        up = parent.parent();
    }
    path
}

/// The class that a block defines: `Point = Struct.new(:x) do`.
fn ruby_class_of_block(block: Node<'_>, source: &[u8]) -> Option<String> {
    let assignment = block.parent().filter(|call| call.kind() == "call")?.parent().filter(|parent| parent.kind() == "assignment")?;
    let name = assignment.child_by_field_name("left").filter(|left| left.kind() == "constant")?;
    Some(grammar::text(name, source).into_owned())
}
