//! A syntax tree as a flat list of nodes. `parse` reads tree-sitter's tree once and computes everything from the list.

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use ledger::Language;
use tree_sitter::Tree;

use crate::grammar::{self, Scope};

/// The node types of a grammar, by number.
pub struct Kinds {
    names: Vec<String>,
    /// `<name>`, for the linearised tree.
    specials: Vec<String>,
    named: Vec<bool>,
    fields: Vec<String>,
    numbers: HashMap<String, Vec<u16>>,
}

/// Number of the node type `ERROR` in every grammar.
const ERROR: u16 = u16::MAX;

/// A node. Nodes are in source order: the subtree of a node follows it, up to `end`.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub kind: u16,
    /// Number of the named field; 0: none.
    pub field: u16,
    /// Byte range in the source.
    pub bytes: (u32, u32),
    /// Number of the first node after the subtree.
    pub end: u32,
}

/// All nodes of a tree, the root first.
pub struct Flat<'a> {
    pub nodes: Vec<Node>,
    pub kinds: &'static Kinds,
    pub source: &'a str,
    pub depth: u32,
    pub has_error: bool,
}

/// The node types of the grammar that parses a scope.
pub fn kinds(language: Language, scope: Scope) -> &'static Kinds {
    static KINDS: [[OnceLock<Kinds>; 2]; Language::ALL.len()] = [const { [const { OnceLock::new() }; 2] }; Language::ALL.len()];
    KINDS[language as usize][scope as usize].get_or_init(|| Kinds::of(&grammar::grammar(language, scope)))
}

impl Kinds {
    fn of(grammar: &tree_sitter::Language) -> Self {
        let numbers = 0..u16::try_from(grammar.node_kind_count()).unwrap_or(ERROR);
        let names: Vec<_> = numbers.clone().map(|kind| grammar.node_kind_for_id(kind).unwrap_or_default().to_owned()).collect();
        let named = numbers.map(|kind| grammar.node_kind_is_named(kind)).collect();
        let count = u16::try_from(grammar.field_count()).unwrap_or_default();
        let fields = (0..=count).map(|field| grammar.field_name_for_id(field).unwrap_or_default().to_owned()).collect();
        let mut by_name: HashMap<String, Vec<u16>> = HashMap::new();
        for (kind, name) in (0u16..).zip(&names) {
            by_name.entry(name.clone()).or_default().push(kind);
        }
        Self { specials: names.iter().map(|name| format!("<{name}>")).collect(), names, named, fields, numbers: by_name }
    }

    /// Name of a node type.
    pub fn name(&self, kind: u16) -> &str {
        self.names.get(usize::from(kind)).map_or("ERROR", String::as_str)
    }

    /// Special token of a node type: `<name>`.
    pub fn special(&self, kind: u16) -> &str {
        self.specials.get(usize::from(kind)).map_or("<ERROR>", String::as_str)
    }

    /// Is this a named node type? Others are punctuation and keywords.
    pub fn is_named(&self, kind: u16) -> bool {
        self.named.get(usize::from(kind)).copied().unwrap_or(true)
    }

    /// Name of a field.
    pub fn field(&self, field: u16) -> &str {
        self.fields.get(usize::from(field)).map(String::as_str).unwrap_or_default()
    }

    /// Number of node types.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Does a node type have this name?
    pub fn knows(&self, name: &str) -> bool {
        name == "ERROR" || self.numbers.contains_key(name)
    }

    /// The set of the node types with these names.
    pub fn are(&self, names: &[&str]) -> KindSet {
        let mut are = vec![false; self.names.len() + 1];
        for kind in names.iter().filter_map(|name| self.numbers.get(*name)).flatten() {
            are[usize::from(*kind)] = true;
        }
        are[self.names.len()] = names.contains(&"ERROR");
        KindSet(are)
    }
}

/// A set of node types, by number; `ERROR` comes last.
#[derive(Debug, Clone)]
pub struct KindSet(Vec<bool>);

impl KindSet {
    /// Is the node type in the set?
    pub fn has(&self, kind: u16) -> bool {
        self.0[usize::from(kind).min(self.0.len() - 1)]
    }
}

impl<'a> Flat<'a> {
    /// Copies a tree, without recursion.
    pub fn of(tree: &Tree, kinds: &'static Kinds, source: &'a str) -> Self {
        let root = tree.root_node();
        let mut nodes: Vec<Node> = Vec::with_capacity(root.descendant_count());
        let mut open: Vec<usize> = Vec::with_capacity(64);
        let mut cursor = root.walk();
        let mut depth = 0;
        'walk: loop {
            let node = cursor.node();
            nodes.push(Node {
                kind: node.kind_id(),
                field: cursor.field_id().map_or(0, u16::from),
                bytes: (small(node.start_byte()), small(node.end_byte())),
                end: small(nodes.len() + 1),
            });
            if cursor.goto_first_child() {
                open.push(nodes.len() - 1);
                depth = depth.max(open.len());
                continue;
            }
            while !cursor.goto_next_sibling() {
                let Some(parent) = open.pop() else { break 'walk };
                nodes[parent].end = small(nodes.len());
                cursor.goto_parent();
            }
        }
        Self { nodes, kinds, source, depth: small(depth + 1), has_error: root.has_error() }
    }

    /// Has the node no children?
    pub fn is_leaf(&self, number: usize) -> bool {
        self.nodes[number].end as usize == number + 1
    }

    /// Numbers of a node's children, in order.
    pub fn children(&self, number: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[number].end as usize;
        let mut child = number + 1;
        std::iter::from_fn(move || {
            let this = (child < end).then_some(child)?;
            child = self.nodes[this].end as usize;
            Some(this)
        })
    }

    /// The first child in a named field.
    pub fn child(&self, number: usize, field: &str) -> Option<usize> {
        self.children(number).find(|&child| self.kinds.field(self.nodes[child].field) == field)
    }

    /// Name of a node's type.
    pub fn kind(&self, number: usize) -> &'static str {
        self.kinds.name(self.nodes[number].kind)
    }

    /// Is this a named node?
    pub fn is_named(&self, number: usize) -> bool {
        self.kinds.is_named(self.nodes[number].kind)
    }

    /// Text of a node; bytes that are not whole characters become U+FFFD.
    pub fn text(&self, number: usize) -> Cow<'a, str> {
        let (start, end) = self.nodes[number].bytes;
        self.span(start, end)
    }

    /// Text of a byte range; bytes that are not whole characters become U+FFFD.
    pub fn span(&self, start: u32, end: u32) -> Cow<'a, str> {
        let (start, end) = (start as usize, end as usize);
        match self.source.get(start..end) {
            Some(text) => Cow::Borrowed(text),
            None => String::from_utf8_lossy(self.source.as_bytes().get(start..end).unwrap_or_default()),
        }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
