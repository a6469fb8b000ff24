//! Functions with their documentation from a source file, for six languages.
//!
//! The plain dialect takes every function that a user would search for, also constructors, and functions that are values. The dialect of
//! CodeSearchNet follows the rules of its `function_parser`. In both, the name contains the class, the documentation is the comment above the
//! function (Python: the docstring), and the code tokens do not contain the docstring.
//!
//! ```text
//! shape ── names (javascript) ── comments (directives) or docstring ── documentation ── tokens
//! ```

mod comments;
mod directives;
mod docstring;
pub mod documentation;
mod javascript;
mod names;
mod shape;
mod tokens;

use ledger::Language;
use names::Named;
use shape::{Shape, is_excluded_name, shape};
pub use tokens::Dialect;
use tokens::Source;
use tree_sitter::Node;

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
        if !shape.is_function(node, dialect) {
            return true;
        }
        let named = names::of(language, node, source.bytes, dialect);
        if named.is_none() && language != Language::Javascript {
            // A value without a name, as the block of a call, may contain functions.
            return true;
        }
        enclosing.retain(|&end| end > node.start_byte());
        if enclosing.len() >= MAX_NESTING {
            return false;
        }
        enclosing.push(node.end_byte());
        found.extend(named.and_then(|named| function(language, &shape, node, named, &source)));
        language == Language::Javascript
    });
    Ok(found)
}

/// The code tokens of a text that should be a function: those of its first function, or its words where it has none.
pub fn tokens_of_snippet(language: Language, code: &str) -> Vec<String> {
    let found = extract_in(language, Scope::Function, code.as_bytes(), Dialect::Plain).unwrap_or_default();
    found.into_iter().next().map_or_else(|| code.split_whitespace().map(str::to_owned).collect(), |function| function.code_tokens)
}

fn function(language: Language, shape: &Shape, node: Node<'_>, named: Named<'_>, file: &Source<'_>) -> Option<Function> {
    let (source, dialect) = (file.bytes, file.dialect);
    let Named { own, code, statement } = named;
    if own.is_empty() || dialect == Dialect::Codesearchnet && is_excluded_name(language, &own) {
        return None;
    }
    let string = (language == Language::Python).then(|| docstring::of(node, source, dialect)).flatten();
    let docstring = match string {
        Some(string) => docstring::text(string, source, dialect),
        None => comments::documentation_of(language, node, statement, source, dialect),
    };
    let context = names::class_path(language, shape, node, source, dialect);
    let name = if context.is_empty() { own } else { format!("{context}.{own}") };
    let line = |row: usize| u32::try_from(row + 1).unwrap_or(u32::MAX);
    Some(Function {
        name,
        code: grammar::text(code, source).into_owned(),
        code_tokens: tokens::code_tokens(code, string, file),
        docstring,
        lines: (line(code.start_position().row), line(code.end_position().row)),
    })
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

    /// Names of the functions of a file in the plain dialect, and in the dialect of CodeSearchNet.
    fn names(language: Language, source: &str) -> (Vec<String>, Vec<String>) {
        let names = |dialect| extract(language, source.as_bytes(), dialect).unwrap().into_iter().map(|function| function.name).collect();
        (names(Dialect::Plain), names(Dialect::Codesearchnet))
    }

    #[test]
    fn constructors_and_other_special_methods_are_functions() {
        let check = |language, source, expected: &[&str]| {
            let (plain, codesearchnet) = names(language, source);
            assert_eq!((plain.iter().map(String::as_str).collect::<Vec<_>>(), codesearchnet), (expected.to_vec(), vec![]), "{language}");
        };
        check(Language::Java, "class Tank { Tank(int x) {} public String toString() { return \"\"; } }", &["Tank.Tank", "Tank.toString"]);
        check(Language::Java, "record Tank(int litres) { Tank { check(litres); } }", &["Tank.Tank"]);
        check(Language::Javascript, "class Tank { constructor(x) {} }", &["Tank.constructor"]);
        check(Language::Php, "<?php class Tank { function __construct() {} }", &["Tank.__construct"]);
        check(Language::Python, "class Tank:\n    def __init__(self):\n        pass\n", &["Tank.__init__"]);
        check(Language::Ruby, "class Tank\n  def initialize\n  end\nend", &["Tank.initialize"]);
    }

    #[test]
    fn functions_that_are_values_have_the_name_of_what_holds_them() {
        let check = |language, source, expected: &str| assert_eq!(names(language, source).0.join(" "), expected, "{source}");
        let javascript = |source, expected| check(Language::Javascript, source, expected);
        javascript(
            "class A { seek = () => 1; static reset = async function () {}; #own = () => 2; 'x' = () => 3 }",
            "A.seek A.reset A.#own A.x",
        );
        javascript("const f = memo(() => 1), g = _.debounce(function () {}, 100), h = React.memo(forwardRef((p, r) => 1));", "f g h");
        javascript("const f = function () {}.bind(this), g = (function () {}), h = old || function () {};", "f g h");
        javascript("const n = list.map(x => x + 1), t = setTimeout(() => 1), r = (function () { return 1; })();", "");
        javascript("module.exports = function open() {}; myexports.shut = function () {};", "open myexports.shut");
        javascript("const s = app.listen(80, () => {}), u = useSelector(x => x.u), g = useCallback(() => 1);", "g");
        javascript("app.get('/', function list() {});", "list");
        javascript("x ??= function () {}; exports.a = exports.b = function () {};", "x b");
        javascript("export default function () {}", "default");
        javascript("export default memo(function Page() {})", "Page");
        javascript("Queue.prototype = { push: function () {}, pop() {}, 'to-list': () => 1 };", "Queue.push Queue.pop Queue.to-list");
        javascript("const Box = class { open() {} }; module.exports = class extends Box { close() {} };", "Box.open module.exports.close");
        javascript("class A { constructor() { this.f = () => 1; } }", "A.constructor A.f");
        javascript("function Box() { this.open = function () {}; }", "Box Box.open");
        check(Language::Go, "package p\nvar Open = func() {}\nvar (\n\ta, b = 1, func() {}\n)\nvar c = T{f: func() {}}\n", "Open b");
        check(Language::Php, "<?php\n$open = function () {};\n$close = fn($x) => $x;\n", "open close");
        check(
            Language::Ruby,
            "class A\n define_method(:open) do |x|\n 1\n end\n scope :late, -> { where(a: 1) }\n KEY = ->(x) { x }\nend",
            "A.open A.late A.KEY",
        );
        check(Language::Ruby, "K = Class.new { def a\n 1\n end }\nADD = Proc.new do |x|\n x\n end", "K.a ADD");
        check(Language::Ruby, "Point = Struct.new(:x) do\n def far?\n 1\n end\nend\nlist.each do |x|\n def x.y\n end\nend", "Point.far? y");
    }

    #[test]
    fn the_markers_of_a_block_comment_in_ruby_are_no_documentation() {
        let source = "class Kettle\n=begin rdoc\nBoils it.\n=end\n  def boil(water)\n    water\n  end\nend\n";
        assert_eq!(only(Language::Ruby, source).docstring, "Boils it.");
    }

    #[test]
    fn time_grows_with_the_size_of_a_file() {
        let clock = std::time::Instant::now();
        let lines = "// x\n".repeat(20_000);
        let many = format!("foo({}1)", "() => 1, ".repeat(20_000));
        let variables = format!("package p\nvar {} a = {} 1\n", "a, ".repeat(20_000), "func() {}, ".repeat(20_000));
        for (language, source) in [
            (Language::Javascript, format!("{lines}function f() {{}}")),
            (Language::Javascript, format!("{}function f() {{}}", "/** @x */\n\n".repeat(2_000))),
            (Language::Go, format!("package p\n{lines}func f() {{}}")),
            (Language::Ruby, format!("{}def f\nend", "# x\n".repeat(20_000))),
            (Language::Javascript, many),
            (Language::Go, variables),
            (Language::Python, format!("def f(a):\n    {}\"x\"{}\n", "(".repeat(20_000), ")".repeat(20_000))),
        ] {
            extract(language, source.as_bytes(), Dialect::Plain).unwrap();
        }
        // A quadratic step needed 5 to 40 seconds for one of these files.
        assert!(clock.elapsed().as_secs() < 60, "{:?}", clock.elapsed());
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
