//! Node types by role: functions, calls, imports and so on.

use ledger::Language;

use super::tree::{KindSet, Kinds};

/// The node types of a grammar, by role.
pub struct Parts {
    pub functions: KindSet,
    pub calls: KindSet,
    pub imports: KindSet,
    pub strings: KindSet,
    pub comments: KindSet,
    /// By number of the node type.
    identifiers: Vec<bool>,
    /// Branches, loops, cases and handlers.
    pub decisions: KindSet,
    /// Anonymous nodes: `&&`, `and`.
    pub connectives: KindSet,
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
    /// The roles in a grammar.
    pub fn of(language: Language, kinds: &Kinds) -> Self {
        // Ruby uses symbols as other languages use strings; `require "x"` is a call.
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

    /// Is this node type an identifier?
    pub fn is_identifier(&self, kind: u16) -> bool {
        self.identifiers.get(usize::from(kind)).copied().unwrap_or_default()
    }
}
