//! Names of JavaScript functions, which are often values: of variables, properties, class fields and arguments of wrappers.

use tree_sitter::Node;

use super::{shape::Shape, tokens::Dialect};
use crate::grammar::{self, field};

/// The name without the class, and the statement below the function's comment.
pub fn name<'tree>(node: Node<'tree>, source: &[u8], dialect: Dialect) -> Option<(String, Node<'tree>)> {
    match (node.kind(), dialect) {
        ("function_declaration" | "generator_function_declaration", _) => Some((field(node, "name", source)?, statement_of(node))),
        ("method_definition", Dialect::Codesearchnet) => Some((field(node, "name", source)?, node)),
        ("method_definition", Dialect::Plain) => Some((field(node, "name", source)?.trim_matches(['"', '\'']).to_owned(), node)),
        (_, Dialect::Codesearchnet) => codesearchnet_name(node, source),
        // An argument may have a name of its own: `app.get("/", function list() {})`.
        (_, Dialect::Plain) => name_of_value(node, source).or_else(|| Some((field(node, "name", source)?, node))),
    }
}

/// `const f = function …`, `A.prototype.f = …`, `{ f: function … }`
fn codesearchnet_name<'tree>(node: Node<'tree>, source: &[u8]) -> Option<(String, Node<'tree>)> {
    let holder = node.parent()?;
    let own = match holder.kind() {
        "variable_declarator" => field(holder, "name", source)?,
        "assignment_expression" if holder.child_by_field_name("right")? == node => field(holder, "left", source)?,
        "pair" => field(holder, "key", source)?,
        _ => return None,
    };
    let anchor = if holder.kind() == "pair" { holder } else { statement_of(holder) };
    Some((path_of(&own)?, anchor))
}

/// A path of names; none for another expression.
fn path_of(text: &str) -> Option<String> {
    let text = text.strip_prefix("module.exports.").or_else(|| text.strip_prefix("exports.")).unwrap_or(text);
    let own = text.replace(".prototype.", ".");
    own.chars().all(|c| c.is_alphanumeric() || "_$.#".contains(c)).then_some(own)
}

/// The name of a function or a class that is a value: the variable, property, class field or default export that holds it, also
/// through a wrapper: `const f = memo(() => …)`, `f = function () {…}.bind(this)`, `f = g || function () {…}`.
fn name_of_value<'tree>(node: Node<'tree>, source: &[u8]) -> Option<(String, Node<'tree>)> {
    let holder = holder_of_value(node, source)?;
    let unquoted = |name: &str| Some(field(holder, name, source)?.trim_matches(['"', '\'']).to_owned());
    match holder.kind() {
        "variable_declarator" => {
            // The comment above a declaration is about its first variable.
            let is_first = std::iter::successors(holder.prev_named_sibling(), Node::prev_named_sibling).all(grammar::is_comment);
            Some((path_of(&field(holder, "name", source)?)?, if is_first { statement_of(holder) } else { holder }))
        }
        "assignment_expression" | "augmented_assignment_expression" => {
            let left = field(holder, "left", source)?;
            let own = field(node, "name", source).filter(|_| ["module.exports", "exports"].contains(&left.as_str()));
            let path = || path_of(left.strip_prefix("this.").unwrap_or(&left));
            Some((own.or_else(path)?, statement_of(holder)))
        }
        "field_definition" => Some((path_of(&unquoted("property")?)?, holder)),
        // A key in quotes may have hyphens.
        "pair" => unquoted("key").filter(|key| path_of(&key.replace('-', "_")).is_some()).map(|key| (key, holder)),
        // The own name, else the name that the language gives it.
        "export_statement" => Some((field(node, "name", source).unwrap_or_else(|| "default".to_owned()), holder)),
        _ => None,
    }
}

/// The node whose value is this function or class, also through parentheses, wrappers, `bind` and `||`.
fn holder_of_value<'tree>(node: Node<'tree>, source: &[u8]) -> Option<Node<'tree>> {
    let mut value = node;
    loop {
        let holder = value.parent()?;
        value = match holder.kind() {
            "parenthesized_expression" => holder,
            "binary_expression" if holder.child_by_field_name("right") == Some(value) => holder,
            "member_expression" => {
                let is_bound = field(holder, "property", source).as_deref() == Some("bind");
                holder.parent().filter(|call| is_bound && call.child_by_field_name("function") == Some(holder))?
            }
            "arguments" => holder.parent().filter(|call| is_wrapper(*call, holder, source))?,
            "assignment_expression" | "augmented_assignment_expression" => {
                return (holder.child_by_field_name("right") == Some(value)).then_some(holder);
            }
            _ => return Some(holder),
        };
    }
}

/// Methods that return the function that is their argument, in another form: `_.debounce(f, 100)`.
const WRAPPING_METHODS: &[&str] = &[
    "action",
    "after",
    "ary",
    "async",
    "before",
    "callbackify",
    "computed",
    "coroutine",
    "curry",
    "curryN",
    "debounce",
    "forwardRef",
    "lazy",
    "memo",
    "memoize",
    "method",
    "negate",
    "observer",
    "once",
    "partial",
    "partialRight",
    "promisify",
    "throttle",
    "unary",
    "wrap",
];

/// Functions that call their argument, now or later, and return something else: `setTimeout(f, 100)`. So do React's other hooks.
const CALLERS: &[&str] = &[
    "exec",
    "execFile",
    "fetch",
    "queueMicrotask",
    "requestAnimationFrame",
    "require",
    "setImmediate",
    "setInterval",
    "setTimeout",
    "spawn",
    "watch",
    "watchEffect",
];
const WRAPPING_HOOKS: [&str; 2] = ["useCallback", "useEvent"];

/// Most arguments of a wrapper that are looked at.
const MAX_ARGUMENTS: usize = 16;

/// Is the result of a call the function that is its only function argument, in another form: `memo(f)`, `_.debounce(f, 100)`?
fn is_wrapper(call: Node<'_>, arguments: Node<'_>, source: &[u8]) -> bool {
    if call.kind() != "call_expression" || arguments.named_child_count() > MAX_ARGUMENTS {
        return false;
    }
    let callee = field(call, "function", source).unwrap_or_default();
    let wraps = match callee.rsplit_once('.') {
        Some((_, method)) => WRAPPING_METHODS.contains(&method),
        None => {
            let is_hook = callee.strip_prefix("use").is_some_and(|rest| rest.starts_with(char::is_uppercase));
            !callee.is_empty() && !CALLERS.contains(&callee.as_str()) && (!is_hook || WRAPPING_HOOKS.contains(&callee.as_str()))
        }
    };
    let is_function = |node: &Node<'_>| matches!(node.kind(), "arrow_function" | "function_expression" | "generator_function");
    wraps && arguments.named_children(&mut arguments.walk()).filter(is_function).count() <= 1
}

/// The statement that contains a declaration, with `export`.
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

/// Names of the classes around a function, the innermost first. A class outside the enclosing function is not part of the name.
pub fn classes(shape: &Shape, node: Node<'_>, source: &[u8], dialect: Dialect) -> Vec<String> {
    let mut path = Vec::new();
    // Properties of `this` belong to the class whose constructor is the enclosing function.
    let mut of_this = dialect == Dialect::Plain && is_assigned_to_this(node, source);
    let mut up = node.parent();
    while let Some(parent) = up {
        if shape.is_container(parent) {
            let own = field(parent, "name", source);
            path.extend(own.or_else(|| (dialect == Dialect::Plain).then(|| name_of_value(parent, source))?.map(|(own, _)| own)));
        } else if shape.is_function(parent, dialect) {
            let constructor = field(parent, "name", source).filter(|_| of_this);
            match constructor {
                Some(name) if name == "constructor" => of_this = false,
                Some(name) if name.starts_with(char::is_uppercase) => {
                    path.push(name);
                    break;
                }
                _ => break,
            }
        } else if dialect == Dialect::Plain && parent.kind() == "object" {
            path.extend(class_of_prototype(parent, source));
        }
        up = parent.parent();
    }
    path
}

fn is_assigned_to_this(node: Node<'_>, source: &[u8]) -> bool {
    let holder = node.parent().filter(|parent| parent.kind() == "assignment_expression");
    holder.and_then(|holder| field(holder, "left", source)).is_some_and(|left| left.starts_with("this."))
}

/// The class whose methods an object has: `Queue.prototype = { … }`.
fn class_of_prototype(object: Node<'_>, source: &[u8]) -> Option<String> {
    let assignment = object.parent().filter(|parent| parent.kind() == "assignment_expression")?;
    field(assignment, "left", source)?.strip_suffix(".prototype").map(str::to_owned)
}
