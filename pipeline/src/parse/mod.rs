//! `parse`: tree-sitter over every function. Adds AST token columns, identifiers and words.

mod linearise;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
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
    pub nodes: u64,
    pub max_depth: u32,
    pub ast_tokens: u64,
    pub truncated: u64,
    pub specials: BTreeSet<String>,
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
        self.nodes += other.nodes;
        self.max_depth = self.max_depth.max(other.max_depth);
        self.ast_tokens += other.ast_tokens;
        self.truncated += other.truncated;
        self.specials.extend(other.specials);
    }
}

impl Stage for Parse {
    const NAME: &'static str = "parse";
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = Artifact<Functions>;
    type Output = ledger::Syntax;
    type Report = ParseReport;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<ParseReport> {
        let functions = input.open()?;
        let reports = run.map_shards("parse", input, &functions.shards, |shard, target, bar| {
            let mut report = ParseReport::default();
            let mut writer: Option<TableWriter> = None;
            for batch in table::read(&shard.path, &[])? {
                let batch = parse_batch(&batch?, config, &mut report)?;
                bar.add(batch.num_rows() as u64);
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(TableWriter::create(target, batch.schema())?),
                };
                writer.write(&batch)?;
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

/// The columns of `functions`, and those of the parse behind them: a pure function of the batch.
pub fn parse_batch(batch: &RecordBatch, config: &Config, report: &mut ParseReport) -> Result<RecordBatch> {
    let languages = table::texts(batch, "language")?;
    let names = table::texts(batch, "func_name")?;
    let codes = table::texts(batch, "code")?;
    let docstrings = table::texts(batch, "docstring")?;
    let code_tokens = table::text_lists(batch, "code_tokens")?;
    let doc_tokens = table::text_lists(batch, "docstring_tokens")?;
    let mut texts: [StringBuilder; 4] = Default::default();
    let mut lists = [(); 2].map(|()| ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false)));
    let mut numbers: [UInt32Builder; 2] = Default::default();
    let mut errors = BooleanBuilder::new();
    for row in 0..batch.num_rows() {
        let language: Language = languages.value(row).parse()?;
        let (source, tree) = tree_of(language, codes.value(row), config)?;
        let skipped = config.skip_node_types.get(&language).map(Vec::as_slice).unwrap_or_default();
        let mut syntax = linearise::survey(&tree, source.as_bytes());
        syntax.ast_tokens = linearise::linearise(language, &tree, source.as_bytes(), skipped, config.max_ast_tokens, &mut report.specials);
        report.rows += 1;
        report.with_errors += u64::from(syntax.parse_error);
        report.nodes += u64::from(syntax.nodes);
        report.max_depth = report.max_depth.max(syntax.depth);
        report.ast_tokens += syntax.ast_tokens.len() as u64;
        report.truncated += u64::from(syntax.ast_tokens.len() >= config.max_ast_tokens);

        texts[0].append_value(words::joined(names.value(row)));
        texts[1].append_value(words_of(code_tokens.row(row), config.max_words));
        texts[2].append_value(words_of(std::iter::once(docstrings.value(row)), config.max_words));
        let mut query: Vec<&str> = doc_tokens.row(row).collect();
        let fallback = harvest::documentation_tokens(docstrings.value(row));
        if query.is_empty() {
            query = fallback.iter().map(String::as_str).collect();
        }
        texts[3].append_value(words_of(query.into_iter(), config.max_words));
        for (builder, tokens) in lists.iter_mut().zip([&syntax.identifiers, &syntax.ast_tokens]) {
            tokens.iter().for_each(|token| builder.values().append_value(token));
            builder.append(true);
        }
        numbers[0].append_value(syntax.nodes);
        numbers[1].append_value(syntax.depth);
        errors.append_value(syntax.parse_error);
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
    fields.extend(["name_words", "code_words", "doc_words", "query_words"].map(|name| text_field(name, false)));
    fields.extend(["identifiers", "ast_tokens"].map(texts_field));
    fields.extend(["nodes", "depth"].map(|name| u32_field(name, false)));
    fields.push(Field::new("parse_error", DataType::Boolean, false));
    table::schema(fields)
}

fn tree_of(language: Language, code: &str, config: &Config) -> Result<(String, tree_sitter::Tree)> {
    let source = match config.added_nodes.get(&language) {
        Some((before, behind)) => format!("{before}{code}{behind}"),
        None => code.to_owned(),
    };
    // A text that opens PHP itself is parsed as a file.
    let scope = if language == Language::Php && source.trim_start().starts_with("<?") { Scope::File } else { Scope::Function };
    let tree = grammar::parse(language, scope, source.as_bytes())?;
    Ok((source, tree))
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
