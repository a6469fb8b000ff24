//! A syntax tree as a sequence of tokens, breadth first: mode `ast-bfs`, the predecessor's
//! `breadth_first_path` with its defects mended (design: AST linearisation).
//!
//! ```text
//! path      = <lang> group* <end>
//! group     = node* <lvl>                      the children of one node, in the order they were met
//! node      = [<field> name]                   when the child stands in a named field
//!             ( <type> <sub>                   a named node with children
//!             | <type> text <nosub>            a named leaf
//!             | <type> <nosub>                 a named leaf of a skipped type
//!             | text <nosub> )                 an anonymous leaf
//! ```

use std::collections::{BTreeSet, VecDeque};

use ledger::Language;
use tree_sitter::{Node, Tree};

use crate::grammar;

/// What a parse tells about a function.
#[derive(Debug, Default, PartialEq)]
pub struct Syntax {
    pub ast_tokens: Vec<String>,
    pub identifiers: Vec<String>,
    pub nodes: u32,
    pub depth: u32,
    pub parse_error: bool,
}

/// Linearises a tree to at most `max_tokens` tokens: cut at `max_tokens − 1`, then `<end>`. Collects
/// the special tokens met.
pub fn linearise(
    language: Language,
    tree: &Tree,
    source: &[u8],
    skipped_types: &[String],
    max_tokens: usize,
    specials: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut out = Out { tokens: Vec::new(), specials, max: max_tokens.max(1) };
    out.special(language.tag());
    let mut groups = VecDeque::from([vec![(None::<&str>, tree.root_node())]]);
    while let Some(group) = groups.pop_front() {
        for (field, node) in group {
            if let Some(field) = field {
                out.special("<field>".to_owned());
                out.plain(field.to_owned());
            }
            let skipped = skipped_types.iter().any(|kind| kind == node.kind());
            let is_leaf = node.child_count() == 0;
            if node.is_named() {
                out.special(format!("<{}>", node.kind()));
            }
            if is_leaf {
                if !(skipped && node.is_named()) {
                    out.text(node, source);
                }
                out.special("<nosub>".to_owned());
            } else {
                out.special("<sub>".to_owned());
                let mut cursor = node.walk();
                let mut children = Vec::with_capacity(node.child_count() as usize);
                if cursor.goto_first_child() {
                    loop {
                        children.push((cursor.field_name(), cursor.node()));
                        if !cursor.goto_next_sibling() {
                            break;
                        }
                    }
                }
                groups.push_back(children);
            }
            if out.is_full() {
                return out.close();
            }
        }
        out.special("<lvl>".to_owned());
        if out.is_full() {
            break;
        }
    }
    out.close()
}

struct Out<'a> {
    tokens: Vec<String>,
    specials: &'a mut BTreeSet<String>,
    max: usize,
}

impl Out<'_> {
    fn is_full(&self) -> bool {
        self.tokens.len() >= self.max
    }

    fn special(&mut self, token: String) {
        if !self.specials.contains(&token) {
            self.specials.insert(token.clone());
        }
        self.tokens.push(token);
    }

    fn plain(&mut self, token: String) {
        self.tokens.push(token);
    }

    /// The node's bytes; an empty leaf (a missing node) has no text.
    fn text(&mut self, node: Node<'_>, source: &[u8]) {
        let text = grammar::text(node, source);
        if !text.is_empty() {
            self.tokens.push(text.into_owned());
        }
    }

    fn close(mut self) -> Vec<String> {
        self.tokens.truncate(self.max - 1);
        self.special("<end>".to_owned());
        self.tokens
    }
}

/// Identifiers in source order, node count, depth and whether the tree holds errors.
pub fn survey(tree: &Tree, source: &[u8]) -> Syntax {
    let mut syntax = Syntax { parse_error: tree.root_node().has_error(), ..Syntax::default() };
    let mut cursor = tree.root_node().walk();
    let mut depth = 1;
    loop {
        let node = cursor.node();
        syntax.nodes += 1;
        syntax.depth = syntax.depth.max(depth);
        let kind = node.kind();
        if node.is_named()
            && node.child_count() == 0
            && (kind.ends_with("identifier") || matches!(kind, "name" | "constant" | "instance_variable"))
        {
            syntax.identifiers.push(grammar::text(node, source).into_owned());
        }
        if cursor.goto_first_child() {
            depth += 1;
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return syntax;
            }
            depth -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Scope;

    fn path(language: Language, source: &str, skipped: &[&str], max: usize) -> String {
        let tree = grammar::parse(language, Scope::Function, source.as_bytes()).unwrap();
        let skipped: Vec<String> = skipped.iter().map(|&kind| kind.to_owned()).collect();
        linearise(language, &tree, source.as_bytes(), &skipped, max, &mut BTreeSet::new()).join(" ")
    }

    #[test]
    fn golden_paths() {
        insta::assert_snapshot!(path(Language::Python, "def f(é):\n  return é", &[], 200));
        insta::assert_snapshot!(path(Language::Go, "func f() int { return 1 }", &[], 200));
        insta::assert_snapshot!(path(Language::Ruby, "def f(a)\n  a\nend", &[], 200));
        insta::assert_snapshot!(path(Language::Php, "function f($a) { return $a; }", &[], 200));
        insta::assert_snapshot!(path(Language::Javascript, "function f(a) { return a }", &[], 200));
        insta::assert_snapshot!(path(Language::Java, "class Toto { int f() { return 1; } }", &[], 200));
    }

    #[test]
    fn a_path_is_cut_to_its_limit_and_still_closed() {
        let cut = path(Language::Python, "def f(a):\n  return a", &[], 9);
        assert_eq!(cut.split(' ').count(), 9);
        assert!(cut.starts_with("<python> <module> <sub>") && cut.ends_with(" <end>"), "{cut}");
    }

    #[test]
    fn a_skipped_leaf_stays_as_its_bare_type() {
        assert!(path(Language::Python, "x = 1", &[], 99).contains("<integer> 1 <nosub>"));
        assert!(path(Language::Python, "x = 1", &["integer"], 99).contains("<integer> <nosub>"));
    }

    #[test]
    fn ten_thousand_levels_need_no_recursion() {
        let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let tree = grammar::parse(Language::Python, Scope::Function, deep.as_bytes()).unwrap();
        let mut specials = BTreeSet::new();
        let tokens = linearise(Language::Python, &tree, deep.as_bytes(), &[], 100_000, &mut specials);
        assert_eq!(tokens.last().map(String::as_str), Some("<end>"));
        assert!(survey(&tree, deep.as_bytes()).nodes > 10_000);
    }
}
