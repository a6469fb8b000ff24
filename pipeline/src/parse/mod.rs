//! `parse`: tree-sitter over every function. Adds AST token columns, identifiers and words.

mod features;
mod linearise;
mod tree;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use arrow::{
    array::{ArrayRef, BooleanBuilder, ListBuilder, RecordBatch, StringBuilder, UInt32Builder},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use ledger::{
    Artifact, Functions, Language, Report, Rows, Run, Stage,
    table::{self, TableWriter, text_field, texts_field, u32_field},
    words,
};
use serde::{Deserialize, Serialize};

use crate::{
    grammar::{self, Scope},
    harvest,
};

pub use features::{Features, Parts, features, structure};
pub use linearise::{Specials, linearise};
pub use tree::{Flat, KindSet, Kinds, kinds};

/// The stage.
#[derive(Debug)]
pub struct Parse;

/// Section `parse`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Length of an AST path, `<end>` included.
    pub max_ast_tokens: usize,
    /// Words of a function's code that are kept.
    pub max_words: usize,
    /// Put `</id>` behind the words of each identifier in the column `subtokens`.
    pub mark_subtoken_end: bool,
    /// Per language, text put before and behind a function so that it parses.
    pub added_nodes: BTreeMap<Language, (String, String)>,
    /// Per language, node types whose text is dropped.
    pub skip_node_types: BTreeMap<Language, Vec<String>>,
}

/// Tree statistics.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ParseReport {
    pub rows: u64,
    pub with_errors: u64,
    /// Of these, texts that have too many readings to be parsed.
    pub given_up: u64,
    pub nodes: u64,
    pub max_depth: u32,
    pub ast_tokens: u64,
    pub truncated: u64,
    pub specials: BTreeSet<String>,
}

impl Config {
    /// A node type that no grammar has would skip nothing.
    fn check(&self) -> Result<()> {
        for (&language, types) in &self.skip_node_types {
            let known = [Scope::File, Scope::Function].map(|scope| kinds(language, scope));
            if let Some(odd) = types.iter().find(|name| !known.iter().any(|kinds| kinds.knows(name))) {
                bail!(
                    "parse.skip-node-types.{language}: the grammar of today has no node type `{odd}` (PHP's tags are php_tag and php_end_tag)"
                );
            }
        }
        Ok(())
    }
}

impl Report for ParseReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

impl ParseReport {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.with_errors += other.with_errors;
        self.given_up += other.given_up;
        self.nodes += other.nodes;
        self.max_depth = self.max_depth.max(other.max_depth);
        self.ast_tokens += other.ast_tokens;
        self.truncated += other.truncated;
        self.specials.extend(other.specials);
    }
}

impl Stage for Parse {
    const NAME: &'static str = "parse";
    const ABOUT: &'static str = "Parse functions with tree-sitter: AST tokens, identifiers, words";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = Artifact<Functions>;
    type Output = ledger::Syntax;
    type Report = ParseReport;
    type Error = anyhow::Error;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<ParseReport> {
        config.check()?;
        let functions = input.open()?;
        let reports = run.map_shards("parse", input, &functions.shards, |shard, _, target, bar| {
            let mut report = ParseReport::default();
            let mut writer: Option<TableWriter> = None;
            for batch in table::read(&shard.path, &[])? {
                for piece in pieces(&batch?)? {
                    let piece = parse_batch(&piece, config, &mut report)?;
                    bar.add(piece.num_rows() as u64);
                    let writer = match &mut writer {
                        Some(writer) => writer,
                        None => writer.insert(TableWriter::create(target, piece.schema())?),
                    };
                    writer.write(&piece)?;
                }
            }
            writer.context("a shard without rows")?.finish()?;
            Ok(report)
        })?;
        let mut total = ParseReport::default();
        reports.into_iter().for_each(|report| total.add(report));
        write_specials(run.out, &total.specials)?;
        Ok(total)
    }
}

fn write_specials(out: &Path, specials: &BTreeSet<String>) -> Result<()> {
    Ok(fs::write(out.join("ast_specials.json"), serde_json::to_vec_pretty(specials)?)?)
}

/// Code that is parsed before the columns are written, at most.
const PIECE_BYTES: usize = 16 << 20;

/// Cuts a batch where it holds more code than that: what is made of it is several times as large.
fn pieces(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let codes = table::texts(batch, "code")?;
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for row in 0..batch.num_rows() {
        bytes += codes.value(row).len();
        if bytes > PIECE_BYTES || row + 1 == batch.num_rows() {
            pieces.push(batch.slice(start, row + 1 - start));
            (start, bytes) = (row + 1, 0);
        }
    }
    Ok(pieces)
}

/// The grammar's tables that a language needs, made once a batch.
struct Tables {
    kinds: &'static Kinds,
    parts: Parts,
    skipped: KindSet,
    specials: Specials,
}

impl Tables {
    fn of(language: Language, scope: Scope, config: &Config) -> Self {
        let kinds = kinds(language, scope);
        let skipped: Vec<&str> = config.skip_node_types.get(&language).into_iter().flatten().map(String::as_str).collect();
        Self { kinds, parts: Parts::of(language, kinds), skipped: kinds.are(&skipped), specials: Specials::new(language, kinds) }
    }
}

const TEXTS: [&str; 5] = ["name_words", "code_words", "doc_words", "query_words", "signature"];
const LISTS: [&str; 9] = ["identifiers", "ast_tokens", "subtokens", "parameters", "calls", "imports", "strings", "comments", "structure"];
const NUMBERS: [&str; 3] = ["nodes", "depth", "cyclomatic"];

/// The columns of `functions`, and those of the parse behind them: a pure function of the batch.
pub fn parse_batch(batch: &RecordBatch, config: &Config, report: &mut ParseReport) -> Result<RecordBatch> {
    let languages = table::texts(batch, "language")?;
    let names = table::texts(batch, "func_name")?;
    let codes = table::texts(batch, "code")?;
    let docstrings = table::texts(batch, "docstring")?;
    let code_tokens = table::text_lists(batch, "code_tokens")?;
    let doc_tokens = table::text_lists(batch, "docstring_tokens")?;
    let mut texts: [StringBuilder; TEXTS.len()] = Default::default();
    let mut lists = LISTS.map(|_| ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false)));
    let mut numbers: [UInt32Builder; NUMBERS.len()] = Default::default();
    let mut errors = BooleanBuilder::new();
    let mut tables: BTreeMap<(Language, bool), Tables> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let language: Language = languages.value(row).parse()?;
        let (source, scope) = source_of(language, codes.value(row), config);
        // What is given up is kept, flagged, with the tree of an empty text.
        let parsed = grammar::parse(language, scope, source.as_bytes());
        let (source, is_given_up) = if parsed.is_err() { (Cow::Borrowed(""), true) } else { (source, false) };
        let tree = parsed.or_else(|_| grammar::parse(language, scope, b""))?;
        report.given_up += u64::from(is_given_up);
        let known = tables.entry((language, scope == Scope::File)).or_insert_with(|| Tables::of(language, scope, config));
        let flat = Flat::of(&tree, known.kinds, &source);
        let features = features(&flat, &known.parts);

        let [identifiers, ast, subtokens, parameters, calls, imports, strings, comments, structure] = &mut lists;
        let taken = linearise(&flat, &known.skipped, config.max_ast_tokens, &mut known.specials, &mut |token| {
            ast.values().append_value(token);
        });
        ast.append(true);
        report.rows += 1;
        report.with_errors += u64::from(flat.has_error || is_given_up);
        report.nodes += flat.nodes.len() as u64;
        report.max_depth = report.max_depth.max(flat.depth);
        report.ast_tokens += taken as u64;
        report.truncated += u64::from(taken >= config.max_ast_tokens);

        texts[0].append_value(words::joined(names.value(row)));
        texts[1].append_value(words_of(code_tokens.row(row), config.max_words));
        texts[2].append_value(words_of(std::iter::once(docstrings.value(row)), config.max_words));
        let mut query = doc_tokens.row(row).peekable();
        if query.peek().is_some() {
            texts[3].append_value(words_of(query, config.max_words));
        } else {
            let tokens = harvest::documentation_tokens(docstrings.value(row));
            texts[3].append_value(words_of(tokens.iter().map(String::as_str), config.max_words));
        }
        texts[4].append_value(&features.signature);
        append_subtokens(subtokens, code_tokens.row(row), config);
        let named = features::structure(names.value(row), &features);
        for (builder, tokens) in [
            (identifiers, &features.identifiers),
            (parameters, &features.parameters),
            (calls, &features.calls),
            (imports, &features.imports),
            (strings, &features.strings),
            (comments, &features.comments),
            (structure, &named),
        ] {
            tokens.iter().for_each(|token| builder.values().append_value(token));
            builder.append(true);
        }
        numbers[0].append_value(u32::try_from(flat.nodes.len())?);
        numbers[1].append_value(flat.depth);
        numbers[2].append_value(features.cyclomatic);
        errors.append_value(flat.has_error || is_given_up);
    }
    for known in tables.into_values() {
        known.specials.collect(known.kinds, &mut report.specials);
    }
    let mut columns = batch.columns().to_vec();
    columns.extend(texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    columns.extend(lists.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    columns.extend(numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    columns.push(Arc::new(errors.finish()));
    Ok(RecordBatch::try_new(syntax_schema(&batch.schema()), columns)?)
}

fn syntax_schema(functions: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = functions.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(TEXTS.map(|name| text_field(name, false)));
    fields.extend(LISTS.map(texts_field));
    fields.extend(NUMBERS.map(|name| u32_field(name, false)));
    fields.push(Field::new("parse_error", DataType::Boolean, false));
    table::schema(fields)
}

/// A function with what makes it parse by itself, and how: a text that opens PHP itself is parsed as a file.
pub fn source_of<'a>(language: Language, code: &'a str, config: &Config) -> (Cow<'a, str>, Scope) {
    let source = match config.added_nodes.get(&language) {
        Some((before, behind)) => Cow::Owned(format!("{before}{code}{behind}")),
        None => Cow::Borrowed(code),
    };
    let is_file = language == Language::Php && source.trim_start().starts_with("<?");
    (source, if is_file { Scope::File } else { Scope::Function })
}

fn words_of<'a>(texts: impl Iterator<Item = &'a str>, max: usize) -> String {
    let mut words = Vec::new();
    for text in texts {
        words::subtokens(text, &mut words);
        if words.len() >= max {
            words.truncate(max);
            break;
        }
    }
    words.join(" ")
}

/// Code tokens, identifiers cut into words: the predecessor's `use_subtokens` and `mark_subtoken_end`.
fn append_subtokens<'a>(list: &mut ListBuilder<StringBuilder>, tokens: impl Iterator<Item = &'a str>, config: &Config) {
    let mut words = Vec::new();
    let mut left = config.max_words;
    for token in tokens {
        words.clear();
        if token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            words::subtokens(token, &mut words);
        }
        let is_cut = !words.is_empty();
        if !is_cut {
            words.push(token.to_owned());
        } else if config.mark_subtoken_end {
            words.push("</id>".to_owned());
        }
        if words.len() > left {
            break;
        }
        left -= words.len();
        words.iter().for_each(|word| list.values().append_value(word));
    }
    list.append(true);
}
