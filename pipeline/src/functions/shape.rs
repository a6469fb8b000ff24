//! Node types of functions and classes, and names that are left out, per language.

use ledger::Language;
use tree_sitter::Node;

use super::tokens::Dialect;

/// Node types of a language.
pub struct Shape {
    /// Functions and methods.
    functions: &'static [&'static str],
    /// Functions in the plain dialect only: constructors, and values that are functions.
    plain_functions: &'static [&'static str],
    /// Classes and other containers that are part of a function's name.
    containers: &'static [&'static str],
    /// Text between the parts of a class path.
    pub separator: &'static str,
}

impl Shape {
    pub fn is_function(&self, node: Node<'_>, dialect: Dialect) -> bool {
        let plain = dialect == Dialect::Plain && self.plain_functions.contains(&node.kind());
        node.is_named() && (plain || self.functions.contains(&node.kind()))
    }

    pub fn is_container(&self, node: Node<'_>) -> bool {
        self.containers.contains(&node.kind())
    }
}

/// The node types of a language.
pub fn shape(language: Language) -> Shape {
    let (functions, plain_functions, containers, separator): (&[_], &[_], &[_], _) = match language {
        Language::Go => (&["function_declaration", "method_declaration"], &["func_literal"], &[], "."),
        Language::Java => (
            &["method_declaration"],
            &["constructor_declaration", "compact_constructor_declaration"],
            &["class_declaration", "interface_declaration", "enum_declaration", "record_declaration"],
            ".",
        ),
        Language::Javascript => (
            &[
                "function_declaration",
                "generator_function_declaration",
                "method_definition",
                "function_expression",
                "generator_function",
                "arrow_function",
            ],
            &[],
            &["class_declaration", "class"],
            ".",
        ),
        Language::Php => (
            &["function_definition", "method_declaration"],
            &["anonymous_function", "arrow_function"],
            &["class_declaration", "interface_declaration", "trait_declaration", "enum_declaration"],
            ".",
        ),
        Language::Python => (&["function_definition"], &[], &["class_definition"], "."),
        Language::Ruby => (&["method", "singleton_method"], &["do_block", "block", "lambda"], &["class", "module"], "::"),
    };
    Shape { functions, plain_functions, containers, separator }
}

/// Is this a name that CodeSearchNet leaves out, because it does not say what the code does? The plain dialect has all functions.
pub fn is_excluded_name(language: Language, name: &str) -> bool {
    match language {
        Language::Go => false,
        Language::Java => {
            matches!(name, "toString" | "hashCode" | "equals" | "finalize" | "notify" | "notifyAll" | "clone")
        }
        Language::Javascript => matches!(name, "toString" | "toLocaleString" | "valueOf" | "constructor"),
        Language::Php => name.starts_with("__"),
        Language::Python => name.starts_with("__") && name.ends_with("__"),
        Language::Ruby => matches!(name, "initialize" | "to_text" | "display" | "dup" | "clone" | "equal?" | "==" | "object_id" | "hash"),
    }
}
