//! Node types of functions and classes, and names that are left out, per language.

use ledger::Language;

/// Node types of a language.
pub struct Shape {
    /// Functions and methods.
    pub functions: &'static [&'static str],
    /// Classes and other containers that are part of a function's name.
    pub containers: &'static [&'static str],
    /// Text between the parts of a class path.
    pub separator: &'static str,
}

/// The node types of a language.
pub fn shape(language: Language) -> Shape {
    let (functions, containers, separator): (&[_], &[_], _) = match language {
        Language::Go => (&["function_declaration", "method_declaration"], &[], "."),
        Language::Java => {
            (&["method_declaration"], &["class_declaration", "interface_declaration", "enum_declaration", "record_declaration"], ".")
        }
        Language::Javascript => (
            &[
                "function_declaration",
                "generator_function_declaration",
                "method_definition",
                "function_expression",
                "generator_function",
                "arrow_function",
            ],
            &["class_declaration", "class"],
            ".",
        ),
        Language::Php => (
            &["function_definition", "method_declaration"],
            &["class_declaration", "interface_declaration", "trait_declaration", "enum_declaration"],
            ".",
        ),
        Language::Python => (&["function_definition"], &["class_definition"], "."),
        Language::Ruby => (&["method", "singleton_method"], &["class", "module"], "::"),
    };
    Shape { functions, containers, separator }
}

/// Is this a name that CodeSearchNet leaves out, because it does not say what the code does?
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
