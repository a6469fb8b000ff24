//! A syntax tree as a sequence of tokens, breadth first: the predecessor's `breadth_first_path` without its defects (design:
//! AST linearisation).
//!
//! ```text
//! path      = <lang> group* <end>
//! group     = node* <lvl>                      the children of one node, in breadth-first order
//! node      = [<field> name]                   when the child stands in a named field
//!             ( <type> <sub>                   a named node with children
//!             | <type> text <nosub>            a named leaf
//!             | <type> <nosub>                 a named leaf of a skipped type
//!             | text <nosub> )                 an anonymous leaf
//! ```
//!
//! Other nodes of a skipped type are left out with their subtrees.

use std::collections::{BTreeSet, VecDeque};

use ledger::Language;

use super::tree::{Flat, KindSet, Kinds};

/// The special tokens that are not node types.
pub const MARKS: [&str; 5] = ["<field>", "<sub>", "<nosub>", "<lvl>", "<end>"];
const FIELD: usize = 0;
const SUB: usize = 1;
const NO_SUB: usize = 2;
const LEVEL: usize = 3;
const END: usize = 4;

/// The special tokens in the trees of one language.
#[derive(Debug)]
pub struct Specials {
    language: String,
    /// By number of the node type; `ERROR` comes last.
    kinds: Vec<bool>,
    marks: [bool; MARKS.len()],
    any: bool,
}

impl Specials {
    /// No special token yet.
    pub fn new(language: Language, kinds: &Kinds) -> Self {
        Self { language: language.tag(), kinds: vec![false; kinds.count() + 1], marks: [false; MARKS.len()], any: false }
    }

    /// Adds the special tokens to a set of texts.
    pub fn collect(self, kinds: &Kinds, all: &mut BTreeSet<String>) {
        let used = (0u16..).zip(&self.kinds).filter(|(_, is_used)| **is_used);
        all.extend(used.map(|(kind, _)| kinds.special(kind).to_owned()));
        all.extend(MARKS.iter().zip(self.marks).filter(|(_, is_used)| *is_used).map(|(mark, _)| (*mark).to_owned()));
        all.extend(Some(self.language).filter(|_| self.any));
    }
}

/// Calls `take` with the tokens of a linearised tree: at most `max_tokens − 1` tokens, then `<end>`. Returns the number of
/// tokens.
pub fn linearise(flat: &Flat<'_>, skipped: &KindSet, max_tokens: usize, specials: &mut Specials, take: &mut dyn FnMut(&str)) -> usize {
    let mut out = Writer { taken: 0, max: max_tokens.max(1) - 1, specials, take };
    out.language();
    let mut inner = VecDeque::new();
    out.node(flat, 0, skipped, &mut inner);
    out.mark(LEVEL);
    while let Some(parent) = inner.pop_front() {
        for child in flat.children(parent) {
            out.node(flat, child, skipped, &mut inner);
        }
        out.mark(LEVEL);
        if out.taken >= out.max {
            break;
        }
    }
    out.max += 1;
    out.mark(END);
    out.taken
}

struct Writer<'a> {
    taken: usize,
    max: usize,
    specials: &'a mut Specials,
    take: &'a mut dyn FnMut(&str),
}

impl Writer<'_> {
    fn node(&mut self, flat: &Flat<'_>, number: usize, skipped: &KindSet, inner: &mut VecDeque<usize>) {
        if self.taken >= self.max {
            return;
        }
        let node = flat.nodes[number];
        let is_named = flat.kinds.is_named(node.kind);
        let is_skipped = skipped.has(node.kind);
        // The root is never skipped.
        if is_skipped && number > 0 && !(is_named && flat.is_leaf(number)) {
            return;
        }
        if node.field != 0 {
            self.mark(FIELD);
            self.plain(flat.kinds.field(node.field));
        }
        if is_named && self.taken < self.max {
            let last = self.specials.kinds.len() - 1;
            self.specials.kinds[usize::from(node.kind).min(last)] = true;
            self.plain(flat.kinds.special(node.kind));
        }
        if flat.is_leaf(number) {
            // An empty leaf (a missing node) has no text.
            if !is_skipped && node.bytes.0 < node.bytes.1 {
                self.plain(&flat.text(number));
            }
            self.mark(NO_SUB);
        } else {
            self.mark(SUB);
            inner.push_back(number);
        }
    }

    fn language(&mut self) {
        if self.taken < self.max {
            self.specials.any = true;
            (self.take)(&self.specials.language);
            self.taken += 1;
        }
    }

    fn mark(&mut self, mark: usize) {
        self.specials.marks[mark] |= self.taken < self.max;
        self.plain(MARKS[mark]);
    }

    fn plain(&mut self, token: &str) {
        if self.taken < self.max {
            (self.take)(token);
            self.taken += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grammar::{self, Scope},
        parse::tree,
    };

    fn tokens(language: Language, source: &str, skipped: &[&str], max: usize) -> Vec<String> {
        let scope = if source.starts_with("<?php") { Scope::File } else { Scope::Function };
        let tree = grammar::parse(language, scope, source.as_bytes()).unwrap();
        let flat = Flat::of(&tree, tree::kinds(language, scope), source);
        let mut tokens = Vec::new();
        let mut specials = Specials::new(language, flat.kinds);
        let taken = linearise(&flat, &flat.kinds.are(skipped), max, &mut specials, &mut |token| tokens.push(token.to_owned()));
        assert_eq!(taken, tokens.len());
        let mut all = BTreeSet::new();
        specials.collect(flat.kinds, &mut all);
        assert!(all.iter().all(|special| tokens.contains(special)), "only tokens of the path");
        tokens
    }

    fn path(language: Language, source: &str, skipped: &[&str], max: usize) -> String {
        tokens(language, source, skipped, max).join(" ")
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

    /// The predecessor puts PHP tags around a function and leaves them out of the path.
    #[test]
    fn added_tags_are_skipped() {
        let source = "<?php function f($a) { return $a; } ?>";
        let skipped = path(Language::Php, source, &["ERROR", "php_tag", "php_end_tag"], 200);
        assert!(path(Language::Php, source, &[], 200).contains("<php_tag> <?php <nosub>"));
        assert!(skipped.contains("<php_tag> <nosub>") && !skipped.contains("<?php") && !skipped.contains("?>"), "{skipped}");
        assert!(skipped.contains("<field> name <name> f <nosub>"), "{skipped}");
    }

    /// Node texts are byte ranges: a text after a character of several bytes is complete. Code with errors has a path too.
    #[test]
    fn characters_of_several_bytes_and_errors() {
        insta::assert_snapshot!(path(Language::Python, "def größe(ü, 世界):\n  return 世界 + 'é'", &[], 200));
        insta::assert_snapshot!(path(Language::Php, "function größe($ü) { return $ü; }", &[], 200));
        insta::assert_snapshot!(path(Language::Javascript, "function f( { return ü", &[], 200));
        insta::assert_snapshot!(path(Language::Java, "class Toto { int f( { } }", &["ERROR"], 200));
        insta::assert_snapshot!(path(Language::Go, "func größe(", &[], 200));
        insta::assert_snapshot!(path(Language::Ruby, "def größe(ü\n  ü", &[], 200));
    }

    #[test]
    fn a_truncated_path_ends_with_the_end_token() {
        let cut = path(Language::Python, "def f(a):\n  return a", &[], 9);
        assert_eq!(cut.split(' ').count(), 9);
        assert!(cut.starts_with("<python> <module> <sub>") && cut.ends_with(" <end>"), "{cut}");
    }

    #[test]
    fn a_skipped_leaf_keeps_its_type_without_text() {
        assert!(path(Language::Python, "x = 1", &[], 99).contains("<integer> 1 <nosub>"));
        assert!(path(Language::Python, "x = 1", &["integer"], 99).contains("<integer> <nosub>"));
        let whole = path(Language::Python, "x = f(1)", &[], 99);
        let without = path(Language::Python, "x = f(1)", &["argument_list", "="], 99);
        assert!(whole.contains("<field> arguments <argument_list> <sub>") && whole.contains("= <nosub>"));
        assert!(!without.contains("arguments") && !without.contains("<integer>") && !without.contains('='), "{without}");
        assert!(path(Language::Java, "class Toto { int }", &[], 99).contains("<ERROR>"));
        assert!(!path(Language::Java, "class Toto { int }", &["ERROR"], 99).contains("<ERROR> <sub>"));
    }

    #[test]
    fn ten_thousand_levels_need_no_recursion() {
        let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let tokens = tokens(Language::Python, &deep, &[], 100_000);
        assert_eq!(tokens.last().map(String::as_str), Some("<end>"));
        assert!(tokens.len() > 50_000);
    }
}
