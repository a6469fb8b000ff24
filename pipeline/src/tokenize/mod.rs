//! `tokenize`: words to ids, for the code, the query and the func-name variants.

mod words;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow};
use arrow::{
    array::{ArrayRef, ListBuilder, RecordBatch, UInt32Builder},
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Artifact, CodeText, Language, Report, Rows, Run, Stage, Syntax, TokenCount, Tokens, Vocabulary,
    table::{self, TableWriter, ids_field, text_field},
};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

pub use words::{Encoded, Words};

/// The stage.
#[derive(Debug)]
pub struct Tokenize;

/// Section `tokenize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub code_text: CodeText,
    /// Ids a row, at most; the prefix that training puts before them comes on top.
    pub code_tokens: usize,
    pub query_tokens: usize,
    /// A shorter function name makes no func-name variant (the row itself stays).
    pub min_name_chars: usize,
}

/// Token counts after truncation, and how many rows were cut.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TokenizeReport {
    pub rows: u64,
    pub code_tokens: TokenCount,
    pub query_tokens: TokenCount,
    pub code_truncated: u64,
    pub with_query: u64,
    pub languages: BTreeMap<Language, Fit>,
}

/// How well the vocabulary fits the code of a language.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Fit {
    pub rows: u64,
    /// Words that were encoded and ids that they gave: their quotient is the fertility (Ács, "Exploring BERT's
    /// vocabulary", 2019).
    pub words: u64,
    pub ids: u64,
    pub unknown: u64,
    pub truncated: u64,
}

impl Fit {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.words += other.words;
        self.ids += other.ids;
        self.unknown += other.unknown;
        self.truncated += other.truncated;
    }
}

impl Report for TokenizeReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.rows, rejected: 0 }
    }
}

const COLUMNS: [&str; 6] = ["id", "language", "func_name", "name_words", "code_words", "query_words"];

fn schema() -> SchemaRef {
    table::schema(vec![
        text_field("id", false),
        text_field("language", false),
        ids_field("query"),
        ids_field("code"),
        ids_field("name"),
        ids_field("code_unnamed"),
    ])
}

impl Stage for Tokenize {
    const NAME: &'static str = "tokenize";
    const ABOUT: &'static str = "Convert words to token ids";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Vocabulary>);
    type Output = Tokens;
    type Report = TokenizeReport;
    type Error = anyhow::Error;

    fn run(config: &Config, (syntax, vocabulary): &Self::Inputs, run: &Run<'_>) -> Result<TokenizeReport> {
        let tokenizer = load(&vocabulary.open()?.tokenizer)?;
        let reports = run.map_shards("tokenize", syntax, &syntax.open()?.shards, |shard, _, target, bar| {
            let mut report = TokenizeReport::default();
            let mut writer = TableWriter::create(target, schema())?;
            let mut words = Words::new(&tokenizer);
            let columns = [&COLUMNS[..], &[config.code_text.token_column()]].concat();
            for batch in table::read(&shard.path, &columns)? {
                let batch = tokenize_batch(&batch?, &mut words, config, &mut report)?;
                bar.add(batch.num_rows() as u64);
                writer.write(&batch)?;
            }
            writer.finish()?;
            Ok(report)
        })?;
        Ok(reports.into_iter().fold(TokenizeReport::default(), |mut total, report| {
            total.rows += report.rows;
            total.code_tokens.0 += report.code_tokens.0;
            total.query_tokens.0 += report.query_tokens.0;
            total.code_truncated += report.code_truncated;
            total.with_query += report.with_query;
            report.languages.into_iter().for_each(|(language, fit)| total.languages.entry(language).or_default().add(fit));
            total
        }))
    }
}

/// Loads a `tokenizer.json`.
pub fn load(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|error| anyhow!("{error}")).with_context(|| format!("loading {}", path.display()))
}

/// Ids of a batch of rows: a pure function of the batch.
pub fn tokenize_batch(batch: &RecordBatch, encoder: &mut Words<'_>, config: &Config, report: &mut TokenizeReport) -> Result<RecordBatch> {
    let text = |name: &str| table::texts(batch, name);
    let (func_names, names, codes, queries) = (text("func_name")?, text("name_words")?, text("code_words")?, text("query_words")?);
    let languages = text("language")?;
    let tokens = table::text_lists(batch, config.code_text.token_column())?;
    let item = || Field::new_list_field(DataType::UInt32, false);
    let mut columns = [(); 4].map(|()| ListBuilder::new(UInt32Builder::new()).with_field(item()));
    for row in 0..batch.num_rows() {
        let query = encoder.encode(queries.value(row), config.query_tokens)?.ids;
        let full = config.code_text.of_row(names.value(row), "", codes.value(row), tokens.row(row));
        let code = encoder.encode(&full, config.code_tokens)?;
        let is_named = func_names.value(row).chars().count() >= config.min_name_chars;
        let (name, unnamed) = if is_named {
            let masked = mask_name(config.code_text, encoder.mask(), func_names.value(row), codes.value(row), &full);
            (encoder.encode(names.value(row), config.query_tokens)?.ids, encoder.encode(&masked, config.code_tokens)?.ids)
        } else {
            (Vec::new(), Vec::new())
        };
        report.rows += 1;
        report.code_tokens.0 += code.ids.len() as u64;
        report.query_tokens.0 += query.len() as u64;
        report.code_truncated += u64::from(code.is_cut);
        report.with_query += u64::from(!query.is_empty());
        let fit = Fit { rows: 1, words: code.words, ids: code.ids_of_words, unknown: code.unknown, truncated: u64::from(code.is_cut) };
        report.languages.entry(languages.value(row).parse()?).or_default().add(fit);
        for (builder, ids) in columns.iter_mut().zip([query, code.ids, name, unnamed]) {
            builder.values().append_slice(&ids);
            builder.append(true);
        }
    }
    let mut arrays: Vec<ArrayRef> = ["id", "language"]
        .map(|name| batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`")))
        .into_iter()
        .collect::<Result<_>>()?;
    arrays.extend(columns.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    Ok(RecordBatch::try_new(schema(), arrays)?)
}

/// The code with the function's name replaced by `mask`, so that the name is no give-away when it
/// is the query.
fn mask_name(kind: CodeText, mask: &str, func_name: &str, code_words: &str, full: &str) -> String {
    let own = func_name.rsplit(['.', ':']).next().unwrap_or(func_name);
    match kind {
        CodeText::Words => format!("{mask} {}", mask_words(mask, own, code_words)),
        CodeText::Subtokens | CodeText::Structure => mask_words(mask, own, full),
        CodeText::Tokens | CodeText::Ast => {
            full.split(' ').map(|token| if token == own { mask } else { token }).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The words of a name, where they stand one after the other.
fn mask_words(mask: &str, name: &str, text: &str) -> String {
    let mut words = Vec::new();
    ledger::words::subtokens(name, &mut words);
    let all: Vec<&str> = text.split(' ').collect();
    let mut masked = Vec::with_capacity(all.len());
    let mut place = 0;
    while place < all.len() {
        let is_name = !words.is_empty() && all[place..].len() >= words.len() && words.iter().eq(&all[place..place + words.len()]);
        masked.push(if is_name { mask } else { all[place] });
        place += if is_name { words.len() } else { 1 };
    }
    masked.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_masked_in_every_text() {
        let masked = mask_name(CodeText::Words, "<unk>", "Loader.read_jsonl", "def read jsonl path return read jsonl read jsonl", "");
        assert_eq!(masked, "<unk> def <unk> path return <unk> <unk>");
        let masked = mask_name(CodeText::Tokens, "<unk>", "Loader.read", "", "def read ( path )");
        assert_eq!(masked, "def <unk> ( path )");
        let masked = mask_name(CodeText::Subtokens, "[UNK]", "Loader.readJsonl", "", "def read jsonl </id> ( read )");
        assert_eq!(masked, "def [UNK] </id> ( read )");
    }
}
