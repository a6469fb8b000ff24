//! The columns that `parse` adds to a batch of functions.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanBuilder, ListBuilder, RecordBatch, StringBuilder, UInt32Builder},
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Language,
    table::{self, RowDigest, digest_field, text_field, texts_field, u32_field},
    words,
};

use super::{
    config::Config,
    features::{Features, features, structure},
    linearise::{Specials, linearise},
    report::ParseReport,
    roles::Parts,
    tree::{Flat, KindSet, Kinds, kinds},
};
use crate::{
    error::Result,
    functions::documentation,
    grammar::{self, Scope},
};

/// Columns that the added columns are computed from.
pub const INPUTS: [&str; 6] = ["language", "func_name", "code", "docstring", "code_tokens", "docstring_tokens"];

const TEXTS: [&str; 5] = ["name_words", "code_words", "doc_words", "query_words", "signature"];
const LISTS: [&str; 9] = ["identifiers", "ast_tokens", "subtokens", "parameters", "calls", "imports", "strings", "comments", "structure"];
const NUMBERS: [&str; 3] = ["nodes", "depth", "cyclomatic"];

/// The added columns.
pub const ADDED: [&str; TEXTS.len() + LISTS.len() + NUMBERS.len() + 1] = {
    let (mut all, mut next) = (["parse_error"; TEXTS.len() + LISTS.len() + NUMBERS.len() + 1], 0);
    while next < all.len() - 1 {
        all[next] = match next {
            text if text < TEXTS.len() => TEXTS[text],
            list if list < TEXTS.len() + LISTS.len() => LISTS[list - TEXTS.len()],
            number => NUMBERS[number - TEXTS.len() - LISTS.len()],
        };
        next += 1;
    }
    all
};

/// Node types of a grammar, computed once per batch.
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

/// The columns of a row that its batch has already.
struct Row<'a> {
    language: Language,
    func_name: &'a str,
    code: &'a str,
    docstring: &'a str,
}

/// Builders of the added columns.
struct Columns<'a> {
    config: &'a Config,
    texts: [StringBuilder; TEXTS.len()],
    lists: [ListBuilder<StringBuilder>; LISTS.len()],
    numbers: [UInt32Builder; NUMBERS.len()],
    errors: BooleanBuilder,
    tables: BTreeMap<(Language, bool), Tables>,
}

/// Adds the columns of the syntax trees to a batch of functions. The result depends on the batch and the configuration only.
pub fn parse_batch(batch: &RecordBatch, config: &Config, report: &mut ParseReport) -> Result<RecordBatch> {
    let added = added_columns(batch, config, report)?;
    with_columns(batch, &table::row_digests(batch, &INPUTS, "")?, &added)
}

/// A batch of functions, the digests of its columns [`INPUTS`], and the columns [`ADDED`].
pub fn with_columns(batch: &RecordBatch, digests: &[RowDigest], added: &RecordBatch) -> Result<RecordBatch> {
    let fields = batch.schema_ref().fields().iter().chain(added.schema_ref().fields());
    let fields = fields.map(|field| field.as_ref().clone()).chain([digest_field()]).collect();
    let columns = batch.columns().iter().chain(added.columns()).cloned().chain([table::digest_column(digests)?]).collect();
    Ok(RecordBatch::try_new(table::schema(fields), columns)?)
}

/// The columns [`ADDED`] of a batch of functions. Special tokens and texts that are given up are counted in the report.
pub fn added_columns(batch: &RecordBatch, config: &Config, report: &mut ParseReport) -> Result<RecordBatch> {
    let languages = table::texts(batch, "language")?;
    let names = table::texts(batch, "func_name")?;
    let codes = table::texts(batch, "code")?;
    let docstrings = table::texts(batch, "docstring")?;
    let code_tokens = table::text_lists(batch, "code_tokens")?;
    let doc_tokens = table::text_lists(batch, "docstring_tokens")?;
    let mut columns = Columns {
        config,
        texts: Default::default(),
        lists: LISTS.map(|_| ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false))),
        numbers: Default::default(),
        errors: BooleanBuilder::new(),
        tables: BTreeMap::new(),
    };
    for index in 0..batch.num_rows() {
        let language: Language = languages.value(index).parse()?;
        let row = Row { language, func_name: names.value(index), code: codes.value(index), docstring: docstrings.value(index) };
        let features = columns.append_tree(&row, report)?;
        columns.append_words(&row, code_tokens.row(index), doc_tokens.row(index));
        columns.append_features(row.func_name, &features);
        append_subtokens(&mut columns.lists[2], code_tokens.row(index), config);
    }
    columns.finish(report)
}

impl Columns<'_> {
    /// Parses the code and appends what is computed from the tree.
    fn append_tree(&mut self, row: &Row<'_>, report: &mut ParseReport) -> Result<Features> {
        let (source, scope) = source_of(row.language, row.code, self.config);
        // A text that is too ambiguous keeps its row: with an error, and with the tree of an empty text.
        let parsed = grammar::parse(row.language, scope, source.as_bytes());
        let (source, is_given_up) = if parsed.is_err() { (Cow::Borrowed(""), true) } else { (source, false) };
        let tree = parsed.or_else(|_| grammar::parse(row.language, scope, b""))?;
        report.given_up += u64::from(is_given_up);
        let key = (row.language, scope == Scope::File);
        let known = self.tables.entry(key).or_insert_with(|| Tables::of(row.language, scope, self.config));
        let flat = Flat::of(&tree, known.kinds, &source);
        let ast = &mut self.lists[1];
        linearise(&flat, &known.skipped, self.config.max_ast_tokens, &mut known.specials, &mut |token| {
            ast.values().append_value(token);
        });
        ast.append(true);
        let features = features(&flat, &known.parts);
        self.numbers[0].append_value(u32::try_from(flat.nodes.len())?);
        self.numbers[1].append_value(flat.depth);
        self.numbers[2].append_value(features.cyclomatic);
        self.errors.append_value(flat.has_error || is_given_up);
        Ok(features)
    }

    /// Appends the words of name, code, documentation and query.
    fn append_words<'t>(&mut self, row: &Row<'_>, code_tokens: impl Iterator<Item = &'t str>, doc_tokens: impl Iterator<Item = &'t str>) {
        let max = self.config.max_words;
        self.texts[0].append_value(words::joined(row.func_name));
        self.texts[1].append_value(words_of(code_tokens, max));
        self.texts[2].append_value(words_of(std::iter::once(row.docstring), max));
        let mut query = doc_tokens.peekable();
        if query.peek().is_some() {
            self.texts[3].append_value(words_of(query, max));
        } else {
            let tokens = documentation::tokens(row.docstring);
            self.texts[3].append_value(words_of(tokens.iter().map(String::as_str), max));
        }
    }

    fn append_features(&mut self, func_name: &str, features: &Features) {
        self.texts[4].append_value(&features.signature);
        let structure = structure(func_name, features);
        let [identifiers, _, _, parameters, calls, imports, strings, comments, structures] = &mut self.lists;
        for (builder, tokens) in [
            (identifiers, &features.identifiers),
            (parameters, &features.parameters),
            (calls, &features.calls),
            (imports, &features.imports),
            (strings, &features.strings),
            (comments, &features.comments),
            (structures, &structure),
        ] {
            tokens.iter().for_each(|token| builder.values().append_value(token));
            builder.append(true);
        }
    }

    fn finish(mut self, report: &mut ParseReport) -> Result<RecordBatch> {
        for known in self.tables.into_values() {
            known.specials.collect(known.kinds, &mut report.specials);
        }
        let texts = self.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let lists = self.lists.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let numbers = self.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let columns = texts.chain(lists).chain(numbers).chain([Arc::new(self.errors.finish()) as ArrayRef]).collect();
        Ok(RecordBatch::try_new(added_schema(), columns)?)
    }
}

fn added_schema() -> SchemaRef {
    let texts = TEXTS.map(|name| text_field(name, false)).into_iter();
    let others = LISTS.map(texts_field).into_iter().chain(NUMBERS.map(|name| u32_field(name, false)));
    table::schema(texts.chain(others).chain([Field::new("parse_error", DataType::Boolean, false)]).collect())
}

/// A function with the text that makes it parse, and its scope: a text that starts with `<?` is a PHP file.
pub fn source_of<'a>(language: Language, code: &'a str, config: &Config) -> (Cow<'a, str>, Scope) {
    let source = match config.added_nodes.get(&language) {
        Some((before, after)) => Cow::Owned(format!("{before}{code}{after}")),
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

/// Appends the code tokens, with identifiers split into words: the predecessor's `use_subtokens` and `mark_subtoken_end`.
fn append_subtokens<'a>(list: &mut ListBuilder<StringBuilder>, tokens: impl Iterator<Item = &'a str>, config: &Config) {
    let mut words = Vec::new();
    let mut left = config.max_words;
    for token in tokens {
        words.clear();
        if token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            words::subtokens(token, &mut words);
        }
        let is_split = !words.is_empty();
        if !is_split {
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
